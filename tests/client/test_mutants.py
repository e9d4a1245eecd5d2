"""A few byte-flip mutants of real slices; ``python -m tests.client.mutants --count 2000`` runs them all."""

from __future__ import annotations

from client.dicom import tags
from tests.client.mutants import MAX_S, run
from tests.client.real_data import needs_real_data


@needs_real_data
def test_no_mutant_crashes_or_hangs() -> None:
    ends, slowest = run(150, 1)
    assert sum(ends.values()) == 150 and slowest <= MAX_S
    assert set(ends) <= {"accepted", *tags.SKIPPED, *tags.QUARANTINED}
    assert ends["accepted"] >= 40 and len(ends) >= 4  # the mutants reach the pixels, and they are faults of many kinds
