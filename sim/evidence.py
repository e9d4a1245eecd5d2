"""Evidence for the report: sample slices with lung mask and planted disease, and the facts of the run."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tomli_w

from server.phases import strategy_in_words
from server.runs.stopping import told_of_release
from shared_models.core.files import read_json, read_state, write_json

if TYPE_CHECKING:
    from sim.run import Run

LUNG_WINDOW = (-1350.0, 150.0)
PATTERN_COLOURS = {1: "#4c9be8", 2: "#f2a541", 3: "#e4572e", 4: "#8e6bbf", 5: "#5fb49c", 6: "#e8d24c", 7: "#b0c94f"}
PATTERN_NAMES = {
    1: "ground glass",
    2: "reticulation",
    3: "honeycombing",
    4: "consolidation",
    5: "emphysema",
    6: "micronodules",
    7: "ground glass + reticulation",
}


def draw_pictures(run: Run, hospitals: list[Path]) -> None:
    """Write one picture a class: a slice, the lung mask that the client made, and the disease that was planted."""
    folder = run.out / "pictures"
    folder.mkdir(exist_ok=True)
    index = []
    for site in hospitals:
        if not (site.parent / "dicom").exists():  # a hospital of tables
            continue
        truth = read_json(run.out / "truth" / site.parent.name / "truth.json")
        seen: set[str] = set()
        for visit in truth["visits"]:
            if visit["class"] in seen or (run.experiment.data.target != "survival" and visit["class"] not in run.experiment.data.classes):
                continue
            seen.add(visit["class"])
            name = f"{site.parent.name}-{visit['class']}.png"
            hu, lung, labels, spacing = _study(run, site, visit)
            index.append({"file": name, **_draw(folder / name, hu, lung, labels, spacing, visit["class"], site.parent.name)})
    write_json(folder / "index.json", index)


def _study(run: Run, site: Path, visit: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[float, float, float]]:
    from client.dicom.header import read_headers
    from client.dicom.read import read_series
    from client.dicom.scan import group, list_files
    from client.segmentation import SEGMENTERS
    from shared_models.core.choices import pick

    files = list_files(site.parent / "dicom" / visit["patient_id"])
    series, _ = group(read_headers(files))
    own = [one for one in series if one.slices[0].study_date == visit["study_date"]]  # a patient may have come more than once
    reading = max((read_series(one) for one in own), key=lambda found: len(found.volume.hu))
    lung = pick(SEGMENTERS, run.experiment.preparation.segmenter, kind="segmenter")(reading.volume)
    with np.load(run.out / "truth" / site.parent.name / f"{visit['patient_id']}-{visit['study_date']}.npz", allow_pickle=False) as planted:
        labels = planted["labels"][::-1]  # the truth runs from head to feet, a read volume from feet to head
    return reading.volume.hu, lung, labels if labels.shape == lung.shape else np.zeros_like(lung), reading.volume.spacing_mm


def _draw(
    path: Path, hu: np.ndarray, lung: np.ndarray, labels: np.ndarray, spacing: tuple[float, float, float], klass: str, hospital: str
) -> dict[str, str]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    amount = ((labels > 0) & (lung > 0)).sum((1, 2)) if labels.any() else (lung > 0).sum((1, 2))
    z = int(amount.argmax())
    x = int(((labels > 0).any(0) if labels.any() else (lung > 0).any(0)).sum(0).argmax())
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.3), facecolor="black", width_ratios=(1, 1, 0.72))
    panes = (
        (hu[z], lung[z], None, spacing[1] / spacing[2]),
        (hu[z], None, labels[z], spacing[1] / spacing[2]),
        (hu[::-1, :, x], None, labels[::-1, :, x], spacing[0] / spacing[1]),
    )
    colours = ListedColormap([PATTERN_COLOURS[k] for k in sorted(PATTERN_COLOURS)])
    for axis, (image, mask, planted, aspect) in zip(axes, panes, strict=True):
        axis.imshow(image, cmap="gray", vmin=LUNG_WINDOW[0], vmax=LUNG_WINDOW[1], aspect=aspect)
        if mask is not None and (mask > 0).any():
            axis.contour(mask > 0, levels=[0.5], colors="#35d0ba", linewidths=0.8)
        if planted is not None and (planted > 0).any():
            axis.imshow(np.ma.masked_equal(planted, 0), cmap=colours, vmin=1, vmax=7, alpha=0.45, aspect=aspect, interpolation="nearest")
        axis.set_axis_off()
    present = [k for k in sorted(PATTERN_NAMES) if (labels == k).any()]
    if present:
        patches = [Patch(color=PATTERN_COLOURS[k], label=PATTERN_NAMES[k]) for k in present]
        figure.legend(handles=patches, loc="lower center", ncol=4, fontsize=8, frameon=False, labelcolor="white")
    figure.subplots_adjust(0, 0.09, 1, 1, 0.01, 0)
    figure.savefig(path, dpi=80)
    plt.close(figure)
    shares = (
        ", ".join(f"{PATTERN_NAMES[k]} {100 * ((labels == k) & (lung > 0)).sum() / max((lung > 0).sum(), 1):.0f} %" for k in present) or "no disease"
    )
    return {
        "title": f"{klass} at {hospital}",
        "caption": f"Left: slice with the lung mask made by the client. Middle and right: planted disease ({shares} of the lung mask).",
    }


def run_facts(run: Run, training: list[Path], held_out: list[Path], steps: dict[str, int], *, bundle: str) -> dict[str, Any]:
    """Return what ran: versions, command, experiment, hospitals, steps, durations. Nothing names the machine or its user."""
    experiment, out = run.experiment, run.out
    command = read_json(out / "command.json")
    start = read_state(out / "federation" / "start.safetensors")
    settings = experiment.simulation or {}
    scanners = {h.get("name"): h.get("scanner", "") for h in settings.get("hospitals", ())}
    sites = []
    for role, members in (("trains", training), ("held out", held_out)):
        for site in members:
            cohort = read_json(site.parent / "workspace" / "cohort.json") if (site.parent / "workspace" / "cohort.json").exists() else {"cases": []}
            sites.append({"name": site.parent.name, "scanner": scanners.get(site.parent.name, ""), "cases": len(cohort["cases"]), "role": role})
    return {
        "command": " ".join(Path(word).name if os.sep in word else word for word in command["arguments"]),
        "start": command["started"],
        "backend": run.backend,
        "machine": {"cores": len(os.sched_getaffinity(0)), "processes": run.cores},
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("fedild", "flwr", "torch", "monai", "pydicom", "scikit-learn", "numpy")},
        "experiment": experiment.name,
        "toml": tomli_w.dumps(experiment.model_dump(mode="json", exclude_none=True)),
        "digest": experiment.digest,
        "strategy": strategy_in_words(experiment),
        "model": experiment.model.name,
        "parameters": int(sum(value.size for value in start.values())),
        "sites": sites,
        "steps": steps,
        "wall_s": run.clock.phases,
        "bundle": bundle,
        **({} if experiment.evaluation.folds and experiment.evaluation.fold is None else told_of_release(out / "federation", experiment)),
    }
