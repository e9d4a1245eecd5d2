"""The same scan at two hospitals has one tag under the agreed word, and no tag says anything to who does not hold the scan."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.cases.cohort import Case, Cohort, Visit
from client.twins import content_tags, twins
from shared_models.core.errors import BadInput
from sim.cli import app

WORD = "a word the sites agree on"


def _site(folder: Path, stems: list[str]) -> Path:
    folder.mkdir()
    cases = [Case(f"p{n}", (Visit(f"v{n}", 0, f"s{n}", Path(f"cache/{stem}.safetensors")),), "UIP") for n, stem in enumerate(stems)]
    Cohort(tuple(cases), ("UIP",)).save(folder / "cohort.json")
    return folder


def test_a_patient_in_two_sites_is_found_by_tags_alone(tmp_path: Path) -> None:
    alpha, beta = _site(tmp_path / "alpha", ["aa", "bb"]), _site(tmp_path / "beta", ["cc", "bb"])
    tags = {"alpha": content_tags(alpha, WORD), "beta": content_tags(beta, WORD)}
    flat = {site: [tag for of_one in found.values() for tag in of_one] for site, found in tags.items()}
    (found,) = twins(flat)
    assert found["sites"] == ["alpha", "beta"]
    assert tags["alpha"]["p1"] == tags["beta"]["p1"] == [found["tag"]]
    assert all(len(tag) == 64 and tag != "bb" for tag in flat["alpha"])


def test_another_word_gives_other_tags_and_a_short_one_is_refused(tmp_path: Path) -> None:
    alpha = _site(tmp_path / "alpha", ["aa"])
    assert content_tags(alpha, WORD) != content_tags(alpha, WORD + "!")
    with pytest.raises(BadInput, match="16 or more"):
        content_tags(alpha, "short")
    with pytest.raises(BadInput, match="prepared"):
        content_tags(tmp_path, WORD)


def test_the_commands_find_the_pair_and_let_no_pseudonym_out(tmp_path: Path) -> None:
    (tmp_path / "word.txt").write_text(WORD + "\n")
    files = []
    for name, stems in (("alpha", ["aa", "bb"]), ("beta", ["cc", "bb"])):
        home = tmp_path / name
        home.mkdir()
        (home / "site.toml").write_text(f'[site]\nname = "{name}"\n')
        _site(home / "workspace", stems)
        files.append(str(tmp_path / f"{name}.json"))
        done = CliRunner().invoke(app, ["site", "tags", "--word-file", str(tmp_path / "word.txt"), "--out", files[-1], "--folder", str(home)])
        assert done.exit_code == 0, done.output
        assert "p0" not in Path(files[-1]).read_text()
    told = CliRunner().invoke(app, ["duplicates", *files])
    assert told.exit_code == 1 and "alpha, beta" in told.output
    assert CliRunner().invoke(app, ["duplicates", files[0]]).exit_code == 0
