"""Quality of a series: a literal table of checks; their limits and where those come from stand in `limits`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from client.cases.finding import Finding
from client.cases.volume import Volume
from client.dicom.acquisition import Acquisition
from client.dicom.limits import LIMITS
from client.dicom.motion import best_move, step_changes, truncated_share
from shared_models.core.arrays import Mask

MOST_ASKED = 3
"""Steps between slices that are looked at for a shift: the largest."""


@dataclass(frozen=True)
class Subject:
    """What a check may look at: the native volume, the lung mask (None before segmentation), and the cleaned words of the header."""

    volume: Volume
    acquisition: Acquisition
    mask: Mask | None = None


def limit(name: str) -> float:
    """Return a limit of the table."""
    return LIMITS[name].value


def not_hu(subject: Subject) -> Finding | None:
    """Judge whether the numbers can be Hounsfield units: a chest holds lung or air below -700 and soft tissue between -200 and 300.

    Examples
    --------
    >>> raw = np.full((2, 8, 8), 1024, np.float32)
    >>> not_hu(Subject(Volume(raw, (1, 1, 1)), Acquisition())).code
    'NOT_HU'
    """
    sample = subject.volume.hu[:, ::4, ::4]
    seen = sample[sample > -1023.5]  # what is exactly -1024 may be padding
    if seen.size == 0:
        return Finding("NOT_HU", "error", "the image is empty")
    air, tissue = float((seen < -700).mean()), float(((seen > -200) & (seen < 300)).mean())
    if air >= limit("air") and tissue >= limit("tissue") and float(np.percentile(seen, 99)) < limit("brightest"):
        return None
    return Finding(
        "NOT_HU", "error", f"{air:.0%} of the pixels lie where air is and {tissue:.0%} where soft tissue is: these are no Hounsfield units"
    )


def thick_slices(subject: Subject) -> Finding | None:
    """Name slices that are too far apart for a 3-D model."""
    step = subject.volume.spacing_mm[0]
    if step <= limit("slice_step_3d"):
        return None
    return Finding(
        "THICK_SLICES", "warning", f"slices are {step:.1f} mm apart (at most {limit('slice_step_3d'):g} mm for volumes); use models of slices"
    )


def gapped(subject: Subject) -> Finding | None:
    """Name sequential HRCT: thin slices with unseen lung between them."""
    step, thickness = subject.volume.spacing_mm[0], subject.acquisition.thickness_mm
    if thickness is None or thickness <= 0 or step <= limit("gap_factor") * thickness:
        return None
    return Finding("GAPPED", "warning", f"{thickness:g} mm slices {step:.1f} mm apart: the lung between them was not imaged")


def short(subject: Subject) -> Finding | None:
    """Name series that are shorter than a lung."""
    length = subject.volume.hu.shape[0] * subject.volume.spacing_mm[0]
    if length >= limit("length"):
        return None
    return Finding("SHORT_SERIES", "warning", f"the series is {length:.0f} mm long (a lung needs about {limit('length'):g} mm)")


def padded(subject: Subject) -> Finding | None:
    """Name images that are mostly outside the field of view."""
    share = float((subject.volume.hu[:, ::4, ::4] <= -1024).mean())
    if share <= limit("padding"):
        return None
    return Finding("PADDED", "info", f"{share:.0%} of the pixels are padding")


def noisy(subject: Subject) -> Finding | None:
    """Name noise beyond routine scans."""
    noise = noise_hu(subject.volume)
    if not noise > limit("noise"):
        return None
    return Finding("NOISY", "warning", f"noise in soft tissue is about {noise:.0f} HU (at most {limit('noise'):g} HU)")


def sharp_kernel(subject: Subject) -> Finding | None:
    """Note an edge-enhancing kernel, which raises LAA-950 (5.4 % to 15.3 % from B30f to B50f, methods 2.4)."""
    if subject.acquisition.kernel_class != "sharp":
        return None
    return Finding("SHARP_KERNEL", "info", "an edge-enhancing kernel: low-attenuation areas are overestimated")


def few_slices(subject: Subject) -> Finding | None:
    """Name series with hardly enough slices to see a whole lung."""
    count = len(subject.volume.hu)
    if count >= limit("few_slices"):
        return None
    return Finding("FEW_SLICES", "warning", f"{count} slices (a lung needs about {limit('few_slices'):g})")


def contrast_agent(subject: Subject) -> Finding | None:
    """Note a contrast agent, which raises density; CT for interstitial disease is done without (Raghu et al., ATS/ERS/JRS/ALAT 2018)."""
    if not subject.acquisition.contrast:
        return None
    return Finding("CONTRAST", "info", "a contrast agent was given: densities are raised and not comparable")


def prone(subject: Subject) -> Finding | None:
    """Note any position but supine: dependent density lies elsewhere (methods, trap 19: prone and supine series mixed)."""
    position = subject.acquisition.position
    if position[2:] in ("", "S"):
        return None
    words = {"P": "prone", "DR": "on the right side", "DL": "on the left side"}[position[2:]]
    return Finding("PRONE", "info", f"the patient lay {words}; dependent density lies elsewhere than in supine scans")


def motion(subject: Subject) -> Finding | None:
    """Name a breath or shift between slices."""
    changes = step_changes(subject.volume)
    jump = max(changes.values(), default=0.0)
    if jump > limit("jump"):
        text = f"one slice step changes {jump:.1f} times as much as its neighbours (at most {limit('jump'):g}): the patient moved"
        return Finding("MOTION", "warning", text)
    asked = sorted((step for step, change in changes.items() if change >= limit("jump_asked")), key=lambda step: -changes[step])[:MOST_ASKED]
    factor, away_mm = max((best_move(subject.volume, step) for step in asked), default=(1.0, 0.0))
    if factor <= limit("shift"):
        return None
    return Finding("MOTION", "warning", f"one slice fits the one below {factor:.1f} times better when moved by {away_mm:.0f} mm: the patient moved")


def lung_volume(subject: Subject) -> Finding | None:
    """Name masks whose volume no lung has."""
    if subject.mask is None:
        return None
    litres = float((subject.mask > 0).sum()) * subject.volume.voxel_ml / 1000
    low, high = limit("lung_low"), limit("lung_high")
    if low <= litres <= high:
        return None
    return Finding("LUNG_VOLUME", "warning", f"the lung mask holds {litres:.1f} L (plausible: {low:g} to {high:g} L)")


def cut_off(subject: Subject) -> Finding | None:
    """Name lungs that reach the first or last slice: apex or base is outside the scan."""
    if subject.mask is None or len(subject.mask) < 2:
        return None
    area = (subject.mask > 0).sum(axis=(1, 2))
    ends = [name for name, value in (("base", area[0]), ("apex", area[-1])) if value > limit("cut_area") * area.max()]
    return Finding("CUT_OFF", "warning", f"the {' and the '.join(ends)} of the lung is outside the scan") if ends else None


def truncated_view(subject: Subject) -> Finding | None:
    """Name lungs that the field of view cuts off sideways."""
    share = truncated_share(subject.volume)
    if share <= limit("truncated"):
        return None
    return Finding("TRUNCATED_VIEW", "warning", f"in {share:.0%} of the slices lung meets the rim of the field of view: lung is missing beside it")


def one_sided(subject: Subject) -> Finding | None:
    """Name masks in which one lung has less than a tenth of the other."""
    if subject.mask is None:
        return None
    right, left = (int((subject.mask == side).sum()) for side in (1, 2))
    if min(right, left) >= limit("small_lung") * max(right, left):
        return None
    return Finding("ONE_SIDED", "warning", "one lung holds less than a tenth of the other: collapsed, removed, or missed by the mask")


CHECKS: dict[str, Callable[[Subject], Finding | None]] = {
    "NOT_HU": not_hu,
    "THICK_SLICES": thick_slices,
    "GAPPED": gapped,
    "SHORT_SERIES": short,
    "PADDED": padded,
    "NOISY": noisy,
    "SHARP_KERNEL": sharp_kernel,
    "FEW_SLICES": few_slices,
    "CONTRAST": contrast_agent,
    "PRONE": prone,
    "MOTION": motion,
    "TRUNCATED_VIEW": truncated_view,
}
"""Checks of the image alone, by the code of their finding."""

MASK_CHECKS: dict[str, Callable[[Subject], Finding | None]] = {
    "LUNG_VOLUME": lung_volume,
    "CUT_OFF": cut_off,
    "ONE_SIDED": one_sided,
}
"""Checks that need the lung mask."""


def check(subject: Subject) -> list[Finding]:
    """Return the findings of all checks that apply: of the image, and of the mask where there is one."""
    table = CHECKS if subject.mask is None else MASK_CHECKS
    return [finding for one in table.values() if (finding := one(subject)) is not None]


def noise_hu(volume: Volume) -> float:
    """Return the noise of soft tissue in HU: the lower quartile, over 5 x 5 patches of -20 to 100 HU in six slices, of their standard deviation.

    NaN where fewer than 20 patches hold soft tissue.

    Examples
    --------
    >>> flat = np.random.default_rng(0).normal(40, 10, (4, 60, 60)).astype(np.float32)
    >>> 7 < noise_hu(Volume(flat, (1, 1, 1))) < 11
    True
    """
    side = 5
    slices = volume.hu[:: max(1, -(-len(volume.hu) // 6))]
    rows, columns = (n // side * side for n in slices.shape[1:])
    blocks = slices[:, :rows, :columns].reshape(len(slices), rows // side, side, columns // side, side)
    centre = blocks[:, :, side // 2, :, side // 2]
    patches = blocks.transpose(0, 1, 3, 2, 4)[(centre > -150) & (centre < 250)].reshape(-1, side * side)
    mean, low, high = patches.mean(axis=1), patches.min(axis=1), patches.max(axis=1)
    soft = (mean > -20) & (mean < 100) & (low > -250) & (high < 350)
    if int(soft.sum()) < 20:
        return float("nan")
    return float(np.percentile(patches[soft].std(axis=1), 25))
