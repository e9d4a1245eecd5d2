"""The signed record of a run: what was agreed, who was there in each round, what came out, and the hash of every file that it released.

    record.jsonl   one line of JSON an entry, each with the SHA-256 of the line before: experiment, round, round, ..., release
    seal.json      number of entries, hash of the last one, the public key and its Ed25519 signature (RFC 8032) over both

Whoever has the folder and knows the consortium's public key (every hospital: it is in its kit) can tell without a network whether the run is
the one that was sealed, and if not, which file, round or entry is another. A simulation seals with a key that is thrown away at once: its
record shows later changes, but not who made it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from shared_models.core.errors import BadInput
from shared_models.core.files import canonical_json, read_json, sha256, sha256_file, write_atomic, write_json
from shared_models.signing import public_half, sign, verifies

RECORD, SEAL = "record.jsonl", "seal.json"
FORMAT = 1
RELEASED = (
    "experiment.json",
    "rounds.jsonl",
    "metrics.json",
    "site_metrics.json",
    "site_histograms.json",
    "site_reports.json",
    "curves.json",
    "release.json",
    "run.json",
    "report.html",
    "bundle",
    "pictures",
)
"""Files and folders of a run folder that a record names, as far as they are there: what the run leaves for others, nothing of its work."""


def files_of(folder: Path) -> list[str]:
    """Return the files that a record of this run folder names, as sorted relative paths with ``/``."""
    found = []
    for name in RELEASED:
        top = folder / name
        paths = sorted(top.rglob("*")) if top.is_dir() else [top]
        found += [path.relative_to(folder).as_posix() for path in paths if path.is_file() and not path.name.startswith(".")]
    return sorted(found)


def seal(folder: Path, entries: Iterable[tuple[str, Mapping[str, Any]]], *, secret: bytes | None = None) -> str:
    """Chain `entries`, add one of every file of the run, sign the end, and return the hash of the last entry.

    Parameters
    ----------
    folder : Path
        The run folder, finished; an older record in it is replaced.
    entries : iterable of (str, mapping)
        Kind and body of each entry, JSON values without NaN.
    secret : bytes, optional
        32 secret bytes of the consortium's signing key; without it a key of this record's own is made and forgotten.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "metrics.json").write_text("{}")
    >>> head = seal(folder, [("experiment", {"name": "demo"})], secret=bytes(32))
    >>> verify(folder)
    []
    >>> _ = (folder / "metrics.json").write_text("{ }")
    >>> verify(folder)
    ['metrics.json is not the file that was sealed']
    """
    files = {name: sha256_file(folder / name) for name in files_of(folder)}
    lines, previous = [], ""
    for number, (kind, body) in enumerate([*entries, ("files", {"sha256": files})]):
        line = canonical_json({"format": FORMAT, "entry": number, "kind": kind, "previous": previous, "body": dict(body)})
        previous = sha256(line.encode())
        lines.append(line)
    own = secret is None
    key = os.urandom(32) if secret is None else secret
    write_atomic(folder / RECORD, "".join(f"{line}\n" for line in lines).encode())
    told = {"entries": len(lines), "head": previous, "public": public_half(key), "signer": "record's own key" if own else "consortium"}
    write_json(folder / SEAL, {**told, "signature": sign(key, _sealed(told))})
    return previous


def verify(folder: Path, *, public: str | None = None) -> list[str]:
    """Return what is not as it was sealed: one sentence for each file, round, entry or signature; empty when everything is.

    Nothing but the folder is read. A damaged run is no error here: whatever can still be told is told.

    Parameters
    ----------
    public : str, optional
        The consortium's public key in hexadecimal; without it the seal's own key is used, which shows changes but not who sealed.

    Raises
    ------
    BadInput
        The folder holds no record.
    """
    if not (folder / RECORD).exists() and not (folder / SEAL).exists():
        raise BadInput("a run is verified by its record", value=folder.name, remedy=f"name a run folder that holds {RECORD} and {SEAL}")
    entries, heads, faults = read_record(folder)
    faults += _faults_of_seal(folder, heads, public)
    if heads:
        sealed = next((entry["body"].get("sha256", {}) for entry in reversed(entries) if entry.get("kind") == "files"), None)
        if sealed is None:
            faults.append(f"{RECORD} names no files: its end is missing")
        else:
            faults += _faults_of_files(folder, sealed, entries)
    return faults


def added(folder: Path) -> list[str]:
    """Return the files of a run folder that its record does not name: written after it was sealed."""
    entries, _, _ = read_record(folder)
    sealed = next((entry["body"].get("sha256", {}) for entry in reversed(entries) if entry.get("kind") == "files"), {})
    return [name for name in files_of(folder) if name not in sealed]


def read_record(folder: Path) -> tuple[list[dict[str, Any]], list[str], list[str]]:
    """Return the entries of a record that can be read, the hash of each line, and what is wrong with the chain."""
    entries: list[dict[str, Any]] = []
    heads: list[str] = []
    faults: list[str] = []
    try:
        lines = (folder / RECORD).read_bytes().split(b"\n")
    except OSError:
        return [], [], [f"{RECORD} is not there"]
    if lines and not lines[-1]:
        lines = lines[:-1]
    else:
        faults.append(f"{RECORD} ends in the middle of entry {len(lines) - 1}")
    for number, line in enumerate(lines):
        entry = _entry(line)
        if entry is None or entry["entry"] != number or canonical_json(entry).encode() != line:
            faults.append(f"entry {number} of {RECORD} is not one that was written")
        else:
            if entry["previous"] != (heads[-1] if heads else ""):
                faults.append(f"entry {number} of {RECORD} does not follow entry {number - 1}: one of the two was changed")
            entries.append(entry)
        heads.append(sha256(line))
    return entries, heads, faults


def round_entries(lines: Sequence[Mapping[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Return an entry for each round of ``rounds.jsonl``: who joined with how many patients and what metrics, who was refused with which code.

    Examples
    --------
    >>> line = {"round": 1, "phase": "training", "sites": {"a": {"num_cases": 9, "refused": None}}, "missing": []}
    >>> round_entries([line])[0][1]["joined"]
    {'a': {'patients': 9, 'metrics': {}}}
    """
    found = []
    for line in lines:
        sites = line.get("sites", {})
        valid = {name: site for name, site in sites.items() if not site.get("refused")}
        joined = {name: {"patients": site.get("num_cases", 0), "metrics": site.get("metrics", {})} for name, site in valid.items()}
        body = {
            "round": line["round"],
            "phase": line.get("phase", "training"),
            "joined": joined,
            "refused": {name: site["refused"] for name, site in sites.items() if site.get("refused")},
            "missing": line.get("missing", []),
            "line": sha256(canonical_json(dict(line)).encode()),
        }
        found.append(("round", body))
    return found


def _faults_of_seal(folder: Path, heads: Sequence[str], public: str | None) -> list[str]:
    try:
        told = read_json(folder / SEAL)
        signature = told.pop("signature")
        signed, head, count = str(told["public"]), str(told["head"]), int(told["entries"])
        whole = verifies(public or signed, _sealed(told), str(signature))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return [f"{SEAL} cannot be read"]
    faults = []
    if public is not None and signed != public:
        faults.append(f"{SEAL} is signed with another key than the consortium's")
    elif not whole:
        faults.append(f"{SEAL} does not bear its signer's signature")
    if count != len(heads):
        faults.append(f"{RECORD} has {len(heads)} entries, {count} were sealed")
    elif not heads or heads[-1] != head:
        faults.append(f"entry {count - 1} of {RECORD} is not the last one that was sealed")
    return faults


def _faults_of_files(folder: Path, sealed: Mapping[str, str], entries: Sequence[Mapping[str, Any]]) -> list[str]:
    faults = []
    for name, digest in sorted(sealed.items()):
        path = folder / name
        if not path.is_file():
            faults.append(f"{name} is missing")
        elif sha256_file(path) != digest:
            faults.append(f"{name} is not the file that was sealed{_rounds_changed(path, entries) if path.name == 'rounds.jsonl' else ''}")
    return faults


def _rounds_changed(path: Path, entries: Sequence[Mapping[str, Any]]) -> str:
    """Return which rounds of a log are others than those of the record."""
    known = [entry["body"] for entry in entries if entry.get("kind") == "round"]
    lines = path.read_bytes().split(b"\n")
    wrong = [str(body["round"]) for body, line in zip(known, lines, strict=False) if _digest_of_line(line) != body["line"]]
    return f": round {', '.join(wrong)}" if wrong else ""


def _digest_of_line(line: bytes) -> str:
    try:
        return sha256(canonical_json(json.loads(line)).encode())
    except ValueError:
        return ""


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(entry, dict) and set(entry) == {"format", "entry", "kind", "previous", "body"} and isinstance(entry["body"], dict)
    return entry if whole else None


def _sealed(told: Mapping[str, Any]) -> bytes:
    return b"fedild run record " + canonical_json(dict(told)).encode()
