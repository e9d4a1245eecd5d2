"""What a finished run leaves: metrics as the sites released them, the bundle, the facts, the report. Run as a program by the supervisor."""

from __future__ import annotations

import platform
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from server.phases import strategy_in_words
from server.reports.report import write_report
from server.runs.drawn import drawn_facts
from server.runs.log import last_of_training, patients_of, read_rounds
from server.runs.record import seal_run
from server.runs.standing import degradation, read_standing
from server.runs.stopping import told_of_release
from server.runs.tracking import tell_final
from shared_models.bundle import write_bundle
from shared_models.calibrated import calibration_facts
from shared_models.catalogue import source_of
from shared_models.core.files import read_json, read_state, sha256_file, write_json
from shared_models.experiment import Experiment


def close_run(folder: Path) -> Path:
    """Write ``metrics.json``, ``bundle/``, the facts in ``run.json``, ``report.html`` and the signed record; return the report's path.

    Everything comes from what the sites' gates have released: the server has seen no patient.
    """
    experiment = Experiment.from_json((folder / "experiment.json").read_text(encoding="utf-8"))
    rounds = read_rounds(folder / "rounds.jsonl")
    strategy = strategy_in_words(experiment)
    metrics = {
        "experiment": experiment.name,
        "seed": experiment.seed,
        "classes": [] if experiment.data.target == "survival" else list(experiment.data.classes),
        "rounds": experiment.federation.rounds,
        "wall_s": {"rounds": round(sum(line["wall_s"] for line in rounds), 3)},
        "data": {"kind": "unknown", "note": "Each hospital judged the final model on patients of its own; only these figures left it."},
        "federated": {"sites": {site: _cells(found) for site, found in read_json(folder / "site_metrics.json").items()}},
        "headline": experiment.evaluation.headline,
    }
    write_json(folder / "metrics.json", metrics)
    state = read_state(folder / "final.safetensors")
    standing = {**read_standing(folder), **degradation(rounds)}
    digest = release(folder, experiment=experiment, rounds=rounds, strategy=strategy, standing=standing, metrics=metrics)
    latest = last_of_training(rounds).get("sites", {})
    facts = {
        "versions": {"python": platform.python_version()} | {name: version(name) for name in ("flwr", "numpy")},
        "toml": _toml(experiment),
        "experiment": experiment.name,
        "digest": experiment.digest,
        "strategy": strategy,
        "model": experiment.model.name,
        "parameters": int(sum(value.size for value in state.values())),
        "sites": [{**site, "cases": latest.get(site["name"], {}).get("num_cases") or None} for site in standing.get("sites", [])],
        "bundle": digest,
        **told_of_release(folder, experiment),
    }
    write_json(folder / "run.json", {**standing, **facts})
    report = write_report(folder)
    tell_final(folder, experiment, metrics)
    seal_run(folder)
    return report


def release(
    folder: Path, *, experiment: Experiment, rounds: list[dict[str, Any]], strategy: str, standing: dict[str, Any], metrics: dict[str, Any]
) -> str:
    """Write the bundle of a run's final model and return its digest. The card says which sites were missing, and when."""
    names = [site["name"] for site in standing.get("sites", [])]
    card = {
        "trained_on": "the patients of the hospitals named below; the server has seen none of them",
        "intended_use": "Research on federated learning. Nothing else.",
        "training": {
            "hospitals": ", ".join(names),
            "patients": patients_of(last) if (last := last_of_training(rounds)) else None,
            "rounds": len(rounds) or experiment.federation.rounds,
            **told_of_release(folder, experiment),
            "degraded": "yes" if standing["degraded"] else "no",
            "missing": "; ".join(f"{site} in {len(gone['rounds'])} rounds" for site, gone in standing["missing"].items()) or "none",
            "strategy": strategy,
            "secure_sum": "no" if experiment.federation.secure_sum is None else "yes: the server saw sums only",
        },
        "performance_by_the_hospitals_own_judgement": {
            f"{site} {name}": cell for site, cells in metrics["federated"]["sites"].items() for name, cell in cells.items()
        },
        **({"calibration": calibration_facts(experiment, read_state(folder / "final.safetensors"))} if experiment.calibration else {}),
        **drawn_facts(experiment, read_json(folder / "site_metrics.json")),
        "limits": ["Not validated for any clinical purpose."],
        "source": source_of(experiment.model, experiment.preparation.features),
        "weights_sha256": sha256_file(folder / "final.safetensors"),
    }
    shutil.rmtree(folder / "bundle", ignore_errors=True)
    return write_bundle(folder / "bundle", state=read_state(folder / "final.safetensors"), experiment=experiment, card=card)


def _cells(found: dict[str, float]) -> dict[str, float | None]:
    return {name.removeprefix("val_"): value for name, value in found.items() if name != "val_cases"}


def _toml(experiment: Experiment) -> str:
    import tomli_w

    return tomli_w.dumps(experiment.for_sites().model_dump(mode="json", exclude_none=True))


if __name__ == "__main__":
    close_run(Path(sys.argv[1]))
