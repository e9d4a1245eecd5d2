"""Messages put together by `server/runs/inflate` are those that Flower's own function gives."""

from __future__ import annotations

import json
import time
import tracemalloc

import numpy as np
import pytest
from flwr.app import Array, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_body
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

from server.runs import inflate
from shared_models.core.arrays import State
from shared_models.core.state import digest
from shared_models.messages import Update, read_update, update_content

RNG = np.random.default_rng(0)
STATES: dict[str, State] = {
    "none": {},
    "small": {"w": RNG.random(5, np.float32), "steps": np.array(3)},
    "several pieces": {"w": RNG.random(3_000_000, np.float32)},
    "equal pieces": {"w": np.zeros(4_000_000, np.float32), "v": np.zeros(4_000_000, np.float32), "x": np.ones(3)},
}


def _contents(state: State) -> tuple[str, dict[str, bytes]]:
    content = update_content(Update("r", 1, "a", state=state, extra={"e": np.ones(2)}, num_cases=3))
    return content.object_id, {key: one.deflate() for key, one in get_all_nested_objects(content).items()}


@pytest.mark.parametrize("name", STATES)
def test_equal_to_flowers(name: str) -> None:
    top, contents = _contents(STATES[name])
    theirs = inflate_object_from_contents(top, dict(contents))
    ours = inflate.inflate(top, contents)
    assert contents == {}
    assert isinstance(ours, RecordDict)
    assert ours.object_id == theirs.object_id == top
    assert digest(read_update(ours).state) == digest(STATES[name])


def test_a_missing_piece_is_an_error() -> None:
    top, contents = _contents(STATES["several pieces"])
    del contents[max(contents, key=lambda key: len(contents[key]))]
    with pytest.raises(KeyError):
        inflate.inflate(top, contents)


def test_an_array_that_claims_one_piece_a_million_times_is_an_error() -> None:
    top, contents = _contents(STATES["several pieces"])
    key = next(key for key, value in contents.items() if b"arraychunk_ids" in value)
    body = bytes(get_object_body(contents[key], Array))
    about = json.loads(body)
    longer = json.dumps({**about, "arraychunk_ids": [0] * 10**6}).encode()
    contents[key] = contents[key][: -len(body)] + longer
    with pytest.raises(ValueError, match="at most 4 GiB"):
        inflate.inflate(top, contents)


def test_memory_is_that_of_one_message() -> None:
    top, contents = _contents({"w": RNG.random(16_000_000, np.float32)})
    tracemalloc.start()
    try:
        inflate.inflate(top, contents)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.2 * 64_000_000, "the result and a piece; what came in is not counted and was let go of"


def test_flowers_grid_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from flwr.superlink.grid import http_grid

    for name in ("inflate_object_from_contents", "push_objects", "pull_objects"):
        monkeypatch.setattr(http_grid, name, getattr(http_grid, name))
    inflate.use()
    assert http_grid.inflate_object_from_contents is inflate.inflate
    assert http_grid.push_objects is inflate.push


@pytest.mark.parametrize("name", STATES)
def test_what_is_pushed_is_what_flower_pushes(name: str) -> None:
    content = update_content(Update("r", 1, "a", state=STATES[name], num_cases=3))
    theirs = {key: one.deflate() for key, one in get_all_nested_objects(content).items()}
    unwanted = min(theirs)
    objects, sent = get_all_nested_objects(content), {}
    inflate.push(objects, sent.__setitem__, object_ids_to_push=theirs.keys() - {unwanted})
    assert sent == {key: value for key, value in theirs.items() if key != unwanted}
    assert objects == {}


def test_pushing_takes_the_memory_of_a_few_pieces() -> None:
    content = update_content(Update("r", 1, "a", state={"w": RNG.random(16_000_000, np.float32)}, num_cases=3))
    objects = get_all_nested_objects(content)
    tracemalloc.start()
    try:
        inflate.push(objects, lambda number, data: time.sleep(0.01), object_ids_to_push=set(objects))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.6 * 64_000_000, "Flower's own takes the whole 64 MB, and more, when sending is slower than copying"


def test_a_piece_that_cannot_be_pushed_is_an_error() -> None:
    def refuse(number: str, data: bytes) -> None:
        raise OSError("the line is cut")

    content = update_content(Update("r", 1, "a", state=STATES["several pieces"], num_cases=3))
    objects = get_all_nested_objects(content)
    with pytest.raises(OSError, match="cut"):
        inflate.push(objects, refuse, object_ids_to_push=set(objects))
