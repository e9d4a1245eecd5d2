"""The registry of releases: versions of each model with their lineage, which of them is in use, and why.

    <registry>/registry.db                   versions, events and exports (SQLite); all can be added to and never changed
    <registry>/<model>/<version>/            what the run released, with its signed record; read-only

Every promotion and roll-back is an event with a reason, so that it can be told years later what was in use on any day.
"""

from __future__ import annotations

import getpass
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.registry_exports import TABLE, Export, digest_of, faults_of
from shared_models.bundle import load_bundle
from shared_models.core.errors import BadBundle, BadInput
from shared_models.core.files import read_json
from shared_models.run_record import RECORD, RELEASED, SEAL, read_record, verify

if TYPE_CHECKING:
    from sqlalchemy import Connection

DATABASE = "registry.db"
PROMOTED, ROLLED_BACK = "promoted", "rolled back"
_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS versions (
        model TEXT NOT NULL, version INTEGER NOT NULL, bundle TEXT NOT NULL UNIQUE, run TEXT NOT NULL, experiment TEXT NOT NULL,
        digest TEXT NOT NULL, sites TEXT NOT NULL, rounds INTEGER NOT NULL, epsilon TEXT NOT NULL, head TEXT NOT NULL, added TEXT NOT NULL,
        by TEXT NOT NULL, PRIMARY KEY (model, version))""",
    """CREATE TABLE IF NOT EXISTS events (
        number INTEGER PRIMARY KEY, time TEXT NOT NULL, model TEXT NOT NULL, version INTEGER NOT NULL, kind TEXT NOT NULL,
        reason TEXT NOT NULL, by TEXT NOT NULL)""",
    TABLE,
    *(
        f"CREATE TRIGGER IF NOT EXISTS {table}_{word} BEFORE {word} ON {table} BEGIN SELECT RAISE(ABORT, '{table} are never changed'); END"
        for table in ("versions", "events", "exports")
        for word in ("UPDATE", "DELETE")
    ),
)


@dataclass(frozen=True)
class Version:
    """A release and where it comes from. `epsilon` and `sites` are what the run's record says; `head` is the end of that record's chain."""

    model: str
    version: int
    bundle: str
    run: str
    experiment: str
    digest: str
    sites: str
    rounds: int
    epsilon: str
    head: str
    added: str
    by: str


@dataclass(frozen=True)
class Event:
    """One decision about a model: from `time` on `version` was in use, because of `reason`."""

    number: int
    time: str
    model: str
    version: int
    kind: str
    reason: str
    by: str


class Registry:
    """The registry in `folder`, made when it is not there.

    Parameters
    ----------
    folder : Path
        Holds the database and the versions' files.
    """

    def __init__(self, folder: Path) -> None:
        from sqlalchemy import create_engine

        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._engine = create_engine(f"sqlite:///{folder / DATABASE}")
        with self._opened() as database:
            for statement in _SCHEMA:
                database.exec_driver_sql(statement)

    def add(self, run: Path, *, model: str | None = None, public: str | None = None) -> Version:
        """Take a finished run's release in as the next version of `model`, and return it. It is not in use before it is promoted.

        Parameters
        ----------
        run : Path
            Run folder; its signed record must verify.
        model : str, optional
            Name in the registry; the experiment's by default.
        public : str, optional
            The consortium's public key in hexadecimal, which must have signed the record.

        Raises
        ------
        BadInput
            The run is not as it was sealed, or its release is here already.
        BadBundle
            The bundle is not whole.
        """
        if faults := verify(run, public=public):
            raise BadInput("a release comes from a run that is as it was sealed", value=faults, remedy="`fedild verify RUN` shows it")
        bundle = load_bundle(run / "bundle")
        entries = {entry["kind"]: entry["body"] for entry in read_record(run)[0]}
        name = model or bundle.experiment.name
        if not name.replace("-", "").replace("_", "").isalnum():
            raise BadInput("a model's name has letters, digits, - and _", value=name)
        known = self.versions()
        if here := next((one for one in known if one.bundle == bundle.digest), None):
            raise BadInput("a release is registered once", value=bundle.digest[:16], remedy=f"it is version {here.version} of {here.model}")
        number = max((one.version for one in known if one.model == name), default=0) + 1
        self._copy(run, self.folder / name / str(number))
        sites = ", ".join(site["name"] for site in entries["sites"]["sites"] if site.get("role") != "held out")
        rounds = sum(entry["kind"] == "round" for entry in read_record(run)[0])
        head = read_json(run / SEAL)["head"]
        lineage = (str(entries["sites"]["run"]), bundle.experiment.name, str(entries["experiment"]["digest"]), sites, rounds)
        added = Version(name, number, bundle.digest, *lineage, str(entries["release"]["epsilon"]), head, _now(), _who())
        with self._opened() as database:
            self._insert(database, "versions", vars(added))
        return added

    def versions(self, model: str | None = None) -> list[Version]:
        """Return the versions of one model or of all, oldest first."""
        found = [Version(*row) for row in self._rows("SELECT * FROM versions ORDER BY model, version")]
        return [one for one in found if model in (None, one.model)]

    def events(self, model: str | None = None) -> list[Event]:
        """Return what was decided about one model or about all, in order."""
        found = [Event(*row) for row in self._rows("SELECT * FROM events ORDER BY number")]
        return [one for one in found if model in (None, one.model)]

    def exports(self, model: str | None = None, version: int | None = None) -> list[Export]:
        """Return what was exported, in order: of a version, of a model or of all."""
        found = [Export(*row) for row in self._rows("SELECT * FROM exports ORDER BY number")]
        return [one for one in found if model in (None, one.model) and version in (None, one.version)]

    def record_export(self, bundle: str, path: Path, *, form: str, difference: float) -> Export:
        """Keep that a registered release was exported, and return the line.

        Parameters
        ----------
        bundle : str
            Digest of the release.
        path : Path
            The file or folder that was written.
        form : str
            Name of the form, as in ``fedild export --FORM``.
        difference : float
            Largest one from the release over random records.

        Raises
        ------
        BadInput
            The release is not registered, or nothing lies at `path`.
        """
        found = self.of_bundle(bundle)
        lineage = (found.model, found.version, bundle, form, digest_of(path), float(difference), str(path.resolve()))
        added = Export(len(self.exports()) + 1, _now(), *lineage, f"fedild {version_of('fedild')}", _who())
        with self._opened() as database:
            self._insert(database, "exports", vars(added))
        return added

    def of_bundle(self, bundle: str) -> Version:
        """Return the version that holds a release.

        Raises
        ------
        BadInput
            None does.
        """
        for one in self.versions():
            if one.bundle == bundle:
                return one
        raise BadInput("the release must be registered", value=bundle[:16], remedy="`fedild registry add RUN`")

    def in_use(self, model: str) -> Version | None:
        """Return the version that the last event put into use; None before the first promotion."""
        events = self.events(model)
        return self.get(model, events[-1].version) if events else None

    def get(self, model: str, version: int | None = None) -> Version:
        """Return a version; without a number the one in use.

        Raises
        ------
        BadInput
            There is none.
        """
        if version is None:
            found = self.in_use(model)
            if found is None:
                raise BadInput("no version of this model is in use", value=model, remedy="`fedild registry promote MODEL VERSION --reason ...`")
            return found
        for one in self.versions(model):
            if one.version == version:
                return one
        held = [one.version for one in self.versions(model)]
        raise BadInput("no such version in the registry", value=f"{model} {version}", remedy=f"it holds {held} of {model}" if held else "add it")

    def promote(self, model: str, version: int, *, reason: str) -> Event:
        """Put a version into use.

        Raises
        ------
        BadInput
            No such version, in use already, no reason, or its files are not what was registered.
        """
        found, using = self.get(model, version), self.in_use(model)
        if using is not None and using.version == version:
            raise BadInput("this version is in use already", value=f"{model} {version}")
        return self._decide(found, PROMOTED, reason)

    def roll_back(self, model: str, *, reason: str) -> Event:
        """Put the version into use that was in use before the present one. Rolled back twice, it goes back by two.

        Raises
        ------
        BadInput
            Nothing was in use before, no reason, or its files are not what was registered.
        """
        stack: list[int] = []
        for event in self.events(model):
            if event.kind == PROMOTED:
                stack.append(event.version)
            else:
                stack.pop()
        if len(stack) < 2:
            raise BadInput("a roll-back needs a version that was in use before", value=model, remedy="promote another version")
        return self._decide(self.get(model, stack[-2]), ROLLED_BACK, reason)

    def verify(self, model: str, version: int) -> list[str]:
        """Return what is not as it was registered: files, bundle, the run's signed record, exports that lie where they were written."""
        return [*self._damage(model, version), *faults_of(self.exports(), self.get(model, version).bundle)]

    def _damage(self, model: str, version: int) -> list[str]:
        found, folder = self.get(model, version), self.path(model, version)
        try:
            faults = verify(folder)
        except BadInput as error:
            return [str(error)]
        try:
            if read_json(folder / SEAL)["head"] != found.head:
                faults.append(f"{SEAL} is of another record than the one that was registered")
            if load_bundle(folder / "bundle").digest != found.bundle:
                faults.append("bundle is another one than was registered")
        except BadBundle as error:
            faults.append(f"bundle: {error}")
        except (OSError, ValueError, KeyError):
            faults = faults or [f"{SEAL} cannot be read"]
        return faults

    def path(self, model: str, version: int) -> Path:
        """Return the folder of a version: what its run released."""
        return self.folder / model / str(version)

    def _decide(self, version: Version, kind: str, reason: str) -> Event:
        if not reason.strip():
            raise BadInput("a promotion or roll-back has a reason", remedy="--reason TEXT: it is kept for ever")
        if faults := self._damage(version.model, version.version):
            raise BadInput("a version in use is what was registered", value=faults, remedy="register the release anew from its run")
        number = len(self.events()) + 1
        event = Event(number, _now(), version.model, version.version, kind, reason.strip(), _who())
        with self._opened() as database:
            self._insert(database, "events", vars(event))
        return event

    def _copy(self, run: Path, target: Path) -> None:
        part = target.with_name(f".{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(target, ignore_errors=True)  # what a crash left behind: the database does not know it
        part.mkdir(parents=True)
        for name in (*RELEASED, RECORD, SEAL):
            if (run / name).is_dir():
                shutil.copytree(run / name, part / name)
            elif (run / name).exists():
                shutil.copyfile(run / name, part / name)
        for path in part.rglob("*"):
            if path.is_file():
                path.chmod(0o444)
        part.replace(target)

    @contextmanager
    def _opened(self) -> Iterator[Connection]:
        with self._engine.begin() as database:
            yield database

    def _rows(self, statement: str) -> list[tuple[Any, ...]]:
        with self._opened() as database:
            return [tuple(row) for row in database.exec_driver_sql(statement)]

    def _insert(self, database: Connection, table: str, values: Mapping[str, Any]) -> None:
        marks = ", ".join("?" * len(values))
        database.exec_driver_sql(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", tuple(values.values()))  # noqa: S608


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in a container
        return str(os.getuid())
