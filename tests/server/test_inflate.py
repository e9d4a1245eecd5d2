"""Messages put together by `server/runs/inflate` are those that Flower's own function gives."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
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


def test_flowers_grid_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from flwr.superlink.grid import http_grid

    monkeypatch.setattr(http_grid, "inflate_object_from_contents", http_grid.inflate_object_from_contents)
    inflate.use()
    assert http_grid.inflate_object_from_contents is inflate.inflate
