"""The ledger of a site: every private step that its patients ever paid for, written down before the step is taken, never forgotten.

A budget follows the patient. Each entry names its cohort, the set of patients that could be drawn; what a patient has spent is the
composition of all entries whose cohort holds that patient, over rounds, runs, experiments and restarts. A new cohort that shares one
patient with an old one thus inherits what the old one spent, and adding or removing patients gives nobody a new budget. Names that cannot
be compared (other pseudonym keys, another patch file or table: `Patients.naming`) count as the same patients. The site refuses a charge when the
worst-off patient of the cohort would exceed the limit.

    ledger.db             entries (SQLite, append-only), each signed with the site's approver key and chained to the one before; cohorts
    secrets/ledger.last   number and hash of the last entry
    audit.jsonl           holds the number of each entry too
    the server            keeps each site's last receipt and brings it back with every job (`receipt`, `check_receipt`)

An entry is committed first and counted after: a crash between the two leaves one signed entry more than is counted, which stands.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from client.audit import AuditLog
from client.privacy.accountant import ACCOUNTANTS, Step, epsilon, merged
from client.privacy.entries import Entries
from client.privacy.spending import Spend
from client.site import Site
from shared_models.core.errors import BadInput, Refused
from shared_models.core.files import canonical_json, read_json, sha256, sha256_file, write_json
from shared_models.experiment import Experiment
from shared_models.signing import public_half, sign, signing_key, verifies

EVERYBODY = "*"
"""The cohort of a loss: nobody knows whom the lost entries concerned."""

SLACK = 1e-9
"""Of a comparison with a limit: what rounding may add."""


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
class Limits:
    """What one patient may spend at this site: in its whole life and in one run (epsilon at `delta`); None is no limit."""

    lifetime: float | None = None
    run: float | None = None
    delta: float = 1e-5


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


class Ledger:
    """The ledger of a site folder.

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

    def charge(self, patients: Patients, spend: Spend, *, run: str, round: int, limits: Limits | None = None) -> bool:
        """Write down what is about to be spent; return False when this very attempt (`spend.nonce`) was charged before.

        Call it before the first step. When it returns the entry is on disk.

        Raises
        ------
        Refused
            E_LEDGER, E_BUDGET (the limit of the site's patients), E_BUDGET_RUN (that of one run), E_SPEND (another spend under the nonce).
        BadInput
            E_SPEND: not a private step.
        """
        limits = limits or Limits()
        body = {"kind": "charge", "cohort": patients.digest, "run": run, "round": round, **_checked(spend)}
        with self.book.locked():
            entries = self.entries()
            for known in entries:
                if known.nonce == spend.nonce:
                    if {name: asdict(known)[name] for name in body} != body:
                        raise Refused("a nonce stands for one attempt", remedy="train this round anew", code="E_SPEND")
                    return False
            more = ((spend.sigma, spend.q, spend.steps),)
            of_run = [entry for entry in entries if entry.run == run]
            for limit, counted, code in ((limits.lifetime, entries, "E_BUDGET"), (limits.run, of_run, "E_BUDGET_RUN")):
                if limit is not None:
                    _under(limit, self._spent(counted, patients, limits.delta, more), code)
            self.book.enrol(patients.digest, patients.naming, sorted(set(patients.names)))
            self._append(body)
        return True

    def spent(self, patients: Patients | None = None, *, delta: float, more: tuple[Step, ...] = ()) -> float:
        """Return the epsilon at `delta` that the worst-off of `patients` (None: of everybody whom the ledger knows) has spent.

        Entries that were lost are added as an epsilon of their own; `more` steps as if they had been taken.
        """
        return self._spent(self.entries(), patients, delta, more)

    def _spent(self, entries: list[Entry], patients: Patients | None, delta: float, more: tuple[Step, ...], accountant: str = "rdp") -> float:
        people = self._everybody() if patients is None else {(patients.naming, name) for name in patients.names}
        sharing = {self._cohorts_of(name, naming) for naming, name in people} or {frozenset()}
        charges = [entry for entry in entries if entry.kind == "charge"]
        histories = {merged([*((e.sigma, e.q, e.steps) for e in charges if e.cohort in cohorts), *more]) for cohorts in sharing}
        lost = sum(math.inf if entry.epsilon is None else entry.epsilon for entry in entries if entry.kind == "loss")
        return lost + max(epsilon(history, delta, accountant=accountant) for history in histories)

    def course(self, *, delta: float) -> list[tuple[Entry, float]]:
        """Return each entry with the epsilon that the worst-off patient of its cohort had spent once it was written."""
        entries, found = self.entries(), []
        for number, entry in enumerate(entries, start=1):
            naming, names = self.book.members(entry.cohort)
            concerned = None if entry.kind == "loss" else Patients(naming, tuple(names))
            found.append((entry, self._spent(entries[:number], concerned, delta, ())))
        return found

    def has(self, patients: Patients, *, run: str, round: int) -> bool:
        """Return whether this round of these patients was charged."""
        return any((entry.cohort, entry.run, entry.round) == (patients.digest, run, round) for entry in self.entries())

    def cohorts(self, *, delta: float) -> list[dict[str, Any]]:
        """Return one row a cohort: patients, entries, runs, and the epsilon of its worst-off patient by both accountants."""
        entries, rows = self.entries(), []
        for digest in dict.fromkeys(entry.cohort for entry in entries if entry.kind == "charge"):
            naming, names = self.book.members(digest)
            own, patients = [entry for entry in entries if entry.cohort == digest], Patients(naming, tuple(names))
            spent = {name: self._spent(entries, patients, delta, (), name) for name in ACCOUNTANTS}
            row = {"cohort": digest, "patients": len(names), "unit": own[-1].unit, "entries": len(own), "runs": len({one.run for one in own})}
            rows.append({**row, "steps": sum(one.steps for one in own), "last": own[-1].time, "delta": delta, **spent})
        return rows

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

    def _cohorts_of(self, name: str, naming: str) -> frozenset[str]:
        return frozenset(digest for digest, (known, names) in self.book.cohorts().items() if known != naming or name in names)

    def _everybody(self) -> set[tuple[str, str]]:
        return {(naming, name) for naming, names in self.book.cohorts().values() for name in names}

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


def patients_of(site: Site, experiment: Experiment, names: Iterable[str]) -> Patients:
    """Return the ledger's patients for the record names of an experiment at `site`.

    Pseudonyms of studies are compared under the site's key. The names in a patch file or a table mean nothing outside that very file.
    """
    file = {"patches": site.site.patches, "table": site.site.table}.get(experiment.data.kind)
    if file is not None:
        return Patients(f"{experiment.data.kind} {sha256_file(site.path(file))[:32]}", tuple(names))
    key = site.workspace / "site.key"
    return Patients(f"studies {sha256(b'ledger' + key.read_bytes())[:32]}" if key.exists() else "studies", tuple(names))


def _checked(spend: Spend) -> dict[str, Any]:
    numbers = (spend.sigma, spend.q, spend.clip, spend.delta)
    if not all(math.isfinite(number) and number > 0 for number in numbers) or spend.q > 1 or spend.delta >= 1:
        raise BadInput("a private step has noise, rate, clip and delta above 0", value=numbers, code="E_SPEND")
    if spend.steps < 1 or spend.patients < 1 or not spend.nonce or spend.unit not in ("patient", "record"):
        raise BadInput("a spend has steps, patients, a unit and a nonce", value=(spend.steps, spend.unit), code="E_SPEND")
    return asdict(spend)


def _under(limit: float, spent: float, code: str) -> None:
    if not spent <= limit + SLACK:
        raise Refused(
            "what a patient spends stays within the site's limit",
            value=f"epsilon {spent:.3f} of {limit:g}",
            remedy="more noise, fewer rounds, or other patients; the limit is the hospital's: [policy.privacy] of site.toml",
            code=code,
        )


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
