"""Radiomics families: recorded reference values, arrays whose answer is known, and the slow obvious way against the fast one."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.features import FEATURES
from client.features.emphases import emphases, entries
from client.features.glcm import MEASURES, cooccurrences, describe_cooccurrence
from client.features.gldm import dependences
from client.features.glrlm import run_lengths
from client.features.glszm import zones
from client.features.grey_levels import GreyLevels, directions, discretised
from client.features.ngtdm import tone_differences
from client.features.shape import describe_shape
from client.features.surface import surface_and_volume
from shared_models.core.choices import knobs_of
from shared_models.core.errors import BadInput
from tests.client.features.radiomics_cases import Case, cases

GOLDEN = json.loads(Path(__file__).with_name("radiomics_golden.json").read_text())["cases"]
FAMILIES = ("first_order", "shape", "glcm", "glrlm", "glszm", "gldm", "ngtdm")


def study(hu: np.ndarray, mask: np.ndarray | None = None, spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Prepared:
    mask = np.ones(hu.shape, bool) if mask is None else mask
    return Prepared(Volume(hu.astype(np.float32), spacing_mm), mask.astype(np.uint8))


def measured(family: str, prepared: Prepared, **knobs: object) -> dict[str, float]:
    found = FEATURES[family](prepared, **{k: v for k, v in knobs.items() if k in knobs_of(FEATURES[family])})  # pyright: ignore[reportArgumentType]
    return {name.split("_", 2)[2]: value for name, value in found.items()}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", list(cases()), ids=lambda case: case.name)
def test_reference_values(case: Case, family: str) -> None:
    """107 features a case, recorded from pyradiomics; the goal is 1e-3, and they agree far closer."""
    found = FEATURES[family](
        study(case.hu, case.mask, case.spacing_mm),
        **{k: v for k, v in {"bin_width_hu": case.bin_width_hu, "force_2d": case.flat}.items() if k in knobs_of(FEATURES[family])},
    )
    prefix = f"original_{family.replace('_', '')}_"
    recorded = {name: value for name, value in GOLDEN[case.name].items() if name.startswith(prefix)}
    assert set(found) == set(recorded)
    for name, value in recorded.items():
        assert found[name] == pytest.approx(value, rel=1e-6, abs=1e-9), name


def test_the_reference_knows_107_features() -> None:
    assert {len(values) for values in GOLDEN.values()} == {107}


# arrays whose answer is known


def test_constant() -> None:
    cube = study(np.full((4, 4, 4), -800.0))
    found = {family: measured(family, cube) for family in FAMILIES}
    assert found["glcm"] | {"Contrast": 0, "JointEnergy": 1, "JointEntropy": 0, "Correlation": 1, "MCC": 1, "Imc1": 0, "Imc2": 0} == found["glcm"]
    assert found["glszm"]["LargeAreaEmphasis"] == 64**2 and found["glszm"]["ZonePercentage"] == 1 / 64
    assert found["ngtdm"] == {"Busyness": 0, "Coarseness": 1e6, "Complexity": 0, "Contrast": 0, "Strength": 0}
    assert found["first_order"] | {"Variance": 0, "Skewness": 0, "Kurtosis": 0, "Entropy": 0, "Uniformity": 1} == found["first_order"]
    corners, edges, faces, inner = 8 * 8**2, 24 * 12**2, 24 * 18**2, 8 * 27**2  # voxels by how many of the 27 lie inside
    assert found["gldm"]["LargeDependenceEmphasis"] == pytest.approx((corners + edges + faces + inner) / 64, abs=1e-9)


def test_checkerboard() -> None:
    board = study(np.indices((4, 4, 4)).sum(0) % 2 * 100.0 - 800)
    glcm = measured("glcm", board)
    # 3 axes and 4 space diagonals lead to the other colour, 4 levels away; 6 face diagonals stay
    assert glcm["Contrast"] == pytest.approx(16 * 7 / 13, abs=1e-9)
    assert glcm["Correlation"] == pytest.approx((6 - 7) / 13, abs=1e-9)
    assert glcm["MCC"] == pytest.approx(1.0, abs=1e-9)
    assert measured("glcm", board, force_2d=True)["Contrast"] == pytest.approx(16 * 2 / 4, abs=1e-9)
    glszm = measured("glszm", board)  # one zone a colour: face diagonals join
    assert glszm["LargeAreaEmphasis"] == 32**2 and glszm["ZonePercentage"] == 2 / 64
    assert measured("glszm", board, force_2d=True)["LargeAreaEmphasis"] == 8**2


def test_ramp() -> None:
    ramp = study(np.broadcast_to(np.arange(5) * 25.0, (3, 4, 5)))
    glcm, glrlm, first = measured("glcm", ramp), measured("glrlm", ramp), measured("first_order", ramp)
    assert glcm["Contrast"] == pytest.approx(9 / 13, abs=1e-9)  # 9 of 13 directions go along x, one level a step
    assert glcm["DifferenceAverage"] == pytest.approx(9 / 13, abs=1e-9)
    # the 4 directions across x: runs of 4 along y, 3 along z, and diagonals of the 3 x 4 face (2 of each length 1 and 2, 2 of 3 twice)
    diagonal = (2 * 1 + 2 * 4 + 2 * 9) / 6
    assert glrlm["LongRunEmphasis"] == pytest.approx((9 * 1 + 16 + 9 + 2 * diagonal) / 13, abs=1e-9)
    assert first["Variance"] == pytest.approx(625 * 2, abs=1e-9) and first["Kurtosis"] == pytest.approx(1.7, abs=1e-9)
    assert first["Entropy"] == pytest.approx(math.log2(5), abs=1e-9) and first["TotalEnergy"] == pytest.approx(12 * 625 * 30, abs=1e-6)


def test_single_voxel_and_nothing() -> None:
    hu, mask = np.full((3, 3, 3), -700.0), np.zeros((3, 3, 3), bool)
    for family in FAMILIES:
        assert all(math.isnan(value) for value in measured(family, study(hu, mask)).values()), family
    mask[1, 1, 1] = True
    lone = {family: measured(family, study(hu, mask)) for family in FAMILIES}
    assert all(math.isnan(value) for family in ("glcm", "glrlm") for value in lone[family].values())  # no direction
    assert lone["glszm"]["ZonePercentage"] == 1 and lone["gldm"]["SmallDependenceEmphasis"] == 1 and lone["first_order"]["Mean"] == -700
    assert lone["shape"]["MeshVolume"] == pytest.approx(1 / 6) and lone["shape"]["SurfaceArea"] == pytest.approx(math.sqrt(3))


def test_a_ball_is_a_ball() -> None:
    z, y, x = np.ogrid[-22:23, -22:23, -22:23]
    found = describe_shape(z**2 * 4 + y**2 + x**2 < 20.0**2, (2.0, 1.0, 1.0))
    assert found["MeshVolume"] == pytest.approx(4 / 3 * math.pi * 20**3, rel=0.015)
    assert found["Maximum3DDiameter"] == pytest.approx(40, abs=2) and found["Elongation"] == pytest.approx(1, abs=1e-3)
    # cubes cut at half height make steps: such a mesh stays some percent larger than its ball on any grid
    assert 1.0 <= found["SurfaceArea"] / (4 * math.pi * 20**2) < 1.12


def test_too_many_levels_are_refused() -> None:
    with pytest.raises(BadInput, match="1024 grey levels"):
        discretised(np.array([[[-1000.0, 30000.0]]], np.float32), np.ones((1, 1, 2), bool), 25.0)
    with pytest.raises(BadInput, match="grey levels"):
        discretised(np.array([[[-1000.0, np.nan]]], np.float32), np.ones((1, 1, 2), bool), 25.0)


def test_many_levels_need_wider_numbers() -> None:
    hu = np.random.default_rng(1).integers(-1000, 1000, (6, 6, 6)).astype(np.float32)
    grey = discretised(hu, np.ones(hu.shape, bool), 2.0)
    assert grey.grid.dtype == np.uint16 and grey.highest > 255
    assert Counter(map(int, dependences(grey, alpha=300))) == Counter(slow_dependences(levels_of(grey), False, 300))


# the slow, obvious way


@st.composite
def regions(draw: st.DrawFn) -> tuple[GreyLevels, bool]:
    shape = draw(st.tuples(*[st.integers(1, 4)] * 3))
    hu = draw(hnp.arrays(np.float32, shape, elements=st.sampled_from([-850.0, -825.0, -800.0, -700.0])))
    mask = draw(hnp.arrays(np.bool_, shape))
    mask.flat[draw(st.integers(0, mask.size - 1))] = True
    found = [np.flatnonzero(mask.any(axis=tuple(b for b in range(3) if b != a))) for a in range(3)]
    box = tuple(slice(f[0], f[-1] + 1) for f in found)
    return discretised(hu[box], mask[box], 25.0), draw(st.booleans())


def levels_of(grey: GreyLevels) -> dict[tuple[int, int, int], int]:
    return {(int(z), int(y), int(x)): int(grey.grid[z, y, x]) for z, y, x in np.argwhere(grey.grid)}


def moved(place: tuple[int, int, int], step: tuple[int, int, int], times: int = 1) -> tuple[int, int, int]:
    return (place[0] + times * step[0], place[1] + times * step[1], place[2] + times * step[2])


def neighbours(flat: bool) -> list[tuple[int, int, int]]:
    return [(z, y, x) for z, y, x in itertools.product((-1, 0, 1), repeat=3) if (z, y, x) != (0, 0, 0) and not (flat and z)]


def slow_dependences(levels: dict[tuple[int, int, int], int], flat: bool, alpha: int) -> list[int]:
    return [1 + sum(abs(levels.get(moved(p, d), 10**6) - level) <= alpha for d in neighbours(flat)) for p, level in levels.items()]


@settings(max_examples=60, deadline=None)
@given(regions())
def test_matrices_are_what_loops_count(region: tuple[GreyLevels, bool]) -> None:
    grey, flat = region
    levels = levels_of(grey)
    wanted_pairs, wanted_runs = [], []
    for step in directions(grey.grid.shape, flat=flat):
        pairs: Counter[tuple[int, int]] = Counter()
        runs: Counter[tuple[int, int]] = Counter()
        for place, level in levels.items():
            other = levels.get(moved(place, step))
            if other:
                pairs[level, other] += 1
                pairs[other, level] += 1
            if levels.get(moved(place, step, -1)) != level:
                length = next(n for n in itertools.count(1) if levels.get(moved(place, step, n)) != level)
                runs[level, length] += 1
        wanted_runs.append(runs)
        if pairs:
            wanted_pairs.append(pairs)
    found_pairs = [{(i + 1, j + 1): int(one[i, j]) for i, j in np.argwhere(one).tolist()} for one in cooccurrences(grey, force_2d=flat)]
    assert found_pairs == wanted_pairs
    found_runs = [{(int(i), int(j)): int(c) for i, j, c in zip(*one, strict=True)} for one in run_lengths(grey, force_2d=flat)]
    assert found_runs == wanted_runs

    wanted_zones = []
    left = set(levels)
    while left:
        queue, members = [left.pop()], 0
        level = levels[queue[0]]
        while queue:
            place = queue.pop()
            members += 1
            near = {moved(place, d) for d in neighbours(flat)}
            joined = {p for p in near & left if levels[p] == level}
            left -= joined
            queue += joined
        wanted_zones.append((level, members))
    assert sorted(wanted_zones) == sorted((int(i), int(j)) for i, j in zip(*zones(grey, force_2d=flat), strict=True))

    for alpha in (0, 1, 2):
        assert dependences(grey, force_2d=flat, alpha=alpha).tolist() == slow_dependences(levels, flat, alpha)

    counts, differences = tone_differences(grey, force_2d=flat)
    sums = [0.0] * grey.highest
    for place, level in levels.items():
        near = [levels[moved(place, d)] for d in neighbours(flat) if moved(place, d) in levels]
        if near:
            sums[level - 1] += abs(level - sum(near) / len(near))
    assert differences.tolist() == pytest.approx(sums, abs=1e-9)
    assert counts.tolist() == [sum(level == i for level in levels.values()) for i in range(1, grey.highest + 1)]


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.int64, st.integers(1, 6).map(lambda n: (n, n)), elements=st.integers(0, 5)))
def test_cooccurrence_features_are_their_definitions(half: np.ndarray) -> None:
    counts = (half + half.T).astype(float)
    if not counts.any():
        return
    found = describe_cooccurrence(counts[None])
    p = {(i + 1, j + 1): counts[i, j] / counts.sum() for i in range(len(counts)) for j in range(len(counts)) if counts[i, j]}
    highest = len(counts)
    px = {i: sum(v for (a, _), v in p.items() if a == i) for i in {a for a, _ in p}}
    mu = sum(i * v for i, v in px.items())
    var = sum((i - mu) ** 2 * v for i, v in px.items())
    minus: Counter[int] = Counter()
    plus: Counter[int] = Counter()
    for (i, j), v in p.items():
        minus[abs(i - j)] += v  # pyright: ignore[reportArgumentType]
        plus[i + j] += v  # pyright: ignore[reportArgumentType]

    def entropy(shares: dict) -> float:
        return -sum(v * math.log2(v) for v in shares.values())

    hxy1 = -sum(v * math.log2(px[i] * px[j]) for (i, j), v in p.items())
    hxy2 = -sum(a * b * math.log2(a * b) for a in px.values() for b in px.values())
    average = sum(k * v for k, v in minus.items())
    wanted = {
        "Autocorrelation": sum(i * j * v for (i, j), v in p.items()),
        "ClusterProminence": sum((i + j - 2 * mu) ** 4 * v for (i, j), v in p.items()),
        "ClusterShade": sum((i + j - 2 * mu) ** 3 * v for (i, j), v in p.items()),
        "ClusterTendency": sum((i + j - 2 * mu) ** 2 * v for (i, j), v in p.items()),
        "Contrast": sum((i - j) ** 2 * v for (i, j), v in p.items()),
        "Correlation": sum((i - mu) * (j - mu) * v for (i, j), v in p.items()) / var if var > 1e-12 else 1.0,
        "DifferenceAverage": average,
        "DifferenceEntropy": entropy(minus),
        "DifferenceVariance": sum((k - average) ** 2 * v for k, v in minus.items()),
        "Id": sum(v / (1 + k) for k, v in minus.items()),
        "Idm": sum(v / (1 + k * k) for k, v in minus.items()),
        "Idmn": sum(v / (1 + (k / highest) ** 2) for k, v in minus.items()),
        "Idn": sum(v / (1 + k / highest) for k, v in minus.items()),
        "Imc1": (entropy(p) - hxy1) / entropy(px) if len(px) > 1 else 0.0,
        "InverseVariance": sum(v / k**2 for k, v in minus.items() if k),
        "JointAverage": mu,
        "JointEnergy": sum(v**2 for v in p.values()),
        "JointEntropy": entropy(p),
        "MaximumProbability": max(p.values()),
        "SumAverage": sum(k * v for k, v in plus.items()),
        "SumEntropy": entropy(plus),
        "SumSquares": var,
    }
    assert set(MEASURES) - set(wanted) == {"Imc2", "MCC"}
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, rel=1e-9, abs=1e-9), name
    assert found["Imc2"] ** 2 == pytest.approx(1 - math.exp(-2 * max(0.0, hxy2 - entropy(p))), abs=1e-9)
    used = sorted(px)
    q = np.array([[sum(p.get((i, k), 0) * p.get((j, k), 0) / (px[i] * px[k]) for k in used) for j in used] for i in used])
    second = 1.0 if len(used) == 1 else math.sqrt(max(0.0, float(np.sort(np.linalg.eigvals(q).real)[-2])))
    assert found["MCC"] == pytest.approx(second, abs=1e-6)  # the root of an eigenvalue near 0 keeps half of the digits


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 9)), min_size=1, max_size=40))
def test_emphases_are_their_definitions(things: list[tuple[int, int]]) -> None:
    found = emphases(*entries(np.array([i for i, _ in things]), np.array([j for _, j in things])))
    n = len(things)
    by_grey, by_size, both = Counter(i for i, _ in things), Counter(j for _, j in things), Counter(things)
    mean_i, mean_j = sum(i for i, _ in things) / n, sum(j for _, j in things) / n
    wanted = {
        "small": sum(1 / j**2 for _, j in things) / n,
        "large": sum(j**2 for _, j in things) / n,
        "grey_uniformity": sum(c**2 for c in by_grey.values()) / n,
        "grey_uniformity_normalised": sum(c**2 for c in by_grey.values()) / n**2,
        "size_uniformity": sum(c**2 for c in by_size.values()) / n,
        "size_uniformity_normalised": sum(c**2 for c in by_size.values()) / n**2,
        "percentage": n / sum(j for _, j in things),
        "grey_variance": sum((i - mean_i) ** 2 for i, _ in things) / n,
        "size_variance": sum((j - mean_j) ** 2 for _, j in things) / n,
        "entropy": -sum(c / n * math.log2(c / n) for c in both.values()),
        "low_grey": sum(1 / i**2 for i, _ in things) / n,
        "high_grey": sum(i**2 for i, _ in things) / n,
        "small_low": sum(1 / (i * j) ** 2 for i, j in things) / n,
        "small_high": sum((i / j) ** 2 for i, j in things) / n,
        "large_low": sum((j / i) ** 2 for i, j in things) / n,
        "large_high": sum((i * j) ** 2 for i, j in things) / n,
    }
    assert found == {name: pytest.approx(value, rel=1e-9, abs=1e-9) for name, value in wanted.items()}


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.bool_, st.tuples(*[st.integers(1, 5)] * 3)))
def test_diameters_are_those_of_all_pairs(mask: np.ndarray) -> None:
    if not mask.any():
        return
    spacing = np.array([2.0, 1.0, 0.7])
    grid = np.pad(mask, 1)
    corners = []
    for axis in range(3):
        before, after = np.moveaxis(grid, axis, 0)[:-1], np.moveaxis(grid, axis, 0)[1:]
        corners += [(p + 0.5 * np.eye(3)[axis]) * spacing for p in np.argwhere(np.moveaxis(before ^ after, 0, axis))]

    def widest(along: int | None) -> float:
        pairs = itertools.combinations(corners, 2)
        return max((float(np.linalg.norm(a - b)) for a, b in pairs if along is None or a[along] == b[along]), default=0.0)

    found = describe_shape(mask, (2.0, 1.0, 0.7))
    assert found["Maximum3DDiameter"] == pytest.approx(widest(None), rel=1e-9)
    for name, axis in (("Slice", 0), ("Column", 1), ("Row", 2)):
        assert found[f"Maximum2DDiameter{name}"] == pytest.approx(widest(axis), rel=1e-9), name


def test_surface_does_not_depend_on_the_order_of_axes_for_smooth_masks() -> None:
    z, y, x = np.ogrid[-9:10, -7:8, -6:7]
    mask = z**2 / 64 + y**2 / 36 + x**2 / 25 < 1
    area, volume = surface_and_volume(mask, (1.5, 1.0, 0.5))
    turned = surface_and_volume(mask.transpose(2, 0, 1), (0.5, 1.5, 1.0))
    assert turned == pytest.approx((area, volume), rel=1e-9)
