"""The ledger of a site: every private step that its patients ever paid for, written down before the step is taken, never forgotten.

A budget follows the patient. Each entry names its cohort, the set of patients that could be drawn; what a patient has spent is the
composition of all entries whose cohort holds that patient, over rounds, runs, experiments and restarts. A new cohort that shares one
patient with an old one thus inherits what the old one spent, and adding or removing patients gives nobody a new budget. Names that cannot
be compared (other pseudonym keys, another patch file or table: `Patients.naming`) count as the same patients. The site refuses a charge when the
worst-off patient of the cohort would exceed the limit. What is written cannot be unwritten: `client/privacy/chain`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from client.privacy.accountant import ACCOUNTANTS, Step, epsilon, merged
from client.privacy.chain import Chain, Entry, Patients
from client.privacy.spending import Spend
from client.site import Site
from shared_models.core.errors import BadInput, Refused
from shared_models.core.files import sha256, sha256_file
from shared_models.experiment import Experiment

SLACK = 1e-9
"""Of a comparison with a limit: what rounding may add."""


@dataclass(frozen=True)
class Limits:
    """What one patient may spend at this site: in its whole life and in one run (epsilon at `delta`); None is no limit."""

    lifetime: float | None = None
    run: float | None = None
    delta: float = 1e-5


class Ledger(Chain):
    """What patients have spent, over the signed chain of a site folder."""

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

    def _cohorts_of(self, name: str, naming: str) -> frozenset[str]:
        return frozenset(digest for digest, (known, names) in self.book.cohorts().items() if known != naming or name in names)

    def _everybody(self) -> set[tuple[str, str]]:
        return {(naming, name) for naming, names in self.book.cohorts().values() for name in names}


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
