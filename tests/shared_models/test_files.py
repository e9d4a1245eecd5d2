"""Files are whole or absent, whatever fails while they are written."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared_models.core.errors import BadState
from shared_models.core.files import (
    canonical_json,
    pack_state,
    read_json,
    read_state,
    sha256,
    sha256_file,
    unpack_state,
    write_atomic,
    write_json,
    write_state,
)
from shared_models.core.state import digest


def _fails(name: str) -> Any:
    def failing(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, f"{name}: no space left on device")

    return failing


@pytest.mark.parametrize("name", ["fsync", "replace", "fdopen", "chmod"])
@pytest.mark.parametrize("old", [b"old", None])
def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, old: bytes | None) -> None:
    path = tmp_path / "here" / "file.bin"
    if old is not None:
        write_atomic(path, old)
    with monkeypatch.context() as patch:
        patch.setattr(os, name, _fails(name))
        with pytest.raises(OSError, match="no space"):
            write_atomic(path, b"new" * 1000)
    assert (path.read_bytes() if path.exists() else None) == old
    assert [p.name for p in path.parent.iterdir()] == (["file.bin"] if old else [])


def test_the_bytes_are_on_the_disk_before_they_take_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    real = {name: getattr(os, name) for name in ("fsync", "replace")}
    for name in real:
        monkeypatch.setattr(os, name, lambda *a, _name=name, **k: (done.append(_name), real[_name](*a, **k))[1])
    write_atomic(tmp_path / "a", b"x")
    assert done == ["fsync", "replace", "fsync"]  # file, name, folder
    done.clear()
    write_atomic(tmp_path / "a", b"y", durable=False)
    assert done == ["replace"]


def test_mode_and_digest(tmp_path: Path) -> None:
    write_atomic(tmp_path / "key", b"secret", mode=0o600)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "big").write_bytes(b"ab" * (1 << 20))
    assert sha256_file(tmp_path / "big") == sha256(b"ab" * (1 << 20))


def test_json_refuses_nan(tmp_path: Path) -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            write_json(tmp_path / "x.json", {"a": value})
        with pytest.raises(ValueError, match="JSON"):
            canonical_json(value)
    assert not list(tmp_path.iterdir())
    write_json(tmp_path / "x.json", {"ä": None})
    assert read_json(tmp_path / "x.json") == {"ä": None}


types = st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.int32, np.int16, np.int8, np.uint8, np.bool_])
arrays = types.flatmap(lambda t: hnp.arrays(t, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)))
states = st.dictionaries(st.text("abc/.é", min_size=1, max_size=5), arrays, max_size=4)


@given(states, st.dictionaries(st.sampled_from(["round", "experiment", "z"]), st.text(max_size=5)))
def test_states_come_back_bit_for_bit_and_equal_states_give_equal_bytes(state: dict, note: dict) -> None:
    data = pack_state(state, note)
    assert digest(unpack_state(data)) == digest(state)
    again = {key: np.array(state[key], order="F") for key in sorted(state, reverse=True)}
    assert pack_state(again, dict(reversed(note.items()))) == data


def test_states_on_disk(tmp_path: Path) -> None:
    state = {"w": np.arange(6.0).reshape(2, 3).T}
    assert write_state(tmp_path / "s", state, {"round": "1", "experiment": "x"}) == sha256_file(tmp_path / "s")
    assert digest(read_state(tmp_path / "s")) == digest(state)


@pytest.mark.parametrize(
    "damage", [lambda d: b"", lambda d: d[:-1], lambda d: d[:12], lambda d: b"\xff" * len(d), lambda d: d + b"x", lambda d: b"junk"]
)
def test_what_is_no_state_is_refused(damage: Any) -> None:
    with pytest.raises(BadState):
        unpack_state(damage(pack_state({"w": np.arange(8.0)})))


def test_states_are_read_in_the_order_of_their_keys() -> None:
    names = [f"k{number}" for number in range(40)]
    assert list(unpack_state(pack_state({name: np.zeros(1) for name in reversed(names)}))) == sorted(names)
