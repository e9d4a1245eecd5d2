"""Planted extents to the voxel, lesions in their Hounsfield range, diseases in their place, and the same patient from the same seed."""

import numpy as np
import pytest
from scipy import ndimage

from shared_models.core.errors import BadChoice, BadInput
from sim.phantom.diseases import CLASSES, draw_extents, fibrosis_of
from sim.phantom.lesions import LESIONS
from sim.phantom.patient import make_phantom
from sim.phantom.template import body_template

GRID_MM = 3.0


def phantom(klass, seed=11, **more):
    return make_phantom(klass, seed=seed, grid_mm=more.pop("grid_mm", GRID_MM), body=more.pop("body", 1), **more)


@pytest.fixture(scope="module")
def one_of_each():
    return {klass: phantom(klass) for klass in CLASSES}


@pytest.mark.parametrize("klass", CLASSES)
def test_planted_extent_is_exact_to_one_voxel(one_of_each, klass):
    p = one_of_each[klass]
    total = np.count_nonzero(p.lung)
    wanted = draw_extents_of(klass)
    for name, low_high in CLASSES[klass].mix.items():
        if name == "mosaic":
            continue
        count = np.count_nonzero(p.labels == LESIONS[name].code)
        assert abs(count - wanted[name] / 100 * total) <= 0.5
        assert p.extents[name] == pytest.approx(100 * count / total)
        assert low_high[0] - 0.01 <= p.extents[name] <= low_high[1] + 0.01
    assert not np.any(p.labels[p.lung == 0])


def draw_extents_of(klass):
    rng = np.random.default_rng([11, 0xB0D1])
    rng.integers(8)
    rng.uniform(0, 12)
    return draw_extents(klass, rng)


def test_normal_lung_has_the_density_of_a_normal_lung(one_of_each):
    p = one_of_each["normal"]
    hu = p.hu[p.lung > 0]
    assert -840 < hu.mean() < -815
    assert 2 < 100 * np.mean((hu >= -600) & (hu <= -250)) < 5
    assert 100 * np.mean(hu < -950) < 0.5
    assert 4000 < p.lung_ml < 5200
    assert 3000 < phantom("normal", body=0).lung_ml < 4500


@pytest.mark.parametrize(
    ("klass", "pattern", "mean", "tolerance"),
    [
        ("NSIP", "ggo", -625, 35),
        ("probable_UIP", "reticulation", -585, 35),
        ("UIP", "honeycombing", -570, 40),
        ("OP", "consolidation", 10, 30),
        ("CPFE", "emphysema", -955, 25),
        ("HP", "micronodules", -390, 35),
        ("NSIP", "ggo_reticulation", -535, 35),
        ("fibrotic_NSIP", "ggo_reticulation", -535, 35),
    ],
)
def test_each_lesion_has_the_density_of_its_recipe(one_of_each, klass, pattern, mean, tolerance):
    p = one_of_each[klass]
    assert p.hu[p.labels == LESIONS[pattern].code].mean() == pytest.approx(mean, abs=tolerance)


def heights_and_depths(p, codes):
    """Mean height (0 apex, 1 base) and share within 10 mm of the outer pleura, of a disease and of the whole lung."""
    body = body_template(p.body, GRID_MM)
    labels, lung = (body.gather(volume[body.box]) for volume in (p.labels, p.lung))
    sick, all_ = np.isin(labels, codes), lung > 0
    return body.height[sick].mean() - body.height[all_].mean(), (body.pleura_mm[sick] < 10).mean() / (body.pleura_mm[all_] < 10).mean()


def test_diseases_lie_where_they_belong(one_of_each):
    height, rim = heights_and_depths(one_of_each["UIP"], [2, 3])
    assert height > 0.1
    assert rim > 1.7
    height, rim = heights_and_depths(one_of_each["NSIP"], [1, 2, 7])
    assert height > 0.1
    assert rim < 0.8
    height, rim = heights_and_depths(one_of_each["fibrotic_NSIP"], [1, 7])
    assert height > 0.1
    assert rim < 0.8
    height, _ = heights_and_depths(one_of_each["HP"], [1, 6])
    assert height < -0.1
    height, _ = heights_and_depths(one_of_each["CPFE"], [5])
    assert height < -0.1
    _, rim = heights_and_depths(one_of_each["OP"], [4])
    assert rim > 1.1


def test_ground_glass_with_lines_fills_regions_of_its_own_in_one_class(one_of_each):
    inside = {}
    for klass in ("NSIP", "fibrotic_NSIP"):
        planted = one_of_each[klass].labels == 7
        inside[klass] = ndimage.binary_erosion(planted, iterations=2).sum() / (one_of_each[klass].lung > 0).sum()
    assert inside["fibrotic_NSIP"] > 0.03 > 5 * inside["NSIP"]


def test_organising_pneumonia_comes_in_patches(one_of_each):
    patches, count = ndimage.label(one_of_each["OP"].labels == 4)
    sizes_ml = np.bincount(patches.ravel())[1:] * GRID_MM**3 / 1000
    assert count >= 3
    assert sizes_ml.max() > 4  # a ball 20 mm across


def test_same_seed_same_bytes_and_other_seed_other_patient():
    a, b, c = phantom("HP", seed=4), phantom("HP", seed=4), phantom("HP", seed=5)
    assert a.hu.tobytes() == b.hu.tobytes()
    assert a.labels.tobytes() == b.labels.tobytes()
    assert a.labels.tobytes() != c.labels.tobytes()


def test_a_disease_that_grows_contains_what_it_was():
    start = {"honeycombing": 4.0, "reticulation": 10.0, "ggo": 3.0}
    later = {name: 1.4 * percent for name, percent in start.items()}
    a = phantom("UIP", extents=start, visit=0, first_fibrosis=14.0)
    b = phantom("UIP", extents=later, visit=1, first_fibrosis=14.0)
    assert np.array_equal(a.lung, b.lung)
    assert np.all(b.labels[a.labels == 3] == 3)
    assert np.all(np.isin(b.labels[np.isin(a.labels, [2, 3])], [2, 3]))
    unchanged = (a.labels == 3) & (ndimage.uniform_filter(b.labels.astype(float), 3) == 3)
    assert np.median(np.abs(a.hu[unchanged] - b.hu[unchanged])) < 1.0  # the same cysts, not new ones


def test_balls_of_emphysema_grow_by_further_balls():
    a = phantom("CPFE", extents={"emphysema": 5.0}, first_fibrosis=0.0)
    b = phantom("CPFE", extents={"emphysema": 9.0}, first_fibrosis=0.0)
    assert np.all(b.labels[a.labels == 5] == 5)


def test_organising_pneumonia_moves_between_visits():
    a, b = (phantom("OP", extents={"consolidation": 8.0}, visit=visit).labels == 4 for visit in (0, 1))
    assert np.count_nonzero(a & b) < 0.5 * np.count_nonzero(a)


def test_a_distribution_twin_has_the_same_amounts_elsewhere():
    a, b = phantom("UIP"), phantom("UIP", placement="HP")
    assert a.extents == b.extents
    assert heights_and_depths(a, [2])[0] > heights_and_depths(b, [2])[0] + 0.1


def test_fibrosis_stiffens_the_lung():
    assert phantom("UIP", extents={"reticulation": 30.0}).lung_ml < 0.95 * phantom("UIP", extents={"reticulation": 1.0}).lung_ml


def test_one_patient_on_two_grids_has_the_same_lung_and_disease():
    a, b = (phantom("UIP", grid_mm=grid_mm) for grid_mm in (3.0, 2.0))
    assert a.lung_ml == pytest.approx(b.lung_ml, rel=0.02)
    points = (np.argwhere(a.labels > 0) + 0.5) * 3.0 / 2.0
    same = b.labels[tuple(points.astype(int).T)] > 0
    assert same.mean() > 0.8


def test_lungs_are_dark_and_closed_and_the_airway_is_open(one_of_each):
    for klass in ("normal", "UIP", "OP"):
        p = one_of_each[klass]
        dark = ndimage.label(p.hu < -400)[0]
        outside = dark[0, 0, 0]  # the corner is air around the patient
        assert not np.any(dark[p.lung > 0] == outside), "no gap in the chest wall"
        found = (dark > 0) & (dark != outside)
        closed = ndimage.binary_closing(np.pad(found, 4), iterations=4)[4:-4, 4:-4, 4:-4]
        lung = p.lung > 0
        dice = 2 * np.count_nonzero(closed & lung) / (np.count_nonzero(closed) + np.count_nonzero(lung))
        assert dice > 0.85
    p = one_of_each["normal"]
    top = p.hu[3]  # trachea above the carina, in the middle of the patient
    row, column = np.unravel_index(top[:, 40:-40].argmin(), top[:, 40:-40].shape)
    assert top[row, column + 40] < -950
    assert p.lung[3, row, column + 40] == 0


def test_faults_are_named():
    with pytest.raises(BadChoice, match="did you mean 'NSIP'"):
        phantom("NSIIP")
    with pytest.raises(BadChoice, match="did you mean 'ggo'"):
        phantom("UIP", extents={"gg": 3.0})
    with pytest.raises(BadInput, match="planted extent"):
        phantom("UIP", extents={"reticulation": 80.0, "ggo": 30.0})
    with pytest.raises(BadInput, match="phantom grid"):
        phantom("UIP", grid_mm=9.0)


def test_patterns_are_the_published_codes():
    assert {name: lesion.code for name, lesion in LESIONS.items()} == {
        "ggo": 1,
        "reticulation": 2,
        "honeycombing": 3,
        "consolidation": 4,
        "emphysema": 5,
        "micronodules": 6,
        "ggo_reticulation": 7,
    }
    assert fibrosis_of(dict.fromkeys(LESIONS, 1.0)) == 3.0
