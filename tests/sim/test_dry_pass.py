"""A network that cannot take an experiment's records is named before any site is asked."""

from __future__ import annotations

import pytest

from sim.check import faults
from sim.dry_pass import size_fault
from sim.experiments import find


def test_a_volume_that_is_halved_away_is_refused() -> None:
    found = faults(find("ssc_mortality_densenet", ["inputs.shape_zyx=[16,24,24]"]))
    assert found and found[0].startswith("inputs.shape_zyx: (16, 24, 24) does not pass through 'densenet121'")


@pytest.mark.parametrize("name", ["ssc_mortality_densenet", "heart_disease", "fibrosis"])
def test_what_fits_or_is_no_image_is_not_refused(name: str) -> None:
    assert size_fault(find(name, [])) is None
