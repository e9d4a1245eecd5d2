"""Random fields, Worley cells and tube painting against the slow obvious way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.phantom.fields import apply_axes, gaussian_field, wall_fraction, worley_walls
from sim.phantom.trees import Tubes, grow, paint

REGION = ((0.0, 90.0), (0.0, 80.0), (0.0, 70.0))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), shape=st.tuples(*[st.integers(1, 6)] * 3))
def test_three_matrix_products_are_one_einsum(seed, shape):
    rng = np.random.default_rng(seed)
    volume = rng.standard_normal(shape)
    matrices = [rng.standard_normal((n + 1, n)) for n in shape]
    slow = np.einsum("az,by,cx,zyx->abc", *matrices, volume)
    assert np.allclose(apply_axes(volume, *matrices), slow, atol=1e-4)


def test_a_field_is_the_same_patient_on_every_grid():
    coarse = tuple(np.arange(low + 10, high - 10, 4.0) for low, high in REGION)
    fine = tuple(np.arange(low + 10, high - 10, 1.0) for low, high in REGION)
    a = gaussian_field(np.random.default_rng(3), 6.0, coarse, REGION)
    b = gaussian_field(np.random.default_rng(3), 6.0, fine, REGION)
    assert np.allclose(a, b[::4, ::4, ::4], atol=1e-3)


def test_a_field_has_unit_variance_and_the_correlation_length_asked_for():
    axes = tuple(np.arange(low, high, 2.0) for low, high in REGION)
    fields = np.stack([gaussian_field(np.random.default_rng(seed), 8.0, axes, REGION) for seed in range(40)])
    assert abs(fields.mean()) < 0.05
    assert 0.95 < fields.std() < 1.05
    assert (fields[:, 4:] * fields[:, :-4]).mean() == pytest.approx(np.exp(-0.5), abs=0.05)


def test_distance_to_walls_equals_brute_force_over_all_seeds():
    rng = np.random.default_rng(5)
    points = rng.uniform(10, 40, (200, 3))
    fast = worley_walls(np.random.default_rng(1), 7.0, points, REGION)
    # the same draw, without tree and without pruning
    low, high = np.array(REGION).T
    first = np.floor(low / 7.0) - 1
    counts = (np.ceil(high / 7.0) + 1 - first).astype(int)
    jitter = np.random.default_rng(1).random((*counts, 3), dtype=np.float32)
    seeds = np.array([(first + index + jitter[index]) * 7.0 for index in np.ndindex(*counts)])
    distance = np.linalg.norm(points[:, None] - seeds[None], axis=2)
    near = np.argsort(distance, axis=1)[:, :3]
    for wall in (1, 2):
        a, b = seeds[near[:, 0]], seeds[near[:, wall]]
        normal = (b - a) / np.linalg.norm(b - a, axis=1, keepdims=True)
        slow = np.sum(normal * ((a + b) / 2 - points), axis=1)
        assert np.allclose(fast[:, wall - 1], slow, atol=1e-3)


@pytest.mark.parametrize(("wall_mm", "cell_mm"), [(0.6, 5.0), (0.6, 8.0), (1.2, 9.0)])
def test_a_coarse_grid_holds_as_much_wall_as_a_fine_one(wall_mm, cell_mm):
    """Counting points inside the walls is the slow truth; the law f = 2.91 w / a is its value for thin walls."""
    coarse = np.stack(np.meshgrid(*[np.arange(10, 60, 2.5)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    fraction = wall_fraction(worley_walls(np.random.default_rng(0), cell_mm, coarse, REGION), wall_mm, 2.5).mean()
    points = np.random.default_rng(1).uniform(10, 60, (40000, 3))
    truth = np.mean(worley_walls(np.random.default_rng(0), cell_mm, points, REGION)[:, 0] < wall_mm / 2)
    assert fraction == pytest.approx(truth, rel=0.2)
    assert truth == pytest.approx(2.91 * wall_mm / cell_mm, rel=0.25)


def test_tubes_keep_their_volume_from_thin_to_thick():
    axis = np.arange(0.0, 40.0, 2.0)
    for radius in (0.3, 1.0, 4.0):
        tube = Tubes(np.array([[6.0, 19.0, 19.0]]), np.array([[30.0, 21.0, 18.0]]), np.array([radius]), np.array([0]))
        volume = paint(tube, (axis, axis, axis)).sum() * 8.0
        assert volume == pytest.approx(np.pi * radius**2 * np.linalg.norm([24, 2, 1]), rel=0.05)


def test_a_tree_reaches_all_parts_of_the_lung_and_obeys_murray():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 100, (256, 3))
    tree = grow(points, np.zeros(3), root_radius_mm=4.0)
    assert len(tree.radius) == 511
    assert np.allclose(tree.radius[0] ** 3, tree.radius[1] ** 3 + tree.radius[2] ** 3)
    assert np.allclose(tree.start[1:3], tree.end[0])
    leaves = tree.end[tree.level == 8]
    farthest = np.linalg.norm(points[:, None] - leaves[None], axis=2).min(axis=1).max()
    assert farthest < 25
