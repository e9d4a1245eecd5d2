"""What *works when* asks of the UIP detector: the figures of `sim/uip_checks`, computed once a run."""

from __future__ import annotations

from shared_models.core.files import read_json, write_json
from sim.uip_checks import figures_of
from sim.zoo.criteria import Criterion
from sim.zoo.ran import Ran


def uip(name: str, says: str, *, least: float | None = None, most: float | None = None) -> Criterion:
    """Ask a figure of `sim/uip_checks`; all of them are computed once."""

    def figure(ran: Ran) -> float | None:
        note = ran.folder / "uip.json"
        if not note.exists():
            write_json(note, figures_of(ran.folder, ran.experiment), durable=False)
        return read_json(note)[name]

    return Criterion(says, figure, least=least, most=most)


UIP = (
    uip("auroc", "AUROC, unseen patients", least=0.95),
    uip("attention", "honeycombing in the fifth of slices with most attention, share", least=0.6),
    uip("attention_best", "the same of slices chosen by the truth: no attention can do better"),
    uip("order", "change of a logit when slices change places", most=1e-5),
    uip("p_planted", "log-rank p of those called positive, mortality planted by honeycombing", most=0.01),
    uip("p_null", "log-rank p where none is planted", least=0.05),
)
"""S12."""
