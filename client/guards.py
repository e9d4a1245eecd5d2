"""What a deployed worker has besides its data: approvals, the audit log, its signing key, its peers, and the memory of its last answer.

The memory makes every question repeatable: one that was answered is answered with the same bits at once, one that was interrupted goes on
inside the round. So a messenger, a SuperNode or a server that was killed may simply ask again.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from client.approval import Approvals
from client.audit import AuditLog
from client.privacy.ledger import Ledger
from client.privacy.secure_sum.peers import Peers
from client.training.steps import StepFile
from shared_models.core.errors import FedILDError
from shared_models.core.files import canonical_json, sha256, write_atomic
from shared_models.core.state import digest, size_bytes
from shared_models.messages import Job, Update, from_frame, job_head, to_frame
from shared_models.signing import signing_key

SEAL_BYTES = 32


class Answers:
    """The last answer of a site, and the step checkpoint of the round under way; both in ``workspace/steps``, 0600.

    Parameters
    ----------
    folder : Path
        ``workspace/steps``.
    stopping : callable
        Says yes once the worker is to end.
    key : bytes
        Seals the answer (HMAC-SHA-256, RFC 2104): one that was damaged, or signed with a key that the site has changed since, is made again.
    """

    def __init__(self, folder: Path, *, stopping: Callable[[], bool] = bool, key: bytes = b"") -> None:
        self.folder, self.stopping, self.key = folder, stopping, key
        self._question: tuple[Job | None, str] = (None, "")

    def find(self, job: Job) -> Update | None:
        """Return the answer that was given to this very question (run, round, model, experiment, rule), if it was the last one."""
        try:
            kept = self._path(job, "frame").read_bytes()
            seal, frame = kept[:SEAL_BYTES], kept[SEAL_BYTES:]
            return from_frame(frame, Update) if hmac.compare_digest(seal, hmac.digest(self.key, frame, "sha256")) else None
        except (OSError, FedILDError):
            return None

    def keep(self, job: Job, update: Update) -> None:
        """Keep a released answer; earlier answers and checkpoints go."""
        path = self._path(job, "frame")
        frame = to_frame(update)
        write_atomic(path, [hmac.digest(self.key, frame, "sha256"), frame], mode=0o600)
        self._remove_others(path.name)

    def steps(self, job: Job, names: Sequence[str]) -> StepFile:
        """Return the step checkpoint of the round that `job` asks for, with the patients `names` in their order."""
        cohort = sha256(canonical_json(list(names)).encode())[:8]
        path = self._path(job, f"{cohort}.safetensors")
        self._remove_others(path.name)
        return StepFile(path, stopping=self.stopping)

    def _path(self, job: Job, ending: str) -> Path:
        if self._question[0] is not job:
            # Receipts are no part of the question: a server that has learnt of our answer asks the same thing with another one.
            text = canonical_json([{**job_head(job), "receipts": {}}, digest(job.state), digest(job.extra)])
            self._question = (job, sha256(text.encode())[:24])
        return self.folder / f"{job.round:06d}-{self._question[1]}.{ending}"

    def _remove_others(self, name: str) -> None:
        for path in self.folder.glob("*"):
            if path.name != name:
                path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Guards:
    """Approvals, audit log, signing key (32 secret bytes), memory, privacy ledger and known peers of a deployed worker."""

    approvals: Approvals
    audit: AuditLog
    key: bytes
    answers: Answers
    ledger: Ledger
    peers: Peers | None = None

    @staticmethod
    def of(folder: Path, workspace: Path, *, stopping: Callable[[], bool] = bool) -> Guards:
        """Return the guards of a site folder.

        Raises
        ------
        Refused
            E_KEY_FILE.
        """
        key = signing_key(folder / "secrets" / "signing.key")
        answers = Answers(workspace / "steps", stopping=stopping, key=key)
        return Guards(Approvals(folder), AuditLog(folder), key, answers, Ledger(folder), Peers(folder))

    def note(self, job: Job, update: Update) -> None:
        """Write into the audit log what came of a job."""
        if update.code:
            self.audit.note("refused", run=_word(job.run), round=job.round, kind=job.kind, reason=update.code)
        else:
            sizes = {"bytes": size_bytes(update.state), "keys": len(update.state), "num_cases": update.num_cases}
            self.audit.note("released", run=_word(job.run), round=job.round, **sizes)


def _word(text: str) -> str:
    # The run's name comes from the server and may hold anything: what is no plain word is written as its digest.
    return text if text.replace("-", "").isalnum() and text.isascii() and len(text) <= 64 else sha256(text.encode())[:16]
