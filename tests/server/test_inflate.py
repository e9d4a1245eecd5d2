"""Messages put together by `server/runs/inflate` are those that Flower's own function gives."""

from __future__ import annotations

import json
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

    monkeypatch.setattr(http_grid, "inflate_object_from_contents", http_grid.inflate_object_from_contents)
    inflate.use()
    assert http_grid.inflate_object_from_contents is inflate.inflate
