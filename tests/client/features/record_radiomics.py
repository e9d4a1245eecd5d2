"""Record what pyradiomics gives for the arrays of `radiomics_cases`; run once, by hand, in an environment that has pyradiomics:

python -m venv reference && reference/bin/pip install pyradiomics-bhklab==3.1.4 SimpleITK
PYTHONPATH=. reference/bin/python -m tests.client.features.record_radiomics > tests/client/features/radiomics_golden.json
"""

from __future__ import annotations

import json

from bench.radiomics_reference import FAMILIES, measured
from tests.client.features.radiomics_cases import cases


def recorded() -> dict[str, dict[str, float]]:
    out = {}
    for case in cases():
        found = {}
        for family in FAMILIES:
            values = measured(family, case.hu, case.mask, case.spacing_mm, bin_width_hu=case.bin_width_hu, flat=case.flat)
            found |= {f"original_{family}_{name}": value for name, value in values.items()}
        out[case.name] = found
    return out


if __name__ == "__main__":
    print(json.dumps({"made by": "pyradiomics-bhklab 3.1.4; see record_radiomics.py", "cases": recorded()}, indent=1, sort_keys=True))
