"""The deployed worker in a secure sum: approved, certified and signed, killed between any two stages, and never in clear."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.approval import Approvals
from client.audit import AuditLog
from client.guards import Guards
from client.identity import make_site
from client.site import Site
from client.worker import Worker
from server.runs.check import check_sender
from server.runs.secure import SecureSum
from shared_models.catalogue import initial_state, inputs_of
from shared_models.experiment import Experiment
from shared_models.messages import Job, Update, to_frame
from shared_models.secure_sum.roster import certify
from shared_models.signing import public_half, signing_key
from tests.client.papers import CONSORTIUM, write_kit
from tests.client.sites import table_experiment, table_site

NAMES = ("alpha", "beta", "gamma", "delta")


def experiment_of() -> Experiment:
    plain = table_experiment(rounds=2)
    return Experiment.model_validate({**plain.model_dump(), "federation": {**plain.federation.model_dump(), "quorum": 3, "secure_sum": True}})


EXPERIMENT = experiment_of()


@pytest.fixture
def sites(tmp_path: Path) -> list[Path]:
    folders = []
    for seed, name in enumerate(NAMES):
        folder = table_site(tmp_path, name, seed=seed).parent
        write_kit(folder / "kit.json", make_site(folder, name))
        Approvals(folder).decide("approved", kind="experiment", name="table", digest=EXPERIMENT.digest)
        folders.append(folder)
    return folders


class Processes:
    """Each job meets a worker that has just been started: what it knows is on its disk."""

    def __init__(self, folders: list[Path]) -> None:
        self.folders = {folder.name: folder for folder in folders}
        self.keys = {name: public_half(signing_key(folder / "secrets" / "signing.key")) for name, folder in self.folders.items()}
        self.said: list[tuple[Job, Update]] = []
        self.lost: set[str] = set()
        self.twice = False

    def worker(self, name: str) -> Worker:
        site = Site.load(self.folders[name] / "site.toml")
        return Worker(site, guards=Guards.of(site.folder, site.workspace))

    def __call__(self, jobs: Mapping[str, Job], timeout_s: float) -> Iterator[tuple[str, Update | str]]:
        for name, job in jobs.items():
            if job.kind == "fit" and name in self.lost:
                continue
            update = self.worker(name).handle(job)
            if self.twice:
                assert to_frame(self.worker(name).handle(job)) == to_frame(update)  # the answer was lost on its way: it is asked again
            self.said.append((job, update))
            if not update.code:
                check_sender(update, run="run", round=job.round, site=name, key=self.keys[name])
            yield name, update.code or update


def fit(round: int = 1) -> Job:
    state = initial_state(EXPERIMENT.model, inputs=inputs_of(EXPERIMENT), outputs=2, seed=0)
    return Job(run="run", round=round, kind="fit", state=state, experiment=EXPERIMENT.to_json(), rule={"name": "plain"})


def test_signed_stages_through_restarted_workers(sites: list[Path]) -> None:
    line = Processes(sites)
    line.lost, line.twice = {"beta"}, True
    secure = SecureSum(EXPERIMENT, run="run", certificate=certify("run", line.keys, CONSORTIUM))
    found = secure.sum(fit(), line, sites=NAMES, current=None)
    assert found.total is not None
    assert found.refused == {}
    assert found.total.state["n"][0] == found.total.cases == 3 * 28
    assert {job.kind for job, _ in line.said} == {"keys", "shares", "fit", "agree", "unmask"}
    for _, update in line.said:
        assert (update.num_cases, update.steps, update.metrics) == (0, 0, {})
    judged = secure.sum(replace(fit(2), kind="judge"), line, sites=NAMES, current=None)
    assert judged.total is not None
    assert judged.total.metrics["val_cases"] == 4 * 12
    assert [entry["name"] for entry in AuditLog(sites[0]).entries() if entry["event"] == "peer"] == sorted(NAMES)


IN_CLEAR: dict[str, Callable[[Job], Job]] = {
    "a fit in clear": lambda job: job,
    "a judgement in clear": lambda job: replace(job, kind="judge"),
    "masks of no group": lambda job: replace(job, rule={"name": "plain", "masks": {"group": "0" * 16, "slot": 0, "sites": list(NAMES)}}),
    "masks that are none": lambda job: replace(job, rule={"name": "plain", "masks": None}),
}


@pytest.mark.parametrize("name", IN_CLEAR)
def test_nothing_leaves_in_clear(name: str, sites: list[Path]) -> None:
    line = Processes(sites)
    update = line.worker("alpha").handle(IN_CLEAR[name](fit()))
    assert update.code in ("E_SECURE_SUM", "E_MASK_GROUP")
    assert update == Update(run="run", round=1, site="alpha", code=update.code)


def test_stages_need_an_experiment_that_asks_for_them(sites: list[Path]) -> None:
    plain = table_experiment()
    Approvals(sites[0]).decide("approved", kind="experiment", name="table", digest=plain.digest)
    worker = Processes(sites).worker("alpha")
    for kind in ("keys", "shares", "agree", "unmask"):
        job = Job(run="run", round=1, kind=kind, experiment=plain.to_json(), rule={"group": "0" * 16, "slots": 1})  # type: ignore[arg-type]
        assert worker.handle(job).code == "E_SECURE_SUM"
    masks = {"group": "0" * 16, "slot": 0, "sites": list(NAMES)}
    assert worker.handle(replace(fit(), experiment=plain.to_json(), rule={"name": "plain", "masks": masks})).code == "E_SECURE_SUM"


def test_a_site_that_did_not_approve_gives_no_keys(sites: list[Path]) -> None:
    Approvals(sites[0]).decide("revoked", kind="experiment", name="table", digest=EXPERIMENT.digest)
    line = Processes(sites)
    found = SecureSum(EXPERIMENT, run="run", certificate=certify("run", line.keys, CONSORTIUM)).sum(fit(), line, sites=NAMES, current=None)
    assert found.refused == {"alpha": "E_NOT_APPROVED"}
    assert found.total is not None


def test_a_change_too_large_for_the_sum_is_refused_by_its_site(tmp_path: Path) -> None:
    from shared_models.core.errors import Refused
    from shared_models.secure_sum.vector import Part, encode

    current = {"w": np.zeros(3, np.float32)}
    for part in (
        Part({"w": np.array([0, 5, 0], np.float32)}, 4096, {}),
        Part({"w": np.array([0, np.nan, 0], np.float32)}, 10, {}),
        Part(current, 4097, {}),
    ):
        with pytest.raises(Refused) as refused:
            encode(part, current, EXPERIMENT, sites=4)
        assert refused.value.code == "E_MASK_RANGE"
