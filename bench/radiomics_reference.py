"""What pyradiomics makes of one array, family by family: the reference's side of `bench.radiomics`. Needs numpy, SimpleITK and pyradiomics only.

python radiomics_reference.py ARRAY.npz: reads one family's name a line, answers {"seconds", "values"} as one line of JSON each.
"""

from __future__ import annotations

import json
import logging
import sys
import time

import numpy as np

FAMILIES = ("firstorder", "shape", "glcm", "glrlm", "glszm", "gldm", "ngtdm")


def measured(family: str, hu, mask, spacing_mm, *, bin_width_hu: float = 25.0, flat: bool = False) -> dict[str, float]:
    """Return a family's features of an array."""
    return describe(family, *images(hu, mask, spacing_mm), bin_width_hu=bin_width_hu, flat=flat)


def images(hu, mask, spacing_mm):
    """Return image and mask as SimpleITK's, cut to the mask's box as pyradiomics itself would."""
    import SimpleITK

    box = tuple(slice(int(found.min()), int(found.max()) + 1) for found in np.nonzero(mask))
    out = []
    for array in (hu[box].astype(np.float32), mask[box].astype(np.uint8)):
        image = SimpleITK.GetImageFromArray(array)
        image.SetSpacing(tuple(float(step) for step in spacing_mm[::-1]))
        out.append(image)
    return tuple(out)


def describe(family: str, image, mask, *, bin_width_hu: float, flat: bool) -> dict[str, float]:
    from radiomics import firstorder, glcm, gldm, glrlm, glszm, ngtdm, shape

    logging.getLogger("radiomics").setLevel(logging.CRITICAL)
    classes = {
        "firstorder": firstorder.RadiomicsFirstOrder,
        "shape": shape.RadiomicsShape,
        "glcm": glcm.RadiomicsGLCM,
        "glrlm": glrlm.RadiomicsGLRLM,
        "glszm": glszm.RadiomicsGLSZM,
        "gldm": gldm.RadiomicsGLDM,
        "ngtdm": ngtdm.RadiomicsNGTDM,
    }
    found = classes[family](image, mask, binWidth=bin_width_hu, force2D=flat).execute()
    return {name: float(value) for name, value in found.items()}


def main() -> None:
    with np.load(sys.argv[1], allow_pickle=False) as saved:
        pair = images(saved["hu"], saved["mask"], saved["spacing_mm"].tolist())
    describe("firstorder", *pair, bin_width_hu=25.0, flat=False)  # imports are nobody's work
    for line in sys.stdin:
        began = time.perf_counter()
        values = describe(line.strip(), *pair, bin_width_hu=25.0, flat=False)
        print(json.dumps({"seconds": time.perf_counter() - began, "values": values}), flush=True)


if __name__ == "__main__":
    main()
