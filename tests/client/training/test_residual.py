"""The residual on the site's disk: carried from round to round, the same for a round that is asked again, dropped with its run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client.site import Site
from client.training.residual import pack_update
from client.worker import Worker
from shared_models.catalogue import initial_state
from shared_models.compression import compress, compression_of, decompress, packed_layout, top_k
from shared_models.core.choices import Choice
from shared_models.core.errors import Refused
from shared_models.core.state import digest, same_layout, size_bytes
from shared_models.experiment import Experiment
from shared_models.messages import Job
from tests.client.sites import patch_experiment, patch_site

CURRENT = {"w": np.zeros(20, np.float32), "n": np.array([1])}
PACKING = top_k(keep=0.2)


def trained(number: int) -> dict[str, np.ndarray]:
    return {"w": np.random.default_rng(number).normal(size=20).astype(np.float32), "n": np.array([number])}


def pack(folder: Path, number: int, run: str = "r1") -> dict[str, np.ndarray]:
    return pack_update(trained(number), CURRENT, PACKING, workspace=folder, run=run, round=number)


def test_rounds_carry_what_was_left_out(tmp_path: Path) -> None:
    left: dict[str, np.ndarray] = {}
    for number in (1, 2, 3, 5):
        packed, left = compress(trained(number), CURRENT, left, PACKING)
        assert digest(pack(tmp_path, number)) == digest(packed)
    assert sorted(path.name for path in (tmp_path / "residual").iterdir()) == ["r1-000003.safetensors", "r1-000005.safetensors"]


def test_a_round_that_is_asked_again_gives_the_same_bits(tmp_path: Path) -> None:
    first = [digest(pack(tmp_path, number)) for number in (1, 2, 3)]
    assert digest(pack(tmp_path, 3)) == first[2]
    assert digest(pack(tmp_path, 3)) == first[2]
    fresh = compress(trained(3), CURRENT, {}, PACKING)[0]
    assert digest(fresh) != first[2]  # the residual matters at all


def test_another_run_owes_nothing(tmp_path: Path) -> None:
    for number in (1, 2):
        pack(tmp_path, number)
    packed = pack(tmp_path, 1, run="r-2")
    assert digest(packed) == digest(compress(trained(1), CURRENT, {}, PACKING)[0])
    assert [path.name for path in (tmp_path / "residual").iterdir()] == ["r-2-000001.safetensors"]


def test_what_is_not_finite_is_not_kept(tmp_path: Path) -> None:
    bad = {**trained(1), "w": np.full(20, np.nan, np.float32)}
    with pytest.raises(Refused) as refused:
        pack_update(bad, CURRENT, PACKING, workspace=tmp_path, run="r1", round=1)
    assert refused.value.code == "E_VALUES"
    assert not (tmp_path / "residual").exists()


@pytest.mark.parametrize(("choice", "share"), [({"name": "fp16"}, 0.55), ({"name": "int8"}, 0.35), ({"name": "top_k", "keep": 0.05}, 0.3)])
def test_a_worker_sends_what_the_experiment_asks_for(tmp_path: Path, choice: dict[str, object], share: float) -> None:
    plain = patch_experiment()
    federation = plain.federation.model_copy(update={"compression": Choice.model_validate(choice)})
    experiment = plain.model_copy(update={"federation": federation})
    worker = Worker(Site.load(patch_site(tmp_path, "alpha")))
    state = initial_state(experiment.model, inputs=1, outputs=2, seed=0)

    def job(one: Experiment) -> Job:
        return Job(run="r1", round=1, kind="fit", state=state, experiment=one.to_json(), rule={"name": "plain", "lr_factor": 1.0})

    whole, packed = worker.handle(job(plain)), worker.handle(job(experiment))
    assert whole.code == packed.code == ""
    packing = compression_of(federation.compression)
    assert packing is not None
    same_layout(packed.state, packed_layout(state, packing))
    assert size_bytes(packed.state) < share * size_bytes(whole.state)
    back = decompress(packed.state, state, packing)
    moved = max(float(np.abs(whole.state[key] - state[key]).max()) for key in state)
    assert moved > 1e-3
    limit = {"fp16": 1e-3, "int8": 1e-2, "top_k": 1.0}[str(choice["name"])] * moved
    assert max(float(np.abs(back[key] - whole.state[key]).max()) for key in state) <= limit
