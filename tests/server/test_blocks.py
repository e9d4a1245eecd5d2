"""Replies side by side: every value once and in place, the same bits by one thread and by two."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import server.strategies.blocks as blocks
from server.strategies.blocks import BLOCK, Blocks, Flat, Rows, pieces, runs
from server.strategies.distances import products
from server.strategies.replies import Spool
from shared_models.core.errors import BadState
from shared_models.core.files import read_state, write_state


def layout(size: int) -> dict[str, np.ndarray]:
    return {"b": np.zeros((2, size), np.float32), "a": np.zeros(5, np.float32), "n": np.zeros((), np.int64), "h": np.zeros(3, np.float16)}


def written(folder: Path, sites: int, size: int) -> list[Path]:
    found = []
    for site in range(sites):
        rng = np.random.default_rng([1, site])
        state = {key: (50 * rng.standard_normal(like.shape)).astype(like.dtype) for key, like in layout(size).items()}
        found.append(folder / f"{site:02d}.safetensors")
        write_state(found[-1], {key: np.asarray(value) for key, value in state.items()}, durable=False)
    return found


def spool_of(paths: list[Path]) -> Spool:
    spool = Spool(paths[0].parent)
    for path in paths:
        spool.take_up(path.stem, path, num_cases=1 + int(path.stem), steps=1)
    return spool


def test_a_walk_comes_by_every_value_once(tmp_path: Path) -> None:
    size = 10 * BLOCK
    paths, like = written(tmp_path, 3, size), layout(size)
    copies = [Flat(like) for _ in paths]

    def visit(rows: Rows) -> int:
        for piece in pieces(rows.part, 5000):
            for number, row in enumerate(rows.read(piece)):
                copies[number].put(rows.run, piece, row)
        return rows.part.stop - rows.part.start

    with Blocks(paths, like) as held:
        assert sum(held.walk(visit)) == sum(value.size for value in like.values())
    for copy, path in zip(copies, paths, strict=True):
        state = read_state(path)
        for key, value in copy.state().items():
            np.testing.assert_array_equal(value, state[key])
            assert value.dtype == like[key].dtype


def test_one_thread_and_two_give_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 9 * BLOCK + 77
    paths, like = written(tmp_path, 11, size), layout(size)
    monkeypatch.setattr(blocks, "STRETCH", BLOCK)
    spool, weights = spool_of(paths), [float(n + 1) for n in range(11)]
    found = []
    for threads in (1, 2, 2):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, threads=threads: set(range(threads)))
        found.append((spool.weighted_mean(like, weights), products(like, spool)))
    for mean, gram in found[1:]:
        np.testing.assert_array_equal(gram, found[0][1])
        for key, value in mean.items():
            assert value.tobytes() == found[0][0][key].tobytes()


def test_several_weightings_in_one_pass_are_the_single_means(tmp_path: Path) -> None:
    paths, like = written(tmp_path, 9, BLOCK), layout(BLOCK)
    spool, weightings = spool_of(paths), [[1.0] * 9, [float(n) for n in range(9)]]
    for together, weights in zip(spool.weighted_means(like, weightings), weightings, strict=True):
        alone = spool.weighted_mean(like, weights)
        assert {key: value.tobytes() for key, value in together.items()} == {key: value.tobytes() for key, value in alone.items()}


def test_some_sites_are_read_alone(tmp_path: Path) -> None:
    with Blocks(written(tmp_path, 5, 20), layout(20)) as held:

        def visit(rows: Rows) -> None:
            all_sites = rows.read(rows.part).copy()
            np.testing.assert_array_equal(rows.read(rows.part, 1, 3), all_sites[1:4])
            np.testing.assert_array_equal(rows.read(rows.part, 3), all_sites[3:])

        held.walk(visit)


def test_a_file_cut_under_way_is_refused_and_all_are_closed(tmp_path: Path) -> None:
    paths, open_before = written(tmp_path, 3, 1000), len(os.listdir("/proc/self/fd"))
    with pytest.raises(BadState, match="whole"), Blocks(paths, layout(1000)) as held:
        os.truncate(paths[1], 500)
        held.walk(lambda rows: rows.read(rows.part))
    assert len(os.listdir("/proc/self/fd")) == open_before


@pytest.mark.parametrize("change", ["shorter", "longer", "other shape", "other type", "another key", "a key less"])
def test_a_file_of_another_layout_is_refused(tmp_path: Path, change: str) -> None:
    (path,) = written(tmp_path, 1, 100)
    like = layout(100)
    if change in ("shorter", "longer"):
        data = path.read_bytes()
        path.write_bytes(data[:-1] if change == "shorter" else data + b"\0")
    else:
        other = {
            "other shape": like | {"b": np.zeros((100, 2), np.float32)},
            "other type": like | {"a": np.zeros(5, np.int32)},
            "another key": like | {"z": np.zeros(1)},
            "a key less": {key: value for key, value in like.items() if key != "h"},
        }[change]
        write_state(path, other, durable=False)
    with pytest.raises(BadState, match=r"layout|whole"):
        Blocks([path], like)


@pytest.mark.parametrize(("start", "stop"), [(0, 3), (2, 7), (5, 6), (0, 20), (11, 20)])
def test_a_part_of_a_run_goes_over_the_borders_of_arrays(start: int, stop: int) -> None:
    state = {"a": np.arange(6.0).reshape(2, 3), "b": np.zeros((0, 2)), "c": np.arange(6.0, 20.0)}
    (run,) = runs(state)
    np.testing.assert_array_equal(run.of(state, slice(start, stop)), np.arange(start, stop))


def test_pieces_cover_a_slice() -> None:
    assert [at for piece in pieces(slice(5, 40), 6) for at in range(piece.start, piece.stop)] == list(range(5, 40))
    assert list(pieces(slice(0, 0))) == []
