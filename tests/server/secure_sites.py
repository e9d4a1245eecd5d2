"""Sites of a secure sum without training: the real masking on a folder each, a given update, and every way to drop out or to be lied to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from client.privacy.secure_sum.mask import masked, member_count
from client.privacy.secure_sum.member import Member
from client.privacy.secure_sum.peers import Peers
from client.privacy.secure_sum.summand import stage_arrays
from shared_models.core.arrays import State
from shared_models.core.choices import Choice
from shared_models.core.errors import FedILDError
from shared_models.experiment import Data, Experiment, Federation
from shared_models.messages import Job, Update, from_frame, signed_bytes, to_frame
from shared_models.secure_sum.vector import Part, encode
from shared_models.signing import sign

NAMES: tuple[str, ...] = ("alpha", "beta", "delta", "epsilon", "gamma")


def experiment_of(strategy: Choice | None = None, **settings: Any) -> Experiment:
    federation: dict[str, Any] = {"rounds": 3, "quorum": 3, "deadline_s": 5.0, "secure_sum": settings or True}
    return Experiment(
        name="sum",
        data=Data(classes=("a", "b")),
        model=Choice(name="patch_cnn"),
        strategy=strategy,
        federation=Federation.model_validate(federation),
    )


def weights(name: str, like: State, size: float = 0.1) -> State:
    """What a site has learnt: it depends on its name, and for each key on that alone."""

    def learnt(key: str, value: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng(list(f"{name}/{key}".encode()))
        return (value + rng.normal(0, size, value.shape)).astype(value.dtype) if value.dtype.kind == "f" else value + len(name)

    return {key: learnt(key, value) for key, value in like.items()}


class Ward:
    """One site: its masking and its part of the sum."""

    def __init__(
        self, folder: Path, name: str, part: Callable[[Job], Part], experiment: Experiment, *, key: bytes | None = None, gradient: bool = True
    ) -> None:
        self.name, self.part, self.experiment, self.key, self.gradient = name, part, experiment, key, gradient
        self.folder = folder / name
        self.seen: list[Job] = []

    def handle(self, job: Job) -> Update:
        """Answer as the worker does; a new `Member` for every job, as after a restart."""
        self.seen.append(job)
        peers = Peers(self.folder) if self.key else None
        member = Member.of(self.folder, self.name, key=self.key, peers=peers)
        empty = Update(run=job.run, round=job.round, site=self.name)
        try:
            if job.kind in ("fit", "judge"):
                part = self.part(job)
                current = job.state if self.gradient and job.kind == "fit" else None
                words = encode(part, current, self.experiment, sites=member_count(member, job))
                update = masked(member, job, replace(empty, state=part.state, num_cases=part.cases, steps=3, metrics={"val_loss": 0.5}), words)
            else:
                settings = self.experiment.federation.secure_sum
                assert settings is not None
                update = replace(empty, extra=stage_arrays(member, job, settings, quorum=self.experiment.federation.quorum))
        except FedILDError as error:
            return replace(empty, code=error.code)
        return replace(update, signature=sign(self.key, signed_bytes(update))) if self.key else update


class Line:
    """The server's line to the wards. Everything that reaches the server is kept: its transcript."""

    def __init__(self, wards: Mapping[str, Ward], *, silent: Mapping[str, set[str]] | None = None) -> None:
        self.wards, self.silent = dict(wards), silent or {}
        self.transcript: list[tuple[str, Update]] = []
        self.sent: list[tuple[str, Job]] = []
        self.lie: Callable[[str, Job], Job] = lambda site, job: job

    def __call__(self, jobs: Mapping[str, Job], timeout_s: float) -> Iterator[tuple[str, Update | str]]:
        assert timeout_s > 0
        for site, job in jobs.items():
            if site in self.silent.get(job.kind, set()):
                continue
            self.sent.append((site, job))
            update = self.wards[site].handle(from_frame(to_frame(self.lie(site, job)), Job))
            self.transcript.append((job.kind, update))
            yield site, update.code or update
