"""Who may come in: passwords, links, cookies, and a limit on guesses."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from shared_models.core.errors import BadInput, Refused
from shared_models.page.access import MOST_GUESSES, MOST_GUESSES_IN_ALL, WINDOW_S, Access, Guesses
from shared_models.page.password import is_password, write_password
from shared_models.page.serving import Place, names_of

WORDS = "correct horse battery"


@pytest.fixture
def password(tmp_path: Path) -> Path:
    write_password(tmp_path / "page.password", WORDS, cost=8)
    return tmp_path / "page.password"


def test_a_password_is_kept_as_a_hash_that_only_its_owner_reads(password: Path) -> None:
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    assert "horse" not in password.read_text()
    assert is_password(password, WORDS)
    assert not is_password(password, WORDS + " ")
    assert not is_password(password, "x" * 100_000)
    password.chmod(0o640)
    with pytest.raises(Refused, match="owner alone"):
        is_password(password, WORDS)


@pytest.mark.parametrize("words", ["short", "x" * 257])
def test_a_password_is_neither_short_nor_endless(words: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        write_password(tmp_path / "p", words)


@pytest.mark.parametrize("text", ["", "{}", '{"scrypt": {"cost": 30, "salt": "00", "hash": "00"}}', '{"scrypt": 1}'])
def test_a_damaged_password_file_lets_nobody_in(text: str, password: Path) -> None:
    password.write_text(text)
    with pytest.raises(Refused):
        is_password(password, WORDS)


def test_a_cookie_is_of_this_process_this_page_and_this_password(password: Path) -> None:
    door = Access("server", ["a:1"], password=password)
    session, cookie = door.new_cookie(entered=True)
    assert door.session(cookie) == session
    assert door.session(("A" if cookie[0] != "A" else "B") + cookie[1:]) is None
    assert door.session("") is None
    assert Access("server", ["a:1"], password=password).session(cookie) is None
    write_password(password, WORDS + "!", cost=8)
    assert door.session(cookie) is None, "a new password ends every session"
    session, cookie = door.new_cookie(entered=True)
    door.end(session)
    assert door.session(cookie) is None


def test_a_cookie_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    door = Access("server", ["a:1"])
    _, cookie = door.new_cookie(entered=True)
    monkeypatch.setattr("shared_models.page.access.SESSION_S", -1)
    assert door.session(cookie) is None


def test_form_tokens_belong_to_one_session() -> None:
    door = Access("site", ["a:1"])
    (one, _), (other, _) = door.new_cookie(entered=True), door.new_cookie(entered=True)
    assert door.is_form_token(one, door.form_token(one))
    assert not door.is_form_token(one, door.form_token(other))
    assert not door.is_form_token(one, "")


def test_the_link_is_for_pages_without_a_password(password: Path) -> None:
    door = Access("site", ["a:1"], link=True)
    assert len(door.link) >= 32
    assert door.is_link(door.link)
    assert not door.is_link("")
    assert not door.is_open
    closed = Access("site", ["a:1"], link=True, password=password)
    assert closed.link == ""
    assert not closed.is_link("")
    assert Access("server", ["a:1"]).is_open


def test_guesses_are_few_for_one_and_for_all() -> None:
    now = [0.0]
    guesses = Guesses(clock=lambda: now[0])
    assert [guesses.begin("a") for _ in range(MOST_GUESSES)] == [0.0] * MOST_GUESSES
    assert guesses.begin("a") == WINDOW_S
    assert guesses.begin("b") == 0.0
    now[0] += WINDOW_S
    assert guesses.begin("a") == 0.0
    for number in range(MOST_GUESSES_IN_ALL):
        guesses.begin(f"address {number}")
    assert guesses.begin("yet another") > 0
    guesses.good("a")
    assert len(guesses._failed) <= MOST_GUESSES_IN_ALL, "what is kept does not grow"


def test_a_token_file_is_private_and_long(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("x" * 40 + "\n")
    token.chmod(0o600)
    door = Access("site", ["a:1"], token=token)
    assert door.is_bearer("Bearer " + "x" * 40)
    assert not door.is_bearer("Bearer " + "x" * 39)
    assert not door.is_bearer("")
    assert not Access("site", ["a:1"]).is_bearer("Bearer ")
    token.write_text("short")
    with pytest.raises(Refused):
        Access("site", ["a:1"], token=token)
    token.chmod(0o644)
    with pytest.raises(Refused):
        Access("site", ["a:1"], token=token)


@pytest.mark.parametrize(
    ("place", "with_password", "code"),
    [
        (Place(), False, ""),
        (Place("::1"), False, ""),
        (Place("127.0.0.9"), False, ""),
        (Place("0.0.0.0"), False, "E_PAGE_OPEN"),  # noqa: S104 - only checked
        (Place("0.0.0.0"), True, "E_PAGE_OPEN"),  # noqa: S104
        (Place("10.0.0.1", certificate=Path("c"), key=Path("k")), False, "E_PAGE_OPEN"),
        (Place("10.0.0.1", certificate=Path("c"), key=Path("k")), True, ""),
        (Place(name="page.example.org"), False, "E_PAGE_OPEN"),
        (Place(name="page.example.org"), True, ""),
        (Place(certificate=Path("c")), True, "E_INPUT"),
    ],
)
def test_beyond_this_machine_only_with_password_and_tls(place: Place, with_password: bool, code: str, password: Path) -> None:
    if not code:
        place.check(password=password if with_password else None)
        return
    with pytest.raises((Refused, BadInput)) as found:
        place.check(password=password if with_password else None)
    assert found.value.code == code


def test_a_page_answers_under_its_own_names_only() -> None:
    assert names_of(Place(name="page.example.org"), 8600) == ["localhost:8600", "127.0.0.1:8600", "[::1]:8600", "page.example.org"]
