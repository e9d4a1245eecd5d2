"""The signed chain that a privacy ledger is written on: nothing in it can be changed, taken out, cut off or put back to an older state.

    ledger.db             entries (SQLite, append-only), each signed with the site's approver key and chained to the one before; cohorts
    secrets/ledger.last   number and hash of the last entry
    audit.jsonl           holds the number of each entry too
    the server            keeps each site's last receipt and brings it back with every job (`receipt`, `check_receipt`)

An entry is committed first and counted after: a crash between the two leaves one signed entry more than is counted, which stands.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.audit import AuditLog
from client.privacy.entries import Entries
from shared_models.core.errors import BadInput, Refused
from shared_models.core.files import canonical_json, read_json, sha256, write_json
from shared_models.signing import public_half, sign, signing_key, verifies

EVERYBODY = "*"
"""The cohort of a loss: nobody knows whom the lost entries concerned."""


@dataclass(frozen=True)
class Patients:
    """The patients that an entry concerns: their pseudonyms, and under which naming those can be compared with others."""

    naming: str
    names: tuple[str, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over naming and names in order: equal sets give equal digests.

        Examples
        --------
        >>> Patients("k", ("b", "a", "a")).digest == Patients("k", ("a", "b")).digest != Patients("k", ("a",)).digest
        True
        """
        return sha256(canonical_json([self.naming, sorted(set(self.names))]).encode())


@dataclass(frozen=True)
class Entry:
    """One signed line. A *charge* carries steps; a *loss* carries the epsilon that lost entries are taken for (None: unknown)."""

    counter: int
    time: str
    kind: str
    cohort: str
    run: str
    round: int
    sigma: float
    q: float
    steps: int
    patients: int
    unit: str
    clip: float
    delta: float
    nonce: str
    epsilon: float | None = None


class Chain:
    """The entries of a site folder.

    Parameters
    ----------
    folder : Path
        The site folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.last = folder / "secrets" / "ledger.last"
        self.refusal = folder / "ledger.refused"
        self.audit = AuditLog(folder)
        self.book = Entries(folder / "ledger.db")
        # The one key of a site that is never changed: entries are verified for as long as there are patients.
        self._key = signing_key(folder / "secrets" / "approver.key")
        self._public = public_half(self._key)
        self._entries: list[Entry] = []
        self._hashes: list[str] = []

    def entries(self) -> list[Entry]:
        """Return every entry in order.

        Raises
        ------
        Refused
            E_LEDGER: deleted, older than the last entry, cut off, copied from another site, or an entry that is not the one signed.
        """
        return self._read(whole=True)

    def receipt(self) -> str:
        """Return what the server is to keep: number and hash of the last entry, signed by this site; empty before the first entry."""
        entries = self.entries()
        return _receipt(entries[-1].counter, self._hashes[-1], self._key) if entries else ""

    def check_receipt(self, receipt: str) -> None:
        """Refuse to go on when the server's `receipt` names an entry that is not here any more.

        Raises
        ------
        Refused
            E_RECEIPT: this site never gave it. E_LEDGER: the ledger is older than it, or another one.
        """
        entries = self.entries()
        if not receipt:
            return
        counter, head, signature = (*receipt.split("-"), "", "")[:3]
        if not counter.isdecimal() or not verifies(self._public, _sealed(counter, head), signature):
            raise Refused("a receipt is one that this site gave", remedy="ask the server's administrator", code="E_RECEIPT")
        accepted = any(entry.kind == "loss" and entry.counter > int(counter) for entry in entries)
        if head not in self._hashes and not accepted:
            write_json(self.refusal, {"counter": int(counter)}, mode=0o600)
            raise Refused("the ledger holds every entry that the server has a receipt of", remedy=_RESTORE, code="E_LEDGER")

    def accept_loss(self, spent: float | None) -> Entry:
        """Go on after entries were lost: a signed entry takes them for `spent` (epsilon of every patient; None: unknown, so without bound).

        A damaged ledger is put aside as ``ledger.db.lost``; the numbers go on above every number that was ever seen.

        Raises
        ------
        BadInput
            Nothing is lost.
        """
        counted = [self._counted()[0], self._audited(), int(read_json(self.refusal)["counter"]) if self.refusal.exists() else 0]
        try:
            entries = self.entries()
        except Refused:
            self.book.put_aside()
            self._entries, self._hashes = [], []
        else:
            if not self.refusal.exists():
                raise BadInput("a loss is accepted when the ledger was refused", remedy="`fedild site ledger` shows it whole")
            counted += [entry.counter for entry in entries]
        nothing = {"run": "", "round": 0, "sigma": 0.0, "q": 0.0, "steps": 0, "patients": 0, "unit": "", "clip": 0.0, "delta": 0.0}
        with self.book.locked():
            entry = self._append({"kind": "loss", "cohort": EVERYBODY, **nothing, "nonce": "", "epsilon": spent}, counter=max(counted) + 1)
        self.refusal.unlink(missing_ok=True)
        return entry

    def _append(self, body: dict[str, Any], *, counter: int | None = None) -> Entry:
        number = counter or (self._entries[-1].counter + 1 if self._entries else 1)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        previous = self._hashes[-1] if self._hashes else ""
        document = {"counter": number, "time": stamp, **body, "previous": previous}
        line = canonical_json({**document, "signature": sign(self._key, _lined(document))}).encode()
        self.book.append(number, line)
        write_json(self.last, {"counter": number, "hash": sha256(line)}, mode=0o600)
        self.audit.note("charged" if body["kind"] == "charge" else "loss accepted", counter=number)
        return self._read(whole=False)[-1]

    def _read(self, *, whole: bool) -> list[Entry]:
        lines = self.book.lines()
        hashes = [sha256(line) for _, line in lines]
        # What this process has checked before need not be checked again as long as it is the same, bit for bit.
        done = len(self._hashes) if hashes[: len(self._hashes)] == self._hashes else 0
        entries, previous, number = self._entries[:done], hashes[done - 1] if done else "", done
        for counter, line in lines[done:]:
            entry, before = _parse(line), entries[-1].counter if entries else 0
            signature = str(entry.pop("signature", ""))
            if not verifies(self._public, _lined(entry), signature) or entry.pop("previous", None) != previous:
                raise _broken(f"entry {counter} is not the one that was signed here, or one before it is missing")
            follows = entry["counter"] == before + 1 if entry["kind"] == "charge" else entry["counter"] > before
            if entry["counter"] != counter or not follows:
                raise _broken(f"entry {counter} is out of order")
            entries.append(Entry(**entry))
            previous, number = hashes[number], number + 1
        counted, head = self._counted()
        counters = {entry.counter: one for entry, one in zip(entries, hashes, strict=True)}
        if whole and ((counted and counters.get(counted) != head) or self._audited() > max(counters, default=0)):
            raise _broken("it is older than its last entry")
        for entry in entries[done:]:
            if entry.kind == "charge":
                naming, names = self.book.members(entry.cohort)
                if Patients(naming, tuple(names)).digest != entry.cohort:
                    raise _broken(f"the cohort of entry {entry.counter} was changed")
        self._entries, self._hashes = entries, hashes
        return list(entries)

    def _counted(self) -> tuple[int, str]:
        if not self.last.exists():
            return 0, ""
        try:
            last = read_json(self.last)
            return int(last["counter"]), str(last["hash"])
        except (OSError, ValueError, KeyError, TypeError):
            return -1, "damaged"

    def _audited(self) -> int:
        noted = [one.get("counter", 0) for one in self.audit.entries() if one["event"] in ("charged", "loss accepted")]
        return max(noted, default=0)


def _receipt(counter: int, head: str, key: bytes) -> str:
    return f"{counter}-{head}-{sign(key, _sealed(str(counter), head))}"


def _lined(entry: dict[str, Any]) -> bytes:
    return b"fedild ledger entry " + canonical_json(entry).encode()  # no other paper signed with this key can stand for an entry


def _sealed(counter: str, head: str) -> bytes:
    return f"fedild ledger receipt {counter} {head}".encode()


def _parse(line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


_RESTORE = (
    "restore ledger.db and secrets/ledger.last from the newest backup; when there is none, `fedild site ledger accept-loss` takes what is "
    "lost for the whole budget"
)


def _broken(how: str) -> Refused:
    return Refused(f"the ledger stands as it was written: {how}", remedy=_RESTORE, code="E_LEDGER")
