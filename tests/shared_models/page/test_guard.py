"""What stands before every answer: host, session, origin, token, headers."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import Request

from shared_models.page.access import MOST_GUESSES, Access
from shared_models.page.application import Page
from shared_models.page.guard import MOST_FORM_BYTES
from shared_models.page.password import write_password
from tests.shared_models.page.shown import ORIGIN, Client, client_of, token_of

WORDS = "correct horse battery"
FORM = {"content-type": "application/x-www-form-urlencoded"}


def page_of(access: Access) -> Page:
    page = Page(access, Path(__file__).parent, title="a <b>title</b>")

    def echo(request: Request) -> dict[str, str]:
        return request.state.form

    def hello() -> str:
        return "hello"

    page.app.add_api_route("/", hello, methods=["GET"])
    page.app.add_api_route("/metrics", hello, methods=["GET"])
    page.app.add_api_route("/events", hello, methods=["GET"])
    page.app.add_api_route("/echo", echo, methods=["POST"])
    return page


@pytest.fixture
def password(tmp_path: Path) -> Path:
    write_password(tmp_path / "page.password", WORDS, cost=8)
    return tmp_path / "page.password"


def entered(password: Path) -> Client:
    client = client_of(page_of, password=password)
    token = token_of(client.get("/login").text)
    answer = client.post("/login", data={"token": token, "password": WORDS}, headers=ORIGIN)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    return client


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:8600", ""])
def test_a_foreign_name_is_refused(host: str) -> None:
    assert client_of(page_of).get("/", headers={"host": host}).status_code == 421


def test_every_answer_has_the_headers() -> None:
    client = client_of(page_of)
    for path in ("/", "/static/page.js", "/nothing", "/login"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert "http" not in policy
        assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
    assert "strict-transport-security" not in client.get("/").headers
    assert "strict-transport-security" in client_of(page_of, secure=True).get("/").headers


def test_the_cookie_is_for_this_origin_alone() -> None:
    said = client_of(page_of).get("/").headers["set-cookie"]
    assert "HttpOnly" in said
    assert "SameSite=Strict" in said
    assert "Secure" not in said
    secure = client_of(page_of, secure=True).get("/").headers["set-cookie"]
    assert secure.startswith("__Host-")
    assert "; Secure" in secure


def test_nothing_is_seen_before_the_login(password: Path) -> None:
    client = client_of(page_of, password=password)
    assert client.get("/").headers["location"] == "/login"
    assert [client.get(path).status_code for path in ("/events", "/metrics")] == [401, 401]
    assert client.post("/echo", headers=ORIGIN).status_code == 401
    for path in ("/docs", "/redoc", "/openapi.json", "/nothing"):
        assert client.get(path).status_code == 303
    assert [entered(password).get(path).status_code for path in ("/", "/docs", "/redoc", "/openapi.json")] == [200, 404, 404, 404]


def test_a_login_makes_a_new_session_and_a_logout_ends_it(password: Path) -> None:
    client = client_of(page_of, password=password)
    page = client.get("/login")
    assert "a &lt;b&gt;title" in page.text
    before = dict(client.cookies)
    token = token_of(page.text)
    wrong = client.post("/login", data={"token": token, "password": "wrong"}, headers=ORIGIN)
    assert wrong.status_code == 403
    assert "not the password" in wrong.text
    assert client.get("/").status_code == 303
    client.post("/login", data={"token": token, "password": WORDS}, headers=ORIGIN)
    assert dict(client.cookies) != before
    assert client.get("/").status_code == 200
    kept = dict(client.cookies)
    session = client.door.session(next(iter(kept.values())))
    out = client.post("/logout", data={"token": client.door.form_token(session)}, headers=ORIGIN)
    assert out.status_code == 303
    client.cookies.clear()
    client.cookies.update(kept)
    assert client.get("/").status_code == 303, "the old cookie is worth nothing"


def test_few_guesses(password: Path) -> None:
    client = client_of(page_of, password=password)
    token = token_of(client.get("/login").text)
    answers = [client.post("/login", data={"token": token, "password": "wrong"}, headers=ORIGIN) for _ in range(MOST_GUESSES + 1)]
    assert [answer.status_code for answer in answers] == [403] * MOST_GUESSES + [429]
    assert int(answers[-1].headers["retry-after"]) > 0
    assert client.post("/login", data={"token": token, "password": WORDS}, headers=ORIGIN).status_code == 429


def test_a_form_comes_from_the_page_itself(password: Path) -> None:
    client = entered(password)
    session = client.door.session(next(iter(client.cookies.values())))
    form = {"token": client.door.form_token(session), "a": "1"}
    assert client.post("/echo", data=form, headers=ORIGIN).json() == {"a": "1"}
    for headers in ({}, {"origin": "null"}, {"origin": "http://evil.example"}, {"origin": "http://127.0.0.1:8601"}):
        assert client.post("/echo", data=form, headers=headers).status_code == 403
    assert client.post("/echo", data={"a": "1"}, headers=ORIGIN).status_code == 403
    assert client.post("/echo", data={**form, "token": "ä"}, headers=ORIGIN).status_code == 403
    assert client.post("/echo", json=form, headers=ORIGIN).status_code == 403
    assert client.post("/echo", content=b"\xff=\xfe&" * 9, headers=ORIGIN | FORM).status_code == 403
    assert client.post("/echo", content=b"a" * (MOST_FORM_BYTES + 1), headers=ORIGIN | FORM).status_code == 413
    assert client.ask("PUT", "/echo").status_code == 405


def test_metrics_by_token_or_on_this_machine(password: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t" * 20)
    token.chmod(0o600)
    assert client_of(page_of, link=True).get("/metrics").status_code == 200
    for client in (client_of(page_of, link=True, token=token), client_of(page_of, password=password, token=token)):
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", headers={"authorization": "Bearer " + "t" * 20}).status_code == 200
        assert client.get("/", headers={"authorization": "Bearer " + "t" * 20}).status_code == 303, "the token opens nothing else"


def test_the_link_opens_the_page() -> None:
    client = client_of(page_of, role="site", link=True)
    assert client.get("/").status_code == 303
    assert client.get("/enter?key=wrong").status_code == 403
    assert client.get(f"/enter?key={client.door.link}").headers["location"] == "/"
    assert client.get("/").status_code == 200
    assert "said by a stranger" not in client.get("/login?said=said by a stranger").text
