"""Choosing noise: the plan keeps its promise by Opacus' own accountant, says what it costs, and draws it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.identity import make_site
from client.privacy.account import account
from client.privacy.account import picture as spent_picture
from client.privacy.accountant import epsilon
from client.privacy.chain import Patients
from client.privacy.foresight import foreseen
from client.privacy.ledger import Ledger, Limits, patients_of
from client.privacy.plan import FACTORS, as_row, lines_of, picture, plan, steps_of
from client.privacy.spending import Spend
from client.selection import training_names
from client.site import Site
from shared_models.core.choices import Choice
from shared_models.core.errors import BadInput
from shared_models.experiment import Experiment, Privacy, Train
from sim.cli import app
from tests.client.sites import table_experiment, table_site


def experiment_of(noise: float | None = None, delta: float = 1e-5) -> Experiment:
    base = table_experiment(rounds=4)
    return base.model_copy(
        update={
            "model": Choice(name="linear"),
            "train": Train(epochs=2, batch=16),
            "privacy": Privacy(unit="patient" if noise else "none", noise_multiplier=noise, delta=delta),
        }
    )


@pytest.mark.parametrize(("patients", "target"), [(80, 1.0), (80, 8.0), (500, 2.0)])
def test_a_plan_reaches_its_epsilon_and_not_more(patients: int, target: float) -> None:
    found = plan(experiment_of(), patients, target=target)
    assert found.epsilon <= target
    assert found.epsilon >= 0.98 * target - 0.01
    assert (found.q, found.steps_a_round) == (16 / patients, 2 * -(-patients // 16))
    assert found.steps == 4 * found.steps_a_round
    assert found.epsilon == pytest.approx(epsilon([(found.sigma, found.q, found.steps)], 1e-5))
    table = found.table()
    assert table[2][2] == pytest.approx(found.epsilon)
    assert all(a > b for row in pairwise(table) for a, b in zip(*row, strict=True))  # more noise, less epsilon
    assert all(row == sorted(row) for row in table)  # more rounds, more epsilon


def test_steps_as_in_training() -> None:
    assert steps_of(experiment_of(), 10) == (1.0, 2)
    assert steps_of(experiment_of().model_copy(update={"train": Train(steps=7, batch=5)}), 20) == (0.25, 7)
    assert steps_of(table_experiment(rounds=4), 200) == (1.0, 1)  # sums are over everybody, once a round


def test_what_cannot_be_planned() -> None:
    for settings in ({"target": 1e-9}, {}):
        with pytest.raises(BadInput):
            plan(experiment_of(), 100, **settings)
    with pytest.raises(BadInput, match="1/"):
        plan(experiment_of(1.0, delta=1e-3), 100)
    with pytest.raises(BadInput):
        steps_of(experiment_of(), 0)


def test_it_is_told_and_drawn() -> None:
    plans = [plan(experiment_of(8.0), 40)]  # little noise takes the accountant ten times as long
    assert any("fewer than 50" in line for line in lines_of(plans[0], experiment_of()))
    assert len(as_row(plans[0])["table"]) == len(FACTORS)
    root = ElementTree.fromstring(picture(plans, 4.0))  # noqa: S314 - ours
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "40 patients" in "".join(root.itertext())


def test_the_command(tmp_path: Path) -> None:
    import tomli_w

    (tmp_path / "e.toml").write_text(tomli_w.dumps(experiment_of().model_dump(mode="json", exclude_none=True)))
    arguments = ["privacy", "plan", str(tmp_path / "e.toml"), "--epsilon", "1", "--patients", "80", "--plot", str(tmp_path / "p.svg")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    for words in ("noise multiplier", "expected batch    16 patients", "4 rounds of 10 steps, 40 in all"):
        assert words in result.output
    assert (tmp_path / "p.svg").read_text().startswith("<svg xmlns")
    row = json.loads(CliRunner().invoke(app, [*arguments[:7], "--format", "json"]).stdout)[0]
    assert row["epsilon"] <= 1


def spent_site(tmp_path: Path, toml: str = "") -> tuple[Path, Patients]:
    path = table_site(tmp_path, "gamma", patients=100, toml=toml)  # no name that a digest could spell
    make_site(path.parent, "gamma")
    site, experiment = Site.load(path), experiment_of()
    patients = patients_of(site, experiment, training_names(site, experiment))
    for number in range(3):
        spend = Spend(1.5, 0.2, 10, len(patients.names), "patient", 1.0, 1e-5, f"{number}")
        Ledger(path.parent).charge(patients, spend, run="r", round=number + 1, limits=Limits())
    return path.parent, patients


def test_training_names_are_those_that_train(tmp_path: Path) -> None:
    from client.selection import split_records
    from tests.client.sites import patch_experiment, patch_site

    for path, experiment in ((table_site(tmp_path, "t"), experiment_of()), (patch_site(tmp_path, "p"), patch_experiment())):
        assert training_names(Site.load(path), experiment) == split_records(Site.load(path), experiment)[0].names


class TestAccount:
    def test_it_says_what_was_spent(self, tmp_path: Path) -> None:
        folder, patients = spent_site(tmp_path, "[policy.privacy]\nepsilon_limit = 6.0\n")
        found = account(folder)
        assert (found["entries"], found["limit"], len(found["cohorts"])) == (3, 6.0, 1)
        assert found["epsilon"] == pytest.approx(epsilon([(1.5, 0.2, 30)], 1e-5))
        text = spent_picture(folder)
        assert "limit 6" in "".join(ElementTree.fromstring(text).itertext())  # noqa: S314
        assert not [name for name in patients.names if name in text + json.dumps(found)]

    def test_the_command(self, tmp_path: Path) -> None:
        folder, patients = spent_site(tmp_path)
        result = CliRunner().invoke(app, ["site", "ledger", "--folder", str(folder), "--plot", str(tmp_path / "e.svg")])
        assert result.exit_code == 0, result.output
        assert "3 entries, all signed and in place" in result.output
        assert patients.digest[:12] in result.output
        assert (tmp_path / "e.svg").exists()
        (folder / "ledger.db").unlink()
        assert CliRunner().invoke(app, ["site", "ledger", "--folder", str(folder)]).exit_code == 1
        accepted = CliRunner().invoke(app, ["site", "ledger", "accept-loss", "--folder", str(folder)])
        assert "without bound" in accepted.output
        assert json.loads(CliRunner().invoke(app, ["site", "ledger", "--folder", str(folder), "--format", "json"]).stdout)["epsilon"] is None

    def test_nothing_spent(self, tmp_path: Path) -> None:
        folder = table_site(tmp_path, "a").parent
        make_site(folder, "a")
        assert account(folder)["epsilon"] == 0
        with pytest.raises(BadInput):
            spent_picture(folder)


class TestForesight:
    @pytest.mark.parametrize(
        ("toml", "codes"),
        [
            ("", []),
            ("epsilon_per_run = 20.0", []),
            ("epsilon_per_run = 1.0", ["E_BUDGET_RUN"]),
            ("epsilon_limit = 1.0", ["E_BUDGET"]),
            ("least_patients = 90", ["E_FEW_CASES"]),
        ],
    )
    def test_what_a_whole_run_would_meet(self, toml: str, codes: list[str], tmp_path: Path) -> None:
        folder = table_site(tmp_path, "a", patients=100, toml=f"[policy.privacy]\n{toml}\n")
        assert [one.code for one in foreseen(experiment_of(1.5), Site.load(folder))] == codes

    def test_what_was_spent_counts(self, tmp_path: Path) -> None:
        run = epsilon([(1.5, 16 / 70, 4 * 10)], 1e-5)
        folder, _ = spent_site(tmp_path, f"[policy.privacy]\nepsilon_limit = {run + 0.1}\n")
        assert [one.code for one in foreseen(experiment_of(1.5), Site.load(folder / "site.toml"))] == ["E_BUDGET"]
        result = CliRunner().invoke(app, ["check", "nothing", str(folder / "site.toml")])
        assert result.exit_code != 0

    def test_without_data_nothing_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "site.toml").write_text('[site]\nname = "a"\n[policy.privacy]\nepsilon_limit = 1.0\n')
        assert foreseen(experiment_of(1.5), Site.load(tmp_path / "site.toml")) == []
