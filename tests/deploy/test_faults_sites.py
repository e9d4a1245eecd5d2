"""Sites that are slow or gone for good, updates that are all refused: what is released, on whose data, and what is said of it."""

from __future__ import annotations

import pytest

from server.folder import open_folder
from server.queue import Entry
from server.runs.standing import read_standing
from server.status import run_status
from sim.deployment import running_in
from tests.deploy.invariants import check_rounds
from tests.deploy.stage import Stage, experiment

pytestmark = [pytest.mark.deployment, pytest.mark.timeout(3600)]


def test_a_slow_site_costs_a_round_its_deadline_and_the_run_the_word_degraded(stage: Stage) -> None:
    done: list[str] = []

    def look(entry: Entry) -> None:
        rounds = len(stage.rounds(entry.run))
        if rounds == 1 and not done:
            stage.halt(running_in(stage.deployment.site("delta"))["resident"]["pid"])
            done.append("halted")
        elif rounds == 2 and done == ["halted"]:
            stage.unhalt()
            done.append("went on")

    deadline_s = stage.deadline_s()
    run = stage.order(experiment("slow", rounds=4, quorum=3, deadline_s=deadline_s))
    stage.follow(run, look)
    assert done == ["halted", "went on"]
    rounds = stage.rounds(run)
    assert rounds[1]["missing"] == ["delta"]
    assert deadline_s - 1 <= rounds[1]["wall_s"] <= 2 * deadline_s, "the deadline closes the round, not the site"
    assert rounds[3]["missing"] == [], "it is back as soon as it answers again"
    _is_called_degraded(stage, run, ["delta"])


def test_three_left_go_on_two_left_pause_and_say_why(stage: Stage) -> None:
    gone: list[str] = []

    def look(entry: Entry) -> None:
        rounds = len(stage.rounds(entry.run))
        if (rounds == 1 and not gone) or (rounds == 3 and gone == ["delta"]):
            gone.append("gamma" if gone else "delta")
            stage.told(f"  {gone[-1]} is gone")
            stage.deployment.kill(stage.deployment.site(gone[-1]))

    run = stage.order(experiment("vanish", rounds=5, quorum=3, deadline_s=stage.deadline_s(), retries=0))

    def pauses() -> bool:
        entry = stage.entry(run)
        look(entry)
        assert entry.state in ("queued", "running", "interrupted"), entry
        return entry.state == "interrupted" and "E_QUORUM" in entry.note

    stage.wait_for(pauses, "two sites must not go on", seconds=900)
    assert gone == ["delta", "gamma"]
    rounds = stage.rounds(run)
    assert 3 <= len(rounds) < 5
    assert all(line["missing"] == ["delta"] for line in rounds[1:3])
    check_rounds(stage.deployment.server / "runs" / run)
    assert not (stage.deployment.server / "runs" / run / "final.safetensors").exists()
    note = stage.entry(run).note
    assert "needs 3 valid updates" in note
    assert "'valid': 2, 'refused': {'delta': 'E_NO_REPLY', 'gamma': 'E_NO_REPLY'}" in note
    standing = read_standing(stage.deployment.server / "runs" / run)
    assert (standing["status"], standing["code"]) == ("interrupted", "E_QUORUM")
    # One of them comes back: the run goes on by itself and ends under the same identifier.
    stage.deployment.start_site("gamma")
    stage.follow(run)
    _is_called_degraded(stage, run, ["delta"])


def test_when_all_updates_are_refused_nothing_is_released(stage: Stage) -> None:
    run = stage.order(experiment("refused", rounds=2, retries=3, max_update_norm=1e-9))
    stage.wait_for(lambda: stage.entry(run).state not in ("queued", "running"), "four attempts, then an end", seconds=600)
    folder = stage.deployment.server / "runs" / run
    assert stage.entry(run).state == "failed", "the same updates would come again: an operator looks first"
    note = stage.entry(run).note
    assert "E_REJECTED" in note
    assert note.count("E_NORM") == 4, note
    assert stage.rounds(run) == []
    assert not list(folder.glob("checkpoints/round-*"))
    assert not (folder / "final.safetensors").exists()
    assert not list((folder / "spool").rglob("*.safetensors"))


def _is_called_degraded(stage: Stage, run: str, missing: list[str]) -> None:
    """In `fedild server status`, in ``rounds.jsonl`` and in the report, with the share of the patients that were missing."""
    status = run_status(open_folder(stage.deployment.server), run)
    assert status["degraded"] is True
    assert set(missing) <= set(status["missing"])
    rounds = stage.rounds(run)
    cases = {site: record["num_cases"] for site, record in rounds[0]["sites"].items()}
    lines = [line for line in rounds if line["missing"]]
    for site in missing:
        told = status["missing"][site]
        assert told["rounds"] == [line["round"] for line in lines if site in line["missing"]]
        assert told["share"] == pytest.approx(cases[site] / sum(cases.values()), abs=1e-3)
    for line in lines:
        assert line["degraded"] is True
        assert line["missing_share"] == pytest.approx(sum(cases[site] for site in line["missing"]) / sum(cases.values()), abs=1e-3)
    share = max(line["missing_share"] for line in lines)
    report = (stage.deployment.server / "runs" / run / "report.html").read_text()
    assert "degraded" in report
    assert f"without up to {share:.0%} of the patients" in report
