"""Job and Update, and their two outer forms: Flower records on the network, one frame of bytes on a site's local socket.

This is the only file that knows the keys. Nothing here is a pickle: arrays travel as safetensors, everything else as JSON text and
plain numbers.

    kind    a Job asks for                                         its Update carries
    hello   who is there                                           nothing
    fit     a round of training (evaluates the received model too) state, num_cases, steps, metrics
    judge   an evaluation of the received model                    metrics
    keys shares agree unmask                                       extra: a stage of the secure sum (`shared_models/secure_sum`)
"""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from shared_models.core.arrays import State
from shared_models.core.errors import BadInput, BadState
from shared_models.core.files import canonical_json, pack_state, unpack_state, view_state
from shared_models.core.state import digest

if TYPE_CHECKING:
    from flwr.app import RecordDict

Kind = Literal["hello", "fit", "judge", "keys", "shares", "agree", "unmask"]
MESSAGE_TYPES: dict[str, str] = {
    "hello": "query.hello",
    "fit": "train",
    "judge": "evaluate",
    "keys": "query.keys",
    "shares": "query.shares",
    "agree": "query.agree",
    "unmask": "query.unmask",
}
"""Flower's word for each kind of Job."""
FRAME_LIMIT = 4 << 30
_HEADER = struct.Struct(">4sIQ")
_MAGIC = b"FIL1"
_SITE = re.compile(r"([A-Za-z][A-Za-z0-9_-]{0,63})?")
_CODE = re.compile(r"(E_[A-Z0-9_]{1,60})?")
_RUN = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?")
_METRIC = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_SIGNATURE = re.compile(r"([0-9a-f]{128})?")
_RESTS = re.compile(r"([0-9a-f]{64})?")
_RECEIPT = re.compile(r"([0-9]{1,9}-[0-9a-f]{64}-[0-9a-f]{128})?")

_JOB: dict[str, type] = {"run": str, "round": int, "kind": str, "experiment": str, "rule": dict, "receipts": dict, "rests": str}
_UPDATE: dict[str, type] = dict.fromkeys(("run", "site", "code", "signature", "receipt"), str)
_UPDATE |= {"round": int, "num_cases": int, "steps": int, "metrics": dict}


@dataclass(frozen=True)
class Job:
    """Server to site: what to do with which model.

    Parameters
    ----------
    run : str
        Identifier of the run.
    round : int
        1-based; 0 outside a round.
    kind : str
        One of the kinds above.
    state : State
        Global model.
    experiment : str
        The experiment as canonical JSON; the site validates it anew.
    rule : dict
        The strategy's half at the site: a name in the site's RULES and its numbers.
    extra : State
        Arrays of the strategy (control variates and the like).
    receipts : dict
        By site, what it last said of its privacy ledger: a site whose ledger is older refuses.
    rests : str
        Empty, or the digest of the arrays that rest in this phase: the site has them from an earlier job, and `state` holds the others alone.
    """

    run: str
    round: int
    kind: Kind
    state: State = field(default_factory=dict)
    experiment: str = ""
    rule: dict[str, Any] = field(default_factory=dict)
    extra: State = field(default_factory=dict)
    receipts: dict[str, str] = field(default_factory=dict)
    rests: str = ""


@dataclass(frozen=True)
class Update:
    """Site to server: what the gate released, or a refusal code.

    Parameters
    ----------
    run, round : str, int
        Echoed, so that a stale update is noticed.
    site : str
        The site's own claim of its name; identity comes from the registered key.
    state : State
        Weights, sums or trees; empty for ``judge``.
    num_cases, steps : int
        Patients that took part, optimiser steps taken.
    metrics : dict
        Only names and supports that the site's policy allows.
    code : str
        Empty, or why the site refused (``E_POLICY_MODEL`` ...). Never a text.
    signature : str
        Empty, or the site's Ed25519 signature of `signed_bytes` as 128 hexadecimal digits.
    receipt : str
        Empty, or number, hash and signature of the last entry of the site's privacy ledger, for the server to keep and bring back.
    """

    run: str
    round: int
    site: str = ""
    state: State = field(default_factory=dict)
    extra: State = field(default_factory=dict)
    num_cases: int = 0
    steps: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    code: str = ""
    signature: str = ""
    receipt: str = ""


def job_head(job: Job) -> dict[str, Any]:
    """Return everything of `job` but its arrays, as JSON values."""
    fields = ("run", "round", "kind", "experiment", "rule", "receipts", "rests")
    return {name: getattr(job, name) for name in fields}


def update_head(update: Update) -> dict[str, Any]:
    """Return everything of `update` but its arrays, as JSON values."""
    fields = ("run", "round", "site", "num_cases", "steps", "metrics", "code", "signature", "receipt")
    return {name: getattr(update, name) for name in fields}


def signed_bytes(update: Update) -> bytes:
    """Return what a site signs: run, round, site, every number, and the digests of its arrays. Equal updates give equal bytes.

    Examples
    --------
    >>> signed_bytes(Update("r", 1, "a")) == signed_bytes(Update("r", 2, "a"))
    False
    """
    head = {name: value for name, value in update_head(update).items() if name != "signature"}
    return canonical_json({**head, "state": digest(update.state), "extra": digest(update.extra)}).encode()


def _read_head(head: dict[str, Any], like: type[Job] | type[Update], arrays: dict[str, State]) -> Any:
    names = _JOB if like is Job else _UPDATE
    if head.keys() != names.keys() or any(not isinstance(head[k], t) or isinstance(head[k], bool) for k, t in names.items()):
        raise BadInput(f"a {like.__name__} has exactly the fields {', '.join(names)} with their types", value=sorted(head))
    if _RUN.fullmatch(head["run"]) is None:  # it becomes part of file names at both ends
        raise BadInput("a run's name is made of letters, digits, dots, - and _", value=len(head["run"]))
    if like is Job and head["kind"] not in MESSAGE_TYPES:
        raise BadInput(f"a job's kind is one of {', '.join(MESSAGE_TYPES)}", value=head["kind"])
    if like is Job:
        texts = [(_SITE, str(site)) for site in head["receipts"]] + [(_RECEIPT, str(receipt)) for receipt in head["receipts"].values()]
        if any(pattern.fullmatch(text) is None for pattern, text in texts):
            raise BadInput("a job brings back receipts by site")
        if _RESTS.fullmatch(head["rests"]) is None:  # it becomes part of a file name at the site
            raise BadInput("what rests is named by its digest")
    if like is Update and any(not isinstance(v, float | int) for v in head["metrics"].values()):
        raise BadInput("metrics are numbers")
    if like is Update:
        # These words reach file names, logs and reports of the server: nothing else may be written in them.
        words = [
            (_SITE, head["site"]),
            (_CODE, head["code"]),
            (_SIGNATURE, head["signature"]),
            (_RECEIPT, head["receipt"]),
            *((_METRIC, name) for name in head["metrics"]),
        ]
        if any(pattern.fullmatch(word) is None for pattern, word in words) or len(head["metrics"]) > 100:
            raise BadInput("an update names its site, code, signature, receipt and at most 100 metrics in plain words")
    fields: dict[str, Any] = {**head, **arrays}
    return like(**fields)


# --- Flower records -------------------------------------------------------------------------------------------------------------------
#
# All arrays of a state travel as the bytes of one safetensors file in one Flower Array: the network asks for each object of a message on its
# own, and a network of 60 arrays would be 120 questions a site and round.

SAFETENSORS = "safetensors"


class Packed(dict[str, np.ndarray]):
    """A state whose arrays are read-only views of the bytes that travel: held, sent and compared at the memory of one model.

    Examples
    --------
    >>> packed = Packed({"w": np.array([1.0, 2.0])})
    >>> packed["w"], packed["w"].flags.writeable
    (array([1., 2.]), False)
    """

    def __init__(self, state: State) -> None:
        self.record = _array_record(state)
        super().__init__(view_state(self.record[SAFETENSORS].data) if self.record else {})


def _array_record(state: State) -> Any:
    from flwr.app import Array, ArrayRecord

    if isinstance(state, Packed):
        return state.record
    if not state:
        return ArrayRecord({})
    data = pack_state(state)
    return ArrayRecord({SAFETENSORS: Array("uint8", (len(data),), SAFETENSORS, data)})


def broadcast(job: Job) -> RecordDict:
    """Return the content of one Flower message; the array records may be shared by the messages to all sites, which saves copies."""
    return _content(job_head(job), job)


def read_job(content: RecordDict, *, views: bool = False) -> Job:
    """Read a Job out of a Flower message's content.

    Parameters
    ----------
    views : bool
        Give its arrays as read-only views of the content's own bytes: for who only hands them on.

    Raises
    ------
    BadInput, BadState
        As `read_update`.
    """
    return _read(content, Job, views=views)


def update_content(update: Update) -> RecordDict:
    """Return the content of a Flower reply."""
    return _content(update_head(update), update)


def read_update(content: RecordDict) -> Update:
    """Read an Update out of a Flower reply's content; its arrays are read-only views of the content's own bytes.

    Raises
    ------
    BadInput, BadState
        Other records or fields, arrays that are not plain numbers.
    """
    return _read(content, Update, views=True)


def _content(head: dict[str, Any], message: Job | Update) -> RecordDict:
    from flwr.app import ConfigRecord, RecordDict

    arrays = {name: _array_record(state) for name, state in (("state", message.state), ("extra", message.extra)) if state}
    return RecordDict({"head": ConfigRecord({"json": canonical_json(head)}), **arrays})


def _read(content: RecordDict, like: Any, *, views: bool) -> Any:
    try:
        head = json.loads(str(content["head"]["json"]))  # type: ignore[index]
        arrays = {name: _arrays(content[name], views=views) if name in content else {} for name in ("state", "extra")}
    except (KeyError, TypeError, ValueError, RecursionError):
        raise BadInput(f"a message holds the records of a {like.__name__}: head, state, extra", value=sorted(content)) from None
    if content.keys() - {"head", "state", "extra"} or not isinstance(head, dict):
        raise BadInput(f"a message holds only the records of a {like.__name__}", value=sorted(content))
    return _read_head(head, like, arrays)


def _arrays(record: Any, *, views: bool) -> State:
    from flwr.app import ArrayRecord

    if not isinstance(record, ArrayRecord):
        raise TypeError
    if not record:
        return {}
    if list(record) != [SAFETENSORS] or record[SAFETENSORS].stype != SAFETENSORS:
        raise BadState("the arrays of a message are the bytes of one safetensors file")
    state = view_state(record[SAFETENSORS].data)
    return state if views else {key: value.copy() for key, value in state.items()}


# --- frames of bytes on the local socket ------------------------------------------------------------------------------------------------


def to_frame(message: Job | Update) -> bytes:
    """Return one self-contained frame: magic, length of the JSON head, length of the safetensors body, head, body.

    Examples
    --------
    >>> job = Job(run="r1", round=1, kind="hello")
    >>> from_frame(to_frame(job), Job) == job
    True
    """
    head = canonical_json(job_head(message) if isinstance(message, Job) else update_head(message)).encode()
    body = pack_state({f"state/{k}": v for k, v in message.state.items()} | {f"extra/{k}": v for k, v in message.extra.items()})
    return _HEADER.pack(_MAGIC, len(head), len(body)) + head + body


def frame_length(header: bytes) -> int:
    """Return how many bytes follow the 16-byte header of a frame.

    Raises
    ------
    BadInput
        Not a frame, or larger than 4 GiB.
    """
    magic, head, body = _HEADER.unpack(header)
    if magic != _MAGIC or head + body > FRAME_LIMIT:
        raise BadInput("a frame starts with FIL1 and holds at most 4 GiB")
    return head + body


HEADER_BYTES = _HEADER.size


def from_frame(frame: bytes, like: type[Job] | type[Update]) -> Any:
    """Read what `to_frame` wrote."""
    if len(frame) < HEADER_BYTES or frame_length(frame[:HEADER_BYTES]) != len(frame) - HEADER_BYTES:
        raise BadInput("a frame must be whole", value=len(frame))
    _, head_length, _ = _HEADER.unpack(frame[:HEADER_BYTES])
    try:
        head = json.loads(frame[HEADER_BYTES : HEADER_BYTES + head_length])
    except (ValueError, RecursionError):
        raise BadInput("a frame's head must be JSON") from None
    if not isinstance(head, dict):
        raise BadInput("a frame's head must be a JSON object")
    arrays: dict[str, State] = {"state": {}, "extra": {}}
    for key, value in unpack_state(frame[HEADER_BYTES + head_length :]).items():
        part, _, name = key.partition("/")
        if part not in arrays:
            raise BadInput("a frame's arrays belong to state or extra", value=part)
        arrays[part][name] = value
    return _read_head(head, like, arrays)
