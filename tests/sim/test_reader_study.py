"""A reader study from its table to the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from shared_models.core.errors import BadInput
from sim.cli import app
from sim.reader_study import read_study

STUDY = "patient,truth,model,senior,junior\np1,UIP,UIP,UIP,OP\np2,OP,OP,OP,\np3,OP,UIP,OP,UIP\n"


def test_the_command_tells_every_caller(tmp_path: Path) -> None:
    (tmp_path / "study.csv").write_text(STUDY)
    shown = CliRunner().invoke(app, ["readers", str(tmp_path / "study.csv")]).output.splitlines()
    assert shown[0].startswith("model: 2 of 3 right, 0.667 (")
    assert shown[1].startswith("senior: 3 of 3 right") and "the model 0, senior 1" in shown[1]
    assert shown[2].startswith("junior: 0 of 2 right") and "the model 1, junior 0; exact McNemar p 1.000" in shown[2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("p2,OP,OP", "p1,OP,OP"), "one line"),
        (("patient,truth,model,senior,junior", "patient,truth,senior,junior,other"), "columns patient"),
        (("p3,OP,UIP", "p3,,UIP"), "line 4"),
    ],
)
def test_what_is_no_reader_study(change: tuple[str, str], words: str, tmp_path: Path) -> None:
    (tmp_path / "study.csv").write_text(STUDY.replace(*change))
    with pytest.raises(BadInput, match=words):
        read_study(tmp_path / "study.csv")
