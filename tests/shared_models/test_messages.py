"""Job and Update: both outer forms come back as they were, and nothing else is read."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared_models.core.errors import BadInput, BadState
from shared_models.core.files import pack_state, unpack_state, view_state
from shared_models.core.state import digest
from shared_models.messages import (
    FRAME_LIMIT,
    HEADER_BYTES,
    MESSAGE_TYPES,
    SAFETENSORS,
    Job,
    Update,
    broadcast,
    frame_length,
    from_frame,
    read_job,
    read_update,
    to_frame,
    update_content,
)

types = st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_])
arrays = types.flatmap(lambda t: hnp.arrays(t, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)))
states = st.dictionaries(st.text("ab/.é", min_size=1, max_size=5), arrays, max_size=3)
numbers = st.floats(allow_nan=False, allow_infinity=False)
jobs = st.builds(
    Job,
    run=st.sampled_from(["", "r1", "3f2a90c1", "a.b-c_d"]),
    round=st.integers(0, 10**6),
    kind=st.sampled_from(list(MESSAGE_TYPES)),
    state=states,
    extra=states,
    experiment=st.text(max_size=20),
    rule=st.dictionaries(st.text(max_size=4), numbers | st.text(max_size=4), max_size=3),
)
updates = st.builds(
    Update,
    run=st.sampled_from(["", "r1", "3f2a90c1", "a.b-c_d"]),
    round=st.integers(0, 10**6),
    site=st.sampled_from(["", "alpha", "St-Mary_2"]),
    state=states,
    extra=states,
    num_cases=st.integers(-(10**12), 10**12),
    steps=st.integers(0, 10**9),
    metrics=st.dictionaries(st.sampled_from(["val_loss", "a"]), numbers, max_size=2),
    code=st.sampled_from(["", "E_POLICY_MODEL"]),
)


def same(a: Any, b: Any) -> bool:
    plain = [replace(m, state={}, extra={}) for m in (a, b)]
    return plain[0] == plain[1] and digest(a.state) == digest(b.state) and digest(a.extra) == digest(b.extra)


@given(jobs)
def test_jobs_come_back(job: Job) -> None:
    assert same(read_job(broadcast(job)), job)
    assert same(from_frame(to_frame(job), Job), job)


@given(updates)
def test_updates_come_back(update: Update) -> None:
    assert same(read_update(update_content(update)), update)
    assert same(from_frame(to_frame(update), Update), update)


GOOD = Update(run="r", round=1, site="alpha", state={"w": np.ones(2)}, num_cases=3, steps=1, metrics={"val_loss": 0.5})
HEAD = {"run": "r", "round": 1, "site": "alpha", "num_cases": 3, "steps": 1, "metrics": {"val_loss": 0.5}, "code": ""}
BAD_HEADS: dict[str, Any] = {
    "another field": {**HEAD, "note": "x"},
    "a missing field": {k: v for k, v in HEAD.items() if k != "code"},
    "round as text": {**HEAD, "round": "1"},
    "round as truth": {**HEAD, "round": True},
    "cases as fraction": {**HEAD, "num_cases": 3.5},
    "cases as NaN": {**HEAD, "num_cases": float("nan")},
    "metrics as list": {**HEAD, "metrics": [1]},
    "a metric as text": {**HEAD, "metrics": {"a": "b"}},
    "a metric with a path for a name": {**HEAD, "metrics": {"/data/John^Doe": 1.0}},
    "too many metrics": {**HEAD, "metrics": {f"m{i}": 1.0 for i in range(101)}},
    "a site that is a path": {**HEAD, "site": "../../etc/passwd"},
    "a site that is markup": {**HEAD, "site": "<b>alpha</b>"},
    "a code that is a sentence": {**HEAD, "code": "could not read /data/John^Doe"},
    "no object": [1, 2],
    "null": None,
}


@pytest.mark.parametrize("name", BAD_HEADS)
def test_bad_heads_are_refused_in_both_forms(name: str) -> None:
    text = json.dumps(BAD_HEADS[name])
    content = update_content(GOOD)
    content["head"] = ConfigRecord({"json": text})
    with pytest.raises(BadInput):
        read_update(content)
    with pytest.raises(BadInput):
        from_frame(frame(text.encode()), Update)


def frame(head: bytes, body: bytes = pack_state({}), magic: bytes = b"FIL1") -> bytes:
    return struct.pack(">4sIQ", magic, len(head), len(body)) + head + body


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, '{"a":' * 100_000, "1" * 5000, "\x00"], ids=["empty", "open", "deep", "deeper", "long", "zero"]
)
def test_heads_that_are_no_json(text: str) -> None:
    content = update_content(GOOD)
    content["head"] = ConfigRecord({"json": text})
    with pytest.raises(BadInput):
        read_update(content)
    with pytest.raises(BadInput):
        from_frame(frame(text.encode()), Update)


@pytest.mark.parametrize("run", ["../outside", "a/b", ".hidden", "-rf", "a b", "é", "a" * 129, "a\n"])
def test_a_run_that_is_no_plain_word(run: str) -> None:
    with pytest.raises(BadInput, match="run's name"):
        read_job(broadcast(Job(run=run, round=1, kind="fit")))
    with pytest.raises(BadInput, match="run's name"):
        from_frame(to_frame(Update(run=run, round=1)), Update)


def test_a_job_of_an_unknown_kind() -> None:
    content = broadcast(Job(run="r", round=1, kind="hello"))
    head = json.loads(str(content["head"]["json"]))  # type: ignore[index]
    content["head"] = ConfigRecord({"json": json.dumps({**head, "kind": "format-disk"})})
    with pytest.raises(BadInput, match="one of hello, fit, judge"):
        read_job(content)


def bytes_of(header: object, body: bytes = b"") -> bytes:
    """A safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def entry(dtype: object = "F32", shape: object = (2,), place: object = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": place}


EIGHT = b"\0" * 8
BAD_BYTES = {
    "nothing": b"",
    "half a length": b"\x08\0\0",
    "junk": b"junk junk junk",
    "a pickle": b"\x80\x05K\x01.",
    "a header beyond the end": (10**12).to_bytes(8, "little") + b"{}",
    "a header of another kind": bytes_of([1, 2]),
    "a header that is no JSON": bytes_of(b"{'w'"),
    "a deep header": bytes_of(b"[" * 200_000),
    "objects": bytes_of({"w": entry("O")}, EIGHT),
    "complex": bytes_of({"w": entry("C64", (1,))}, EIGHT),
    "an entry that is none": bytes_of({"w": 1}, EIGHT),
    "no place": bytes_of({"w": {"dtype": "F32", "shape": [2]}}, EIGHT),
    "cut": bytes_of({"w": entry()}, EIGHT[:-1]),
    "too long": bytes_of({"w": entry()}, EIGHT + b"x"),
    "a hidden part": bytes_of({"w": entry(shape=(1,), place=(4, 8))}, EIGHT),
    "a gap": bytes_of({"v": entry(shape=(1,), place=(0, 4)), "w": entry(shape=(1,), place=(8, 12))}, EIGHT * 2),
    "two at one place": bytes_of({"v": entry(), "w": entry()}, EIGHT),
    "a negative size": bytes_of({"w": entry(shape=(-2,))}, EIGHT),
    "a negative place": bytes_of({"w": entry(place=(-8, 0))}, EIGHT),
    "a size in words": bytes_of({"w": entry(shape=("2",))}, EIGHT),
    "a size of truth": bytes_of({"w": entry(shape=(True, 2))}, EIGHT),
    "a broken size": bytes_of({"w": entry(shape=(2.0,))}, EIGHT),
    "a claim of eight petabytes": bytes_of({"w": entry(shape=(10**15,), place=(0, 4 * 10**15))}, EIGHT),
    "more elements than bytes": bytes_of({"w": entry(shape=(3,))}, EIGHT),
    "a shape without end": bytes_of({"w": entry(shape=[1] * 100)}, EIGHT[:4]),
}


def carrier(data: bytes, stype: str = SAFETENSORS) -> Array:
    return Array("uint8", (len(data),), stype, data)


GOOD_BYTES = pack_state({"w": np.zeros(2, np.float32)})
BAD_ARRAYS: dict[str, dict[str, Array]] = {
    **{name: {SAFETENSORS: carrier(data)} for name, data in BAD_BYTES.items()},
    "two files": {SAFETENSORS: carrier(GOOD_BYTES), "more": carrier(GOOD_BYTES)},
    "another name": {"w": carrier(GOOD_BYTES)},
    "an array of numpy": {SAFETENSORS: Array(np.zeros(2))},
    "an array of torch": {SAFETENSORS: carrier(GOOD_BYTES, "torch.tensor")},
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
@pytest.mark.parametrize("part", ["state", "extra"])
def test_arrays_that_are_no_plain_numbers(name: str, part: str) -> None:
    content = update_content(GOOD)
    content[part] = ArrayRecord(BAD_ARRAYS[name])
    with pytest.raises(BadState):
        read_update(content)


def _without(name: str) -> RecordDict:
    content = update_content(GOOD)
    del content[name]
    return content


BAD_CONTENTS = {
    "no head": lambda: _without("head"),
    "nothing": RecordDict,
    "a further record": lambda: RecordDict({**update_content(GOOD), "note": ConfigRecord({"a": 1})}),
    "arrays for a head": lambda: RecordDict({**update_content(GOOD), "head": ArrayRecord({})}),
    "a head without json": lambda: RecordDict({**update_content(GOOD), "head": ConfigRecord({"text": "{}"})}),
    "numbers for arrays": lambda: RecordDict({**update_content(GOOD), "state": MetricRecord({"w": 1.0})}),
    "settings for arrays": lambda: RecordDict({**update_content(GOOD), "state": ConfigRecord({"w": "x"})}),
}


@pytest.mark.parametrize("name", BAD_CONTENTS)
def test_contents_that_are_no_update(name: str) -> None:
    with pytest.raises(BadInput):
        read_update(BAD_CONTENTS[name]())


def test_a_job_is_no_update_and_an_update_no_job() -> None:
    job = Job(run="r", round=1, kind="hello")
    with pytest.raises(BadInput):
        read_update(broadcast(job))
    with pytest.raises(BadInput):
        read_job(update_content(GOOD))
    with pytest.raises(BadInput):
        from_frame(to_frame(job), Update)


WHOLE = to_frame(GOOD)
BAD_FRAMES = {
    "nothing": b"",
    "half a header": WHOLE[: HEADER_BYTES - 1],
    "only a header": WHOLE[:HEADER_BYTES],
    "cut": WHOLE[:-1],
    "too long": WHOLE + b"x",
    "another magic": b"PKL1" + WHOLE[4:],
    "a body that is no safetensors": frame(json.dumps(HEAD).encode(), b"junk"),
    "a body of another part": frame(json.dumps(HEAD).encode(), pack_state({"secret/w": np.zeros(1)})),
    "a body without parts": frame(json.dumps(HEAD).encode(), pack_state({"w": np.zeros(1)})),
    "a head that is no text": frame(b"\xff\xfe"),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_frames_that_are_none(name: str) -> None:
    with pytest.raises(BadInput):
        from_frame(BAD_FRAMES[name], Update)


def test_a_frame_has_a_largest_size() -> None:
    with pytest.raises(BadInput, match="4 GiB"):
        frame_length(struct.pack(">4sIQ", b"FIL1", 10, FRAME_LIMIT))


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_damaged_frame_is_read_as_something_or_refused_by_name(place: int, flip: int) -> None:
    data = bytearray(WHOLE)
    data[place] ^= flip
    with suppress(BadInput):
        assert isinstance(from_frame(bytes(data), Update), Update)


VALUES = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.array(3.0),
    np.zeros((0, 4), np.float16),
    np.array([True, False]),
    np.arange(3, dtype=">i4"),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
]


def test_arrays_of_every_kind_come_back_in_one_object() -> None:
    state = {str(number): value for number, value in enumerate(VALUES)}
    content = broadcast(Job(run="r", round=1, kind="fit", state=state))
    assert sorted(content) == ["head", "state"], "what is empty does not travel"
    assert list(content["state"]) == [SAFETENSORS]  # type: ignore[arg-type]
    found = read_job(content).state
    assert list(found) == sorted(state)
    for key, value in state.items():
        np.testing.assert_array_equal(found[key], value)
        assert found[key].dtype == value.dtype.newbyteorder("<")
        assert found[key].flags.writeable


def test_views_read_what_the_library_reads() -> None:
    data = pack_state({str(number): value for number, value in enumerate(VALUES)}, note={"made": "here"})
    seen, theirs = view_state(data), unpack_state(data)
    assert list(seen) == list(theirs)
    for key, value in theirs.items():
        np.testing.assert_array_equal(seen[key], value)
        assert not seen[key].flags.writeable


@given(st.integers(0, len(GOOD_BYTES) - 1), st.integers(1, 255))
def test_damaged_arrays_are_read_as_the_library_does_or_refused(place: int, flip: int) -> None:
    data = bytearray(GOOD_BYTES)
    data[place] ^= flip
    try:
        found = view_state(bytes(data))
    except BadState:
        return
    theirs = unpack_state(bytes(data))  # what we take, the library takes too
    assert found.keys() == theirs.keys()
    for key, value in found.items():
        np.testing.assert_array_equal(value, theirs[key])
