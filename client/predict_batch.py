"""A release applied to many studies: one folder each, complete or absent; what is done is not done again, and one bad study stops no other."""

from __future__ import annotations

import csv
import functools
import io
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from client.cases.cache import code_version
from client.delivered import JSON_NAME, PAGE_NAME, clear, write_outputs
from client.dicom.scan import list_files
from client.explanation import AUTO
from client.intake.batch import stamp_of
from client.predict import Ready, make_ready, predict_with
from client.prediction import FORMAT
from client.prediction_pdf import require_pdf
from client.processes import NO_LIMITS, Limits, Lost, Processes
from client.returned import write_results
from client.site import Site
from shared_models.bundle import NOTICE, load_bundle
from shared_models.core.errors import BadInput, BadStudy, FedILDError
from shared_models.core.files import pack_state, read_json, sha256, sha256_file, write_atomic, write_json
from shared_models.core.locks import lock

LOGGER = logging.getLogger(__name__)
MADE_NAME, SUMMARY_NAME, TABLE_NAME = "made.json", "batch.json", "batch.csv"
PART = ".part-"

State = Literal["done", "kept", "failed"]


@dataclass(frozen=True)
class Asked:
    """What is wanted of every study; fields as the arguments of `client.predict.predict_study`."""

    bundle: Path
    personal: Path | None = None
    site: Path | None = None
    explanation: str = AUTO
    patterns: Path | None = None
    clinical: Path | None = None
    dicom: bool = False
    pdf: bool = False
    pictures: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a study: ``done`` now, ``kept`` from before, or ``failed`` with a code and, of a study, the reason."""

    study: str
    state: State
    code: str = ""
    reason: str = ""
    seconds: float = 0.0


def studies_in(folders: Iterable[Path]) -> list[Path]:
    """Return the folders that lie in `folders`, each a study of one patient; hidden ones are passed over.

    Raises
    ------
    BadInput
        A folder is not there, or holds none.
    """
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise BadInput("a folder of studies must exist", value=str(folder), remedy="check the path")
        inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        if not inside:
            raise BadInput("a folder of studies holds a folder for each study", value=str(folder), remedy="name the study itself, without --batch")
        found += inside
    return found


def predict_batch(
    studies: Sequence[Path],
    asked: Asked,
    out: Path,
    *,
    processes: int = 1,
    limits: Limits = NO_LIMITS,
    progress: Callable[[int, int], None] | None = None,
    told: Callable[[str], object] | None = None,
) -> list[Outcome]:
    """Apply a release to many studies; write ``OUT/STUDY/`` for each and ``batch.json`` and ``batch.csv`` over all of them.

    A study's folder holds everything or is not there: it is made under another name and renamed. ``made.json`` in it holds what it was made of
    (release, options, code, sizes and times of the study's files); where that is the same, the study is not done again.

    Parameters
    ----------
    studies : sequence of Path
        Folders with one patient's CT each; their names, which must differ, are those of the results.
    asked : Asked
        Release and options.
    out : Path
        Made when missing; one batch at a time writes there.
    processes : int
        That work at the same time, each with a release of its own in memory.
    limits : Limits, optional
        Seconds and memory of one study. With limits, or several processes, a decoder that takes its process down costs that study alone.
    progress : callable, optional
        Called with (studies done, studies in all).
    told : callable, optional
        Called with a line on each study that failed.

    Raises
    ------
    BadInput
        Two studies of one name, a study that is named like a summary, or an option that does not go with the release.
    BadBundle
        The release is damaged.
    """
    names = [study.resolve().name for study in studies]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadInput("studies of a batch must have names of their own", value=twice[:3], remedy="rename a folder, or write to another --out")
    if bad := sorted({SUMMARY_NAME, TABLE_NAME} & set(names)):
        raise BadInput("a study must not be named like the summary", value=bad[0], remedy="rename the folder")
    if asked.pdf:
        require_pdf()
    clinical = None if asked.clinical is None else sha256_file(asked.clinical)
    settings = _settings_of(_ready(asked, clinical), asked, clinical)
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    outcomes: dict[str, Outcome] = {}

    def ended(one: Outcome) -> None:
        outcomes[one.study] = one
        if one.state == "failed" and told is not None:
            told(f"{one.study}: {one.code}{' ' + one.reason if one.reason else ''}")
        if progress is not None:
            progress(len(outcomes), len(studies))
        _write_summary(out, [outcomes[name] for name in names if name in outcomes], len(studies))

    with lock(out / ".lock", what="a batch"):
        for left in out.glob(f"{PART}*"):  # of a batch that was killed
            shutil.rmtree(left, ignore_errors=True)
        todo: list[tuple[Path, str, str]] = []
        for study, name in zip(studies, names, strict=True):
            stamp = _stamp(settings, study)
            if stamp is not None and _is_made(out / name, stamp):
                ended(Outcome(name, "kept"))
            else:
                shutil.rmtree(out / name, ignore_errors=True)  # it is of other files, or of another release
                todo.append((study, name, stamp or ""))
        with Processes(min(processes, len(todo)), limits=limits) as crew:
            for outcome in crew.map(partial(_attempt, asked=asked, clinical=clinical, out=out.resolve()), todo, lost=_lost):
                ended(outcome)
        for left in out.glob(f"{PART}*"):  # of a study whose process was ended
            shutil.rmtree(left, ignore_errors=True)
    return [outcomes[name] for name in names]


@functools.lru_cache(maxsize=1)
def _ready(asked: Asked, clinical: str | None) -> Ready:
    del clinical  # its digest: another table is another release made ready
    own = None if asked.personal is None else Site.load(asked.personal)
    options: dict[str, Any] = {"site": asked.site, "explanation": asked.explanation, "patterns": asked.patterns, "clinical": asked.clinical}
    return make_ready(load_bundle(asked.bundle), own, **options)


def _settings_of(release: Ready, asked: Asked, clinical: str | None) -> dict[str, Any]:
    """Return all that a result depends on beside the study itself: contents, never paths."""
    return {
        "format": FORMAT,
        "code": [version("fedild"), code_version()],
        "bundle": release.bundle.digest,
        "weights": sha256(pack_state(release.bundle.state)),  # a personal model has the digest of the release that it stands beside
        "known": sha256(release.known.tobytes()),
        "patterns": None if release.source is None else release.source.digest,
        "clinical": clinical,
        "options": [asked.explanation, asked.dicom, asked.pdf, asked.pictures],
    }


def _stamp(settings: dict[str, Any], study: Path) -> str | None:
    try:
        return stamp_of(settings, list_files(study)) if study.is_dir() else None
    except OSError:
        return None


def _is_made(folder: Path, stamp: str) -> bool:
    try:
        made = read_json(folder / MADE_NAME)
        return made["stamp"] == stamp and all((folder / name).is_file() for name in (JSON_NAME, PAGE_NAME))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _attempt(job: tuple[Path, str, str], *, asked: Asked, clinical: str | None, out: Path) -> Outcome:
    study, name, stamp = job
    began = time.monotonic()
    part = Path(tempfile.mkdtemp(prefix=PART, dir=out))
    try:
        clear(part)
        keep = partial(write_results, part) if asked.dicom else None
        found = predict_with(_ready(asked, clinical), study, keep=keep)
        write_outputs(found, part, pdf=asked.pdf, pictures=asked.pictures)
        write_json(part / MADE_NAME, {"stamp": stamp, "notice": NOTICE}, mode=0o600)
        part.rename(out / name)
        _flush(out)
    except MemoryError:
        return Outcome(name, "failed", "E_MEMORY", "TOO_LARGE", round(time.monotonic() - began, 3))
    except Exception as error:  # one study never stops the others; the text stays on this machine
        LOGGER.debug("trace", exc_info=True)
        code = error.code if isinstance(error, FedILDError) else "E_FAILED"
        reason = error.reason if isinstance(error, BadStudy) else ""
        return Outcome(name, "failed", code, reason, round(time.monotonic() - began, 3))
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Outcome(name, "done", seconds=round(time.monotonic() - began, 3))


def _lost(job: tuple[Path, str, str], reason: Lost) -> Outcome:
    return Outcome(job[1], "failed", "E_FAILED", "DIED" if reason == "FAILED" else reason)


def _flush(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_summary(out: Path, outcomes: Sequence[Outcome], wanted: int) -> None:
    rows = [asdict(one) for one in outcomes]
    counts = {state: sum(one.state == state for one in outcomes) for state in ("done", "kept", "failed")}
    summary = {"notice": NOTICE, "wanted": wanted, **counts, "studies": rows}
    write_json(out / SUMMARY_NAME, summary, mode=0o600, durable=False)
    text = io.StringIO()
    table = csv.DictWriter(text, ["study", "state", "code", "reason", "seconds"], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_atomic(out / TABLE_NAME, text.getvalue().encode(), mode=0o600, durable=False)
