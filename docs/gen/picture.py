"""The picture of a system: from a hospital's CT to what travels, as an SVG whose colours follow the page's."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from shared_models.blocks.spec import NETWORK_FITS, ModelSpec
from shared_models.catalogue import spec_in, spec_of
from shared_models.core.choices import Choice
from shared_models.experiment import Experiment
from shared_models.lora import lora_of
from sim.settings import Phantoms, simulation_of

ACROSS = 4
WIDTH, BOX, HEIGHT, GAP, EDGE = 800, 168, 92, 24, 28
CHARACTERS = 24
"""Letters of 12 pixels that a box holds in a line."""
ARROW = (
    '<defs><marker id="sp-arrow" viewBox="0 0 8 8" refX="3" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0 8 4 0 8z"/></marker></defs>'
)


@dataclass(frozen=True)
class Box:
    """One station of the way: what it is, and what it is here."""

    title: str
    words: str
    strong: bool = False


def stations(experiment: Experiment) -> list[Box]:
    """Return what happens to a study inside a hospital, in order."""
    spec, preparation, inputs = spec_in(experiment), experiment.preparation, experiment.inputs
    drawn = {"patterns": "and what readers have drawn", "lung": "and its lung mask"}.get(experiment.data.annotation or "", "")
    boxes = [Box("CT studies", f"DICOM, de-identified {drawn}".strip()), Box("lungs", preparation.segmenter.name)]
    if preparation.steps:
        boxes.append(Box("steps", _names(preparation.steps)))
    if spec.takes == "table":
        boxes.append(Box("features", f"{_names(preparation.features)}: {_count(len(inputs.columns), 'column')}"))
    else:
        boxes.append(Box("inputs", _seen(experiment, spec)))
    if experiment.statistics:
        boxes.append(Box("statistics", f"{_names(experiment.statistics)}, summed over the hospitals first"))
    boxes.append(Box("network" if spec.fit in NETWORK_FITS else "model", f"{experiment.model.name}{_knobs(experiment.model)}", strong=True))
    boxes.append(Box("answer", _answer(experiment)))
    if experiment.calibration:
        boxes.append(Box("calibration", f"{_names(experiment.calibration)}, from sums over held-out patients"))
    return boxes


def travels(experiment: Experiment) -> str:
    """Say what leaves a hospital in a round."""
    spec, lora = spec_of(experiment.model), lora_of(experiment.model)
    what = {
        "gradient": "weights of the network",
        "adversarial": "weights of all players",
        "sums": "sums over its patients, from which the server fits the very model of all patients together",
        "trees": "trees grown on its patients",
    }[spec.fit]
    if lora is not None:
        what = f"low-rank additions (rank {lora.rank}) and the head"
    elif any(stage.train_only for stage in experiment.stages or ()):
        what += ", in each stage those that it trains"
    if experiment.federation.secure_sum is not None:
        what += ", under masks: the server sees their sum alone"
    if experiment.privacy.unit != "none":
        what += f", with noise that hides each {experiment.privacy.unit}"
    return what


def serves(experiment: Experiment) -> str:
    """Say what the server does with it."""
    from server.strategies import DEFAULTS

    name = experiment.strategy.name if experiment.strategy else DEFAULTS[spec_of(experiment.model).fit]
    rounds = _count(experiment.federation.rounds, "round")
    stages = f" in {len(experiment.stages)} stages" if experiment.stages else ""
    settings = simulation_of(experiment)
    judged = f"; judged on {', '.join(settings.held_out)}, where nobody trained" if isinstance(settings, Phantoms) else ""
    return f"{name}, {rounds}{stages}, at least {experiment.federation.quorum} hospitals a round{judged}"


def picture(experiment: Experiment, *, label: str) -> str:
    """Return the picture as one line of HTML."""
    boxes = stations(experiment)
    rows = -(-len(boxes) // ACROSS)
    floor = 44 + rows * (HEIGHT + GAP) + 8
    parts = [f'<rect class="sp-house" x="8" y="8" width="{WIDTH - 16}" height="{floor - 8}" rx="10"/>', _text(24, 32, "at each hospital", "sp-place")]
    for number, box in enumerate(boxes):
        x, y = EDGE + number % ACROSS * (BOX + GAP), 44 + number // ACROSS * (HEIGHT + GAP)
        parts.append(_box(x, y, box))
        if number + 1 < len(boxes):
            last = number % ACROSS == ACROSS - 1
            middle = y + HEIGHT / 2
            if last:
                parts.append(
                    f'<path class="sp-way" d="M{x + BOX / 2} {y + HEIGHT} v{GAP / 2} H{EDGE + BOX / 2} v{GAP / 2 - 5}" marker-end="url(#sp-arrow)"/>'
                )
            else:
                parts.append(f'<path class="sp-way" d="M{x + BOX} {middle} h{GAP - 5}" marker-end="url(#sp-arrow)"/>')
    lines = textwrap.wrap(travels(experiment), 62)
    drop = 34 + 18 * len(lines)
    parts += [
        f'<path class="sp-way sp-out" d="M120 {floor} v{drop - 5}" marker-end="url(#sp-arrow)"/>',
        *(_text(140, floor + 28 + 18 * number, line, "sp-strong" if number == 0 else "sp-words") for number, line in enumerate(lines)),
        f'<path class="sp-way" d="M{WIDTH - 120} {floor + drop} v-{drop - 5}" marker-end="url(#sp-arrow)"/>',
        _text(WIDTH - 132, floor + 28, "the next model", "sp-words sp-end"),
    ]
    said = textwrap.wrap(serves(experiment), 100)
    height = 40 + 18 * len(said)
    parts += [
        f'<rect class="sp-box sp-server" x="8" y="{floor + drop}" width="{WIDTH - 16}" height="{height}" rx="10"/>',
        _text(24, floor + drop + 24, "at the server", "sp-place"),
        *(_text(24, floor + drop + 46 + 18 * number, line, "sp-words") for number, line in enumerate(said)),
    ]
    total = floor + drop + height + 8
    body = "".join(parts)
    return f'<div class="system-picture"><svg viewBox="0 0 {WIDTH} {total}" role="img"><title>{escape(label)}</title>{ARROW}{body}</svg></div>'


def _box(x: float, y: float, box: Box) -> str:
    lines = textwrap.wrap(box.words, CHARACTERS, break_on_hyphens=False)
    if len(lines) > 3:
        lines = [*lines[:2], f"{lines[2][: CHARACTERS - 2]} …"]
    middle = x + BOX / 2
    words = "".join(_text(middle, y + 44 + 16 * number, line, "sp-words sp-middle") for number, line in enumerate(lines))
    kind = "sp-box sp-model" if box.strong else "sp-box"
    title = _text(middle, y + 22, box.title, "sp-strong sp-middle")
    return f'<rect class="{kind}" x="{x}" y="{y}" width="{BOX}" height="{HEIGHT}" rx="6"/>{title}{words}'


def _text(x: float, y: float, words: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(words)}</text>'


def _names(choices: Sequence[Choice]) -> str:
    return ", ".join(choice.name for choice in choices)


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _seen(experiment: Experiment, spec: ModelSpec) -> str:
    inputs = experiment.inputs
    window = f"{inputs.window_hu[0]:g} to {inputs.window_hu[1]:g} HU".replace("-", "−")
    if spec.takes == "volume":
        return f"a volume of {' × '.join(map(str, inputs.shape_zyx))}, {window}"
    return f"{_count(inputs.slices, 'slice')} of {inputs.size} × {inputs.size}, {window}"


def _answer(experiment: Experiment) -> str:
    data = experiment.data
    if data.target == "survival":
        return f"risk by {', '.join(f'{end:g}' for end in data.horizons)} years" if data.intervals else "a hazard ratio"
    if data.target == "reconstruction":
        return "what was hidden of the image"
    names = ", ".join(data.classes)
    return {"segmentation": f"a class of every pixel: {names}", "findings": f"each of {len(data.classes)} findings"}.get(
        data.target, f"one of: {names}"
    )


def _knobs(choice: Choice) -> str:
    said = [f"{name} {value}" for name, value in choice.knobs.items() if isinstance(value, int | float | str) and not isinstance(value, bool)]
    return f": {', '.join(said)}" if said else ""
