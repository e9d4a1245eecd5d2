"""Every bench runs and prints its table; how long anything takes is not asserted."""

from __future__ import annotations

import doctest
import importlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import deployment, federation, gpu, heart_table, processes, rig, seeds, strategies, zoo_patches
from bench.relay import Crossed, Relay
from bench.timing import Arm, against, in_turns, ratios
from shared_models.catalogue import initial_state
from shared_models.core.files import write_json
from shared_models.core.state import size_bytes
from sim.check import faults
from sim.comparison.arms import arms_of
from sim.experiments import find

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("federation", ("seconds: median (range)", "peak MB", "default backend / plain loop, one thread")),
        ("aggregation", ("trimmed_mean", "/ copy", "Flower's / it", "models of memory", "exact_sum", "union")),
        ("ct_steps", ("ours, ms a slice", "ours / theirs", "measuring sharpness")),
        ("radiomics", ("family", "ours, s", "pyradiomics-bhklab")),
        ("studies", ("s per phantom volume", "s per prepared study", "segmenting")),
        ("ct", ("series / raw bytes", "plain / ours", "peak MB", "Dice of the lung masks", "studies a minute")),
        ("secure_sum", ("masking, s a site", "of the plain round", "one step")),
        ("seeds", ("federated", "alone, mean", "pooled")),
        pytest.param("zoo_patches", ("mean recall", "attention_cnn", "forest", "MB a round"), marks=pytest.mark.zoo),
        pytest.param("generation", ("drawn share", "another scanner", "enhanced", "gain"), marks=pytest.mark.zoo),
        pytest.param("fusion_arms", ("late mean", "concat", "loss, random search"), marks=pytest.mark.zoo),
        pytest.param("adaptation", ("pretrained, LoRA", "scratch, whole", "kB a round"), marks=pytest.mark.zoo),
        pytest.param("pattern_maps", ("macro F1", "honeycombing", "called so"), marks=pytest.mark.zoo),
        pytest.param("gpu", ("ms a step", "attention_cnn", "peak MB"), marks=pytest.mark.zoo),
        pytest.param("predict", ("where the processor's seconds go", "segmenting", "explanation", "peak MB"), marks=pytest.mark.zoo),
        ("survival", ("lifelines / it", "rounds", "kB a site and round")),
        pytest.param("planted", ("found", "asked", "Cox (SSc)", "survival forest"), marks=pytest.mark.zoo),
        pytest.param("visits", ("C, first visit", "AUC(3), best of measured", "AUC(3), planted", "C gained", "as asked"), marks=pytest.mark.zoo),
        pytest.param("site_bias", ("stratified", "unstratified", "confounded", "interval holds the truth"), marks=pytest.mark.zoo),
    ],
)
def test_smoke(name: str, columns: tuple[str, ...]) -> None:
    run = subprocess.run([sys.executable, "-m", f"bench.{name}", "--smoke"], cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stderr
    assert f"python -m bench.{name} --smoke" in run.stdout
    assert " cores" in run.stdout
    for column in columns:
        assert column in run.stdout


@pytest.mark.parametrize("name", ["timing", "seeds", "processes", "deployment", "predict", "radiomics"])
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"bench.{name}"))
    assert result.attempted > 0
    assert result.failed == 0


def test_the_bench_of_gpus_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    with pytest.raises(SystemExit, match="E_DEVICE: this bench needs a CUDA device"):
        gpu.main()


def test_systems_that_vote_are_matched_by_patch(tmp_path: Path) -> None:
    said = {"one": ([0, 1], [[0.9, 0.1], [0.6, 0.4]], ["a", "b"]), "other": ([1, 0], [[0.1, 0.9], [0.8, 0.2]], ["b", "a"])}
    for name, answer in said.items():
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "predictions.json", {"fold 1": list(answer)})
    assert zoo_patches.united(("x", "y"), [tmp_path / "one"])[0] == 0.5
    assert zoo_patches.united(("x", "y"), [tmp_path / "one", tmp_path / "other"]) == (1.0, 1.0, "1.000 - 1.000")


def test_arms_run_in_turns_and_each_in_its_own_process(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = f"import os; open({str(log)!r}, 'a').write(os.environ['NAME'] + os.environ.get('GONE', '') + '\\n')"
    arms = [Arm(name, [sys.executable, "-c", code], {"NAME": name, "GONE": None}) for name in "AB"]
    times = in_turns(arms, repeats=2, say=lambda line: None)
    assert log.read_text().split() == ["A", "B"] * 3
    assert [len(t.wall_s) for t in times.values()] == [2, 2]


def test_memory_counts_all_processes_of_an_arm() -> None:
    hold = "import subprocess, sys, time; x = bytearray(60_000_000); x[::4096] = b'1' * len(x[::4096])"
    child = f"{hold}; time.sleep(1)"
    parent = f"{hold}; subprocess.run([sys.executable, '-c', {child!r}])"
    times = in_turns([Arm("two", [sys.executable, "-c", parent])], repeats=0, say=lambda line: None)
    assert 110 < times["two"].peak_mb < 250


def test_an_arm_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="no luck"):
        in_turns([Arm("bad", [sys.executable, "-c", "raise SystemExit('no luck')"])], repeats=0, say=lambda line: None)


def test_ratios_are_within_a_turn() -> None:
    assert ratios([1.0, 10.0], [2.0, 20.0]) == [0.5, 0.5]
    assert against(3, [2.0, 4.0, 5.0], at_least=True).endswith("met")
    assert against(0.35, [0.4]).endswith("MISSED")


def test_other_numbers_of_steps_are_seen(tmp_path: Path) -> None:
    (tmp_path / "plain_steps").write_text("8")
    (tmp_path / "run-pool").mkdir()
    lines = [{"round": r, "sites": {"a": {"steps": 2}, "b": {"steps": 1}}} for r in (1, 2)]
    (tmp_path / "run-pool" / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert federation.steps_taken(tmp_path) == {"plain": 8, "run-pool": 6}


def _figures(federated: float, alone: float, pooled: float) -> dict[str, Any]:
    def held(value: float) -> dict[str, Any]:
        return {"held_out": {"auroc_macro": {"value": value, "low": None, "high": None}}}

    return {"seed": 0, "federated": held(federated), "pooled": held(pooled), "local_only": {"a": held(alone - 0.1), "b": held(alone + 0.1)}}


@pytest.mark.parametrize(
    ("figures", "goals"),
    [
        ((0.95, 0.80, 0.96), ("met", "met", "met")),
        ((0.89, 0.80, 0.90), ("MISSED", "met", "met")),
        ((0.92, 0.90, 0.92), ("met", "MISSED", "met")),
        ((0.91, 0.80, 0.97), ("met", "met", "MISSED")),
    ],
)
def test_a_missed_goal_is_seen(figures: tuple[float, float, float], goals: tuple[str, ...]) -> None:
    row, met = seeds.judge(_figures(*figures), 1.0)
    assert tuple(row[-3:]) == goals
    assert met == (goals == ("met",) * 3)


@pytest.mark.parametrize(("federated", "code"), [(0.95, None), (0.80, 1)])
def test_finished_runs_are_used_again_and_decide_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], federated: float, code: int | None
) -> None:
    for seed in (0, 1):
        here = tmp_path / f"seed-{seed}"
        here.mkdir()
        (here / "report.html").write_text("")
        write_json(here / "metrics.json", _figures(0.95 if seed == 0 else federated, 0.7, 0.96) | {"seed": seed})
        write_json(here / "times.json", {"federate": 30.0, "judge": 12.0})
    monkeypatch.setattr(sys, "argv", ["seeds.py", "--seeds", "0,1", "--out", str(tmp_path)])
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("a finished run was made again"))
    if code is None:
        seeds.main()
    else:
        with pytest.raises(SystemExit) as end:
            seeds.main()
        assert end.value.code == code
    assert "42" in capsys.readouterr().out


def test_the_plain_loop_trains_the_very_network_of_the_federation() -> None:
    import torch

    from bench.plain_loop import build as plain
    from bench.sites import WORKS
    from shared_models.catalogue import build

    for work in WORKS.values():
        experiment = work.experiment()
        ours, theirs = build(experiment.model, inputs=1, outputs=2), plain(experiment.model_dump(mode="json")["model"], 2)
        theirs.load_state_dict(ours.state_dict())
        shape = (2, 1, *experiment.inputs.shape_zyx) if work.name == "densenet121" else (2, experiment.inputs.slices, *[experiment.inputs.size] * 2)
        images = torch.from_numpy(np.random.default_rng(0).random(shape, np.float32))
        with torch.no_grad():
            torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))


def _sample(round: int, rss: dict[tuple[str, str, int], float]) -> processes.Sample:
    return processes.Sample(float(round), round, {process: processes.Reading(mb / 2, mb, mb + 1, 10 + process[2]) for process, mb in rss.items()})


def test_growth_is_that_of_the_second_half_and_of_processes_that_stay() -> None:
    app, door, messenger = ("server", "server app", 1), ("server", "door", 2), ("s0", "messenger", 3)
    samples = [_sample(r, {app: 100.0 + (5 * r if r < 10 else 50 + 0.25 * r), door: 40.0}) for r in range(20)]
    samples[15].readings[messenger] = processes.Reading(1, 900, 900, 5)  # type: ignore[index]
    rows, worst = deployment.growth_rows(samples, 20)
    assert [row[0] for row in rows] == ["server: door", "server: server app"]
    assert worst == pytest.approx(0.25)
    assert rows[1][3:5] == ["+0.250", "<= 0.5 met"]
    assert deployment.growth_rows([_sample(r, {app: 100.0 + r}) for r in range(20)], 20)[0][0][4].endswith("MISSED")


def test_peaks_are_the_largest_of_all_sites_and_sums_are_of_one_moment() -> None:
    app, one, two = ("server", "server app", 1), ("s0", "worker", 2), ("s1", "worker", 3)
    samples = [_sample(0, {app: 100.0, one: 50.0, two: 60.0}), _sample(1, {app: 80.0, ("server", "door", 4): 30.0, one: 70.0})]
    found = processes.peaks(samples)
    assert found["server", "server app"] == processes.Peak(50.0, 101.0, 11)
    assert found["site", "worker"].rss_mb == 71.0
    assert processes.total_pss_mb(samples, "server") == 55.0
    rows = deployment.memory_rows({}, found)
    assert rows[0] == ["server: door", "-", "-", "15", "31", "14"]


def test_a_process_is_known_by_its_supervisors_mark(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()", "server.superlink"], stdin=subprocess.PIPE, env={**os.environ, "FEDILD_MARK": "m1"})
    try:
        write_json(tmp_path / "up.json", {"pid": os.getpid(), "mark": "m1", "programs": {}})
        with processes.Watch({"server": tmp_path}) as watch:
            sample = watch.look()
        assert {(role, pid) for _, role, pid in sample.readings} == {("supervisor", os.getpid()), ("superlink", child.pid)}
        assert all(reading.peak_rss_mb >= reading.rss_mb >= reading.pss_mb > 1 for reading in sample.readings.values())
    finally:
        child.communicate(b"\n")


def test_the_published_figures_are_those_that_the_data_came_with() -> None:
    means = {name: sum(figures) / len(figures) for name, (_, figures) in heart_table.PUBLISHED.items()}
    told = {"FedAvg": 0.685, "FedProx": 0.685, "SCAFFOLD": 0.684, "FedAdam": 0.726, "FedYogi": 0.731}
    assert means == {name: pytest.approx(figure, abs=6e-4) for name, figure in told.items()}
    experiment = find("heart_disease", [])
    for arm in arms_of(",".join({*heart_table.CANDIDATES, *(words for words, _ in heart_table.PUBLISHED.values())}), experiment):
        assert not faults(arm.of(experiment, seed=42))


@pytest.mark.parametrize("name", strategies.PHANTOMS)
def test_the_arms_of_the_strategy_bench_are_sound(name: str) -> None:
    experiment = find(name, [])
    for arm in arms_of(",".join(strategies.METHODS), experiment):
        assert not faults(arm.of(experiment, seed=0))


def test_every_method_of_the_patch_table_is_sound() -> None:
    experiment = find("emphysema_patches_cnn", [*strategies.PATCHES])
    arms = arms_of(strategies.every_method(), experiment)
    assert {"fedavg", "one_shot"} <= {arm.strategy for arm in arms}
    for arm in arms:
        assert not faults(arm.of(experiment, seed=0))


def test_the_relay_passes_all_bytes_on_and_counts_them() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, Relay(server.getsockname()[1]) as relay:
        with socket.create_connection(("127.0.0.1", relay.port), timeout=10) as near:
            far, _ = server.accept()
            with far:
                near.sendall(b"u" * 300_000)
                near.shutdown(socket.SHUT_WR)
                with far.makefile("rb") as reader:
                    assert len(reader.read()) == 300_000
                far.sendall(b"d" * 7)
                far.shutdown(socket.SHUT_WR)
                assert near.recv(100, socket.MSG_WAITALL) == b"d" * 7
        until = time.monotonic() + 10.0  # it counts after it has passed on
        while relay.crossed() != Crossed(300_000, 7) and time.monotonic() < until:
            time.sleep(0.01)
        assert relay.crossed() == Crossed(300_000, 7)


def test_the_overhead_of_a_round_is_what_is_not_training() -> None:
    timed = rig.Timed(seen_s=[10.0, 16.5, 24.0], trained_s={1: 9.0, 2: 0.5, 3: 1.0})
    assert timed.round_s() == [6.5, 7.5]
    assert timed.overhead_s() == [6.0, 6.5]


@pytest.mark.parametrize(("size", "mb"), [("2 kB", 0.002), ("9 MB", 9.4)])
def test_models_are_as_large_as_their_names_say(size: str, mb: float) -> None:
    experiment = rig.experiment(size, rounds=2, sites=3, compression={"name": "top_k", "keep": 0.1})
    state = initial_state(experiment.model, inputs=1, outputs=2, seed=0)
    assert size_bytes(state) / 1e6 == pytest.approx(mb, rel=0.05)
