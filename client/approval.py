"""What may run at this hospital. Default: nothing. A person at the site approves an experiment, or a shipped app, and signs for it.

An approval of an experiment holds for exactly these settings (their SHA-256) *and* exactly the code that is installed now (`code_digest`):
after an upgrade the site approves anew. Entries are signed with the site's approver key, numbered and chained; the number of the last one
is kept among the secrets, so that an older file, or an old line appended anew, counts for nothing.

    approvals.jsonl             the signed entries      pending/<digest>.json   experiments that were asked for and wait for a decision
    secrets/approvals.last      number and hash of the  decided/<digest>.json   those that were decided since, to be read again
                                last entry
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from client.audit import AuditLog
from shared_models.core.code import code_digest as digest_of_code
from shared_models.core.errors import BadInput, Refused
from shared_models.core.files import canonical_json, read_json, sha256, write_atomic, write_json
from shared_models.experiment import Experiment
from shared_models.signing import public_half, sign, signing_key, verifies

CODE_PACKAGES = ("client", "shared_models")
"""Packages whose code runs at a site."""

MOST_PENDING = 50
"""Experiments that may wait for a decision; more are refused without a file."""

FEWEST_DIGITS = 8
"""Digits of a digest that a person must type at least."""

MOST_REASON = 300
"""Characters of a reason."""

Kind = Literal["experiment", "app"]
Decision = Literal["approved", "rejected", "revoked"]


@dataclass(frozen=True)
class Approval:
    """One signed line: what was decided about which experiment (with the code it was approved for) or app."""

    counter: int
    time: str
    kind: str
    name: str
    digest: str
    code: str
    decision: str
    reason: str = ""
    """Why, in the words of whoever decided. It stays here."""


def code_digest() -> str:
    """Return a SHA-256 over the source of `CODE_PACKAGES` as it lies on this machine now."""
    return digest_of_code(CODE_PACKAGES, root=Path(__file__).parents[1])


class Approvals:
    """The approvals of a site folder.

    Parameters
    ----------
    folder : Path
        The site folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "approvals.jsonl"
        self.last = folder / "secrets" / "approvals.last"
        self.audit = AuditLog(folder)

    def entries(self) -> list[Approval]:
        """Return every decision in order.

        Raises
        ------
        Refused
            E_APPROVALS: an entry is unsigned, altered, missing, out of order, or the file is older than the last decision.
        """
        public = public_half(signing_key(self.folder / "secrets" / "approver.key"))
        lines = self.path.read_bytes().splitlines() if self.path.exists() else []
        last, last_hash = self._last_known()
        previous, found, whole = "", [], True
        for number, line in enumerate(lines, start=1):
            entry = _read(line)
            signature = entry.pop("signature", "")
            whole = verifies(public, canonical_json(entry).encode(), str(signature))
            if not whole or entry.pop("previous", None) != previous or entry.get("counter") != number:
                raise Refused("every approval is signed, whole and in its place", value=f"line {number}", remedy=_RESTORE, code="E_APPROVALS")
            previous = sha256(line)
            found.append(Approval(**entry))
            whole = number != last or previous == last_hash
            if not whole:
                break
        if not whole or not 0 <= last <= len(found):
            raise Refused("the list of approvals must end with the last decision that was made", remedy=_RESTORE, code="E_APPROVALS")
        return found

    def standing(self) -> list[Approval]:
        """Return the decision that counts for each experiment and app: the last one. Of an app's versions only the newest approved counts."""
        entries = self.entries()
        latest = {(entry.kind, entry.digest): entry for entry in entries}
        newest = {entry.name: entry.digest for entry in entries if entry.kind == "app" and entry.decision == "approved"}
        return [entry for entry in latest.values() if entry.kind != "app" or newest.get(entry.name, entry.digest) == entry.digest]

    def check_experiment(self, experiment: Experiment) -> None:
        """Refuse `experiment` unless it is approved for the installed code; an unknown one is put on the pending list.

        Raises
        ------
        Refused
            E_NOT_APPROVED, or E_APPROVALS.
        """
        entry = next((one for one in self.standing() if one.kind == "experiment" and one.digest == experiment.digest), None)
        if entry is not None and entry.decision == "approved" and entry.code == code_digest():
            return
        if entry is None or entry.decision == "approved":
            self._wait(experiment)
        why = "not decided yet" if entry is None else "approved for other code" if entry.decision == "approved" else entry.decision
        raise Refused(
            "an experiment runs here only when this site has approved it",
            value=f"{experiment.name}: {why}",
            remedy=f"fedild site approve {experiment.digest[:12]}",
            code="E_NOT_APPROVED",
        )

    def allows_app(self, digest: str) -> bool:
        """Return whether the app bundle with this SHA-256 may run."""
        return any(entry.kind == "app" and entry.digest == digest and entry.decision == "approved" for entry in self.standing())

    def pending(self) -> list[Experiment]:
        """Return the experiments that wait for a decision."""
        return [Experiment.from_json(path.read_text(encoding="utf-8")) for path in sorted((self.folder / "pending").glob("*.json"))]

    def settings(self, digest: str) -> Experiment | None:
        """Return the experiment with this digest if the server ever asked for it here."""
        paths = (self.folder / name / f"{digest}.json" for name in ("pending", "decided"))
        return next((Experiment.from_json(path.read_text(encoding="utf-8")) for path in paths if path.exists()), None)

    def decide(self, decision: Decision, *, kind: Kind, name: str, digest: str, reason: str = "") -> Approval:
        """Sign a decision and append it, with the reason where one was given.

        Raises
        ------
        BadInput
            A reason of more than `MOST_REASON` characters, or with any that cannot be printed.
        Refused
            The list so far is not whole: nothing is built on it.
        """
        reason = " ".join(reason.split())
        if len(reason) > MOST_REASON or not reason.isprintable():
            raise BadInput(f"a reason has at most {MOST_REASON} printable characters", value=len(reason))
        before = self.entries()
        previous = sha256(self.path.read_bytes().splitlines()[-1]) if before else ""
        entry = Approval(len(before) + 1, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), kind, name, digest, code_digest(), decision, reason)
        said = {key: value for key, value in vars(entry).items() if key != "reason" or value}  # as before there were reasons
        body = {**said, "previous": previous}
        signature = sign(signing_key(self.folder / "secrets" / "approver.key"), canonical_json(body).encode())
        line = canonical_json({**body, "signature": signature}).encode()
        old = self.path.read_bytes() if self.path.exists() else b""
        # First the list: after a crash between the two it holds one decision more than is counted, and that one is signed too.
        write_atomic(self.path, old + line + b"\n", mode=0o600)
        write_json(self.last, {"counter": entry.counter, "hash": sha256(line)}, mode=0o600)
        waited = self.folder / "pending" / f"{digest}.json"
        if waited.exists():  # kept, so that what was signed can be read afterwards
            (self.folder / "decided").mkdir(mode=0o700, exist_ok=True)
            waited.replace(self.folder / "decided" / waited.name)
        self.audit.note(decision, digest=digest, name=name, kind=kind, counter=entry.counter)
        return entry

    def find(self, word: str) -> tuple[Kind, str, str]:
        """Return kind, name and digest of what `word` means: the path of an experiment TOML or app bundle, or the first digits of a digest.

        Raises
        ------
        BadInput
            Nothing, or more than one thing.
        """
        path = Path(word)
        if path.suffix == ".fab" and path.is_file():
            return "app", path.name.rsplit(".", 3)[0][:64], sha256(path.read_bytes())
        if path.suffix == ".toml" and path.is_file():
            experiment = Experiment.load(path)
            return "experiment", experiment.name, experiment.digest
        waiting: dict[str, tuple[Kind, str]] = {one.digest: ("experiment", one.name) for one in self.pending()}
        decided: dict[str, tuple[Kind, str]] = {one.digest: ("app" if one.kind == "app" else "experiment", one.name) for one in self.entries()}
        known = waiting | decided
        hits = [digest for digest in known if len(word) >= FEWEST_DIGITS and digest.startswith(word)]
        for names in (waiting, known):  # a name means what waits, before what was decided long ago
            hits = hits or [digest for digest, (_, name) in names.items() if name == word]
        if len(hits) != 1:
            raise BadInput(
                "this must name one experiment or app: a path, or the first digits of its digest",
                value=f"{word}: {len(hits)} found",
                remedy="see `fedild site approvals`",
            )
        kind, name = known[hits[0]]
        return kind, name, hits[0]

    def _wait(self, experiment: Experiment) -> None:
        path = self.folder / "pending" / f"{experiment.digest}.json"
        if path.exists() or len(list(path.parent.glob("*.json"))) >= MOST_PENDING:
            return
        write_atomic(path, experiment.for_sites().to_json().encode(), mode=0o600)
        self.audit.note("pending", digest=experiment.digest, name=experiment.name)

    def _last_known(self) -> tuple[int, str]:
        if not self.last.exists():
            return 0, ""
        try:
            last = read_json(self.last)
            return int(last["counter"]), str(last["hash"])
        except (ValueError, KeyError, TypeError):
            return -1, ""


_RESTORE = "restore approvals.jsonl and secrets/approvals.last from the same backup, or remove both and approve anew"


def _read(line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}
