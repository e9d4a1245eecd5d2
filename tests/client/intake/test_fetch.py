"""What may be asked for, and how a list is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.intake.fetch import Fetch, read_list
from client.intake.pacs import REASONS, PacsFailed, exact
from client.privacy.codes import CODES
from client.site import Site
from shared_models.core.errors import BadInput
from tests.client.intake.orthanc import REFUSED


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("accession\nA1\nA2\n", ["A1", "A2"]),
        ("\ufeffPatient;x,Accession Number\nDoe,A1\n\nRoe, A2 \n", ["A1", "A2"]),
        ("A1\nA2", ["A1", "A2"]),
        ("accession\n", []),
    ],
)
def test_lists(text: str, numbers: list[str], tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(text, encoding="utf-8")
    assert read_list(tmp_path / "list.csv") == numbers


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "accession,x\n,2\n", ""])
def test_lists_that_cannot_be_read(text: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(BadInput):
        read_list(tmp_path / "list.csv")


@pytest.mark.parametrize("value", ["*", "12?4", "a\\b", "", " ", "1" * 65, "a\nb"])
def test_nothing_that_matches_more_than_itself(value: str) -> None:
    with pytest.raises(BadInput, match="wildcard"):
        exact(value)


@pytest.mark.parametrize(
    "pacs",
    [
        "",
        "[pacs]\n",
        '[pacs]\nurl = "http://a/x"\naddress = "a:1"\n',
        '[pacs]\nurl = "http://user:pw@a/x"\n',
        '[pacs]\naddress = "a:1"\ntitle = "A title that is too long"\n',
        '[receiver]\ncallers = []\n[pacs]\nurl = "http://a/x"\n',
    ],
)
def test_settings_that_cannot_be(pacs: str, tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(f'[site]\nname = "a"\n{pacs}')
    with pytest.raises(BadInput):
        Fetch(Site.load(tmp_path / "site.toml"))


def test_move_needs_a_receiver_and_passwords_a_closed_file(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text('[site]\nname = "a"\n[pacs]\naddress = "127.0.0.1:1"\nretrieve = "move"\n')
    work = Fetch(Site.load(tmp_path / "site.toml"), pauses_s=())
    work.ask([("study", "1.2")])
    with pytest.raises(BadInput, match="receiver"):
        work.run()
    (tmp_path / "site.toml").write_text('[site]\nname = "a"\n[pacs]\nurl = "http://127.0.0.1:1/x"\npassword_file = "p"\n')
    (tmp_path / "p").write_text("a:b")
    (tmp_path / "p").chmod(0o644)
    with pytest.raises(BadInput, match="owner"):
        Fetch(Site.load(tmp_path / "site.toml")).run()


@pytest.mark.filterwarnings(REFUSED)
@pytest.mark.parametrize("pacs", ['url = "http://127.0.0.1:1/x"', 'address = "127.0.0.1:1"'])
def test_nobody_is_there(pacs: str, tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(f'[site]\nname = "a"\n[pacs]\n{pacs}\n')
    work = Fetch(Site.load(tmp_path / "site.toml"), pauses_s=(0.01,))
    work.ask([("study", "1.2")])
    assert work.run() == {"done": 0, "failed": 1}
    (item,) = work.queue.items()
    assert (item.reason, item.attempts) == ("UNREACHABLE", 2)


def test_every_reason_has_words_and_the_code_may_leave() -> None:
    for reason in REASONS:
        assert PacsFailed(reason).remedy
    assert PacsFailed("REFUSED").code in CODES
