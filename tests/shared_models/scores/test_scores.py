"""Every clinical score: values by hand at each boundary, what is missing, what cannot be."""

import itertools

import pytest

from shared_models.core.errors import BadChoice, BadInput
from shared_models.scores import SCORES, score_of
from shared_models.scores.gap import GAP_STAGES, ILD_GAP_STAGES, SUBTYPES
from shared_models.scores.ppf import RADIOLOGY, ppf_status

WELL = {"sex": "F", "age": 50, "fvc_percent": 100, "dlco_percent": 100, "fev1_percent": 100, "extent_percent": 0, "subtype": "IPF"}


@pytest.mark.parametrize("name", SCORES)
def test_a_score_says_what_it_lacks(name):
    spec = SCORES[name]
    for lacking in spec.needs:
        scored = score_of(name, {**WELL, lacking: None})
        assert scored.missing == (lacking,) and scored.value is None and scored.stage is None and not scored.risk
    assert score_of(name, {}).missing == spec.needs
    assert score_of(name, WELL).inputs == {need: WELL[need] for need in spec.needs}


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("wrong", ["70", float("nan"), -1, 1e6, True])
def test_a_score_refuses_what_cannot_be(name, wrong):
    numbers = [need for need in SCORES[name].needs if need not in ("sex", "subtype")]
    for need in numbers:
        with pytest.raises(BadInput):
            score_of(name, {**WELL, need: wrong})


def test_no_such_score():
    with pytest.raises(BadChoice):
        score_of("apache", WELL)


@pytest.mark.parametrize(
    ("change", "points"),
    [
        ({}, 0),
        ({"sex": "M"}, 1),
        ({"age": 60}, 0),
        ({"age": 60.1}, 1),
        ({"age": 61}, 1),
        ({"age": 65}, 1),
        ({"age": 66}, 2),
        ({"fvc_percent": 75.1}, 0),
        ({"fvc_percent": 75}, 1),
        ({"fvc_percent": 50}, 1),
        ({"fvc_percent": 49.9}, 2),
        ({"dlco_percent": 55.1}, 0),
        ({"dlco_percent": 55}, 1),
        ({"dlco_percent": 36}, 1),
        ({"dlco_percent": 35}, 2),
        ({"dlco_percent": "cannot"}, 3),
        ({"sex": "M", "age": 80, "fvc_percent": 40, "dlco_percent": "cannot"}, 8),
    ],
)
def test_gap_points(change, points):
    assert score_of("gap", {**WELL, **change}).value == points


def test_gap_stages_cover_all_sums_and_rise():
    for stages in (GAP_STAGES, ILD_GAP_STAGES):
        for (a, _, low), (b, _, high) in itertools.pairwise(stages):
            assert a < b and all(low[year] < high[year] for year in low)
        assert all(list(risk.values()) == sorted(risk.values()) for _, _, risk in stages)
    worst = {"sex": "M", "age": 80, "fvc_percent": 40, "dlco_percent": "cannot"}
    assert [score_of("gap", {**WELL, **dict(itertools.islice(worst.items(), n))}).stage for n in range(5)] == ["I", "I", "I", "II", "III"]


def test_ild_gap_is_gap_with_the_subtype_and_never_negative():
    ill = {**WELL, "sex": "M", "age": 70, "fvc_percent": 60, "dlco_percent": 30}
    for subtype, points in SUBTYPES.items():
        assert score_of("ild_gap", {**ill, "subtype": subtype}).value == score_of("gap", ill).value + points
    assert score_of("ild_gap", {**WELL, "subtype": "iNSIP"}).value == 0
    with pytest.raises(BadInput, match="subtype"):
        score_of("ild_gap", {**WELL, "subtype": "asthma"})


@pytest.mark.parametrize(
    ("extent", "fvc", "stage"),
    [(9.9, 50, "limited"), (10, 69.9, "extensive"), (10, 70, "limited"), (30, 69, "extensive"), (30, 70, "limited"), (30.1, 100, "extensive")],
)
def test_goh(extent, fvc, stage):
    assert score_of("goh", {"extent_percent": extent, "fvc_percent": fvc}).stage == stage


def visit(years, fvc=None, dlco=None, worse=None, signs=None):
    return {"years": years, "fvc_percent": fvc, "dlco_percent": dlco, "worse_symptoms": worse, "radiology": signs}


@pytest.mark.parametrize(
    ("visits", "status"),
    [
        ([visit(0, 80, 60), visit(1, 75, 60, True, ())], "met"),
        ([visit(0, 80, 60), visit(1, 75.1, 50.1, True, ())], "not met"),
        ([visit(0, 80, 60), visit(1, 80, 50, False, RADIOLOGY[:1])], "met"),
        ([visit(0, 80, 60), visit(1, 80, 60, True, RADIOLOGY[-1:])], "met"),
        ([visit(0, 80, 60), visit(1, 80, 60, True, None)], "insufficient data"),
        ([visit(0, 80, None), visit(1, 80, None, False, ())], "not met"),  # physiology alone is one of three
        ([visit(0, 80, None), visit(1, 80, None, True, ())], "insufficient data"),
        ([visit(0, 80, 60), visit(1.5, 60, 40, True, RADIOLOGY)], "insufficient data"),  # no two visits within a year
        ([visit(0, 80, 60), visit(0.5, 77, 60, False, ()), visit(1, 74, 60, True, ())], "met"),  # the first and the last
        ([visit(0, 80, 60), visit(0.8, 80, 60, True, ()), visit(1.6, 74, 60, False, ())], "not met"),  # each criterion in another year
        ([visit(0, 80, 60)], "insufficient data"),
        ([], "insufficient data"),
    ],
)
def test_progression(visits, status):
    for order in (visits, visits[::-1]):
        found = ppf_status(order)
        assert found.status == status
        assert (sum(v is True for v in found.criteria.values()) >= 2) == (status == "met")


def test_progression_refuses_what_it_is_not_said_of():
    for wrong in ({"fibrotic": False}, {"ipf": True}):
        with pytest.raises(BadInput):
            ppf_status([visit(0), visit(1)], **wrong)
    with pytest.raises(BadInput, match="different times"):
        ppf_status([visit(0), visit(0)])
    with pytest.raises(BadInput, match="sign"):
        ppf_status([visit(0), visit(0.5, signs=["cough"])])


def test_more_knowledge_never_turns_met_into_not_met():
    choices = (None, True, False)
    for worse, signs in itertools.product(choices, choices):
        known = ppf_status([visit(0, 80, 60), visit(1, 74, 60, worse, None if signs is None else RADIOLOGY[: int(signs)])]).status
        assert known == ("met" if worse or signs else "insufficient data" if worse is None or signs is None else "not met")
