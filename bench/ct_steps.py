"""Preprocessing steps against the plain call of the library that a researcher would take, on one slice-by-slice study, in turns.

python -m bench.ct_steps [--repeats N] [--slices N] [--smoke]

Each line is one filter: processor seconds per slice of 512 x 512, and the ratio within each turn. Library calls get the same parameters as
our defaults. The last table is `harmonise`, which no library has: its two parts, a slice and a study.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from scipy import ndimage, signal
from skimage.exposure import equalize_adapthist
from skimage.restoration import denoise_bilateral, denoise_nl_means

from bench.timing import against, heading, ratios, spread, table
from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.preprocessing import STEPS
from client.preprocessing.sharpness import measure_sharpness

GOAL = 1.0


def chest(slices: int, rows: int, seed: int = 0) -> np.ndarray:
    """Two textured lungs in soft tissue with noise, whole HU as a scanner stores them."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :rows] / rows
    lungs = np.minimum(np.hypot((y - 0.5) / 1.5, x - 0.28), np.hypot((y - 0.5) / 1.5, x - 0.72)) < 0.18
    texture = ndimage.gaussian_filter(rng.normal(0, 1, (slices, rows, rows)), (0, 3, 3))
    hu = np.where(lungs, -840 + 120 * texture / texture.std(), 40) + rng.normal(0, 20, texture.shape)
    hu[:, np.hypot(y - 0.5, x - 0.5) > 0.48] = -1000
    return np.rint(hu).astype(np.float32)


def plain_window(plane: np.ndarray) -> np.ndarray:
    return np.clip((plane + 1350) / 1500, 0, 1)


PLAIN: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "bilateral": (
        "skimage denoise_bilateral",
        lambda p: denoise_bilateral((p + 1100) / 2000, win_size=5, sigma_color=60 / 2000, sigma_spatial=1.5),
    ),
    "clahe": ("skimage equalize_adapthist", lambda p: equalize_adapthist(plain_window(p))),
    "median": ("scipy median_filter", lambda p: ndimage.median_filter(p, 3)),
    "non_local_means": ("skimage, the same call", lambda p: denoise_nl_means(p, patch_size=5, patch_distance=5, h=20, sigma=25)),
    "wiener": ("scipy signal.wiener", lambda p: signal.wiener(p, 5)),
    "window": ("numpy", lambda p: 255 * plain_window(p)),
}
"""Step to the name and the call of what stands in its place."""


def seconds(call: Callable[[], object]) -> float:
    """Return the processor seconds of a call: what else the machine does hardly counts."""
    began = time.process_time()
    call()
    return time.process_time() - began


def compare(study: Prepared, repeats: int) -> None:
    """Time every step that a library also has, in turns with the library's own call."""
    rows = []
    planes = list(study.volume.hu)
    for name, (label, plain) in PLAIN.items():
        ours, theirs = [], []
        for turn in range(-1, repeats):  # turn -1 warms imports and memory
            took = seconds(lambda name=name: STEPS[name](study)), seconds(lambda plain=plain: [plain(plane) for plane in planes])
            if turn >= 0:
                ours.append(took[0] / len(planes))
                theirs.append(took[1] / len(planes))
        quotient = ratios(ours, theirs)
        rows.append(
            (name, label, spread([1e3 * s for s in ours], 1), spread([1e3 * s for s in theirs], 1), spread(quotient), against(GOAL, quotient))
        )
    table(("step", "against", "ours, ms a slice", "theirs, ms a slice", "ours / theirs", "goal"), rows)


def alone(study: Prepared, repeats: int) -> None:
    """Time the steps that stand alone, and both parts of `harmonise`."""
    calls: dict[str, tuple[Callable[[], object], int]] = {
        name: (lambda name=name: STEPS[name](study), len(study.volume.hu)) for name in ("anisotropic_diffusion", "switching_median", "harmonise")
    }
    calls["measuring sharpness (once a study)"] = (lambda: measure_sharpness(study.volume), 1)
    found = {name: [seconds(call) / parts for _ in range(repeats)] for name, (call, parts) in calls.items()}
    table(("step", "ms a slice"), [(name, spread([1e3 * s for s in times], 1)) for name, times in found.items()])


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--slices", type=int, default=12)
    parser.add_argument("--smoke", action="store_true", help="small and once: does it run at all?")
    options = parser.parse_args()
    heading("preprocessing steps, processor time in one process: median (range)")
    slices, rows, repeats = (3, 192, 1) if options.smoke else (options.slices, 512, options.repeats)
    study = Prepared(Volume(chest(slices, rows), (1.0, 340 / rows, 340 / rows)))
    compare(study, repeats)
    alone(study, repeats)


if __name__ == "__main__":
    main()
