"""The server's pages without a browser: everything is there, nothing leaks, nothing hostile runs, nothing can be changed."""

from __future__ import annotations

import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from server.folder import ServerFolder
from server.page.app import server_page
from server.page.curves import curves_of
from server.page.epsilon import site_epsilon
from server.page.facts import Connections
from server.page.sites import STATES, site_standings
from server.queue import Queue
from server.strategies import site_privacy
from shared_models.core.locks import lock
from shared_models.experiment import Privacy
from tests.client.sites import table_experiment
from tests.server.page.folders import line_of, ordered, server_of, written
from tests.shared_models.page.shown import Client, client_of

SITES = ["alpha", "beta", "gamma"]
HOSTILE = "<img src=x onerror=alert(1)>"


class Checked(HTMLParser):
    """Reads a page as a screen reader would: what has no name is found."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.labels, self.inputs, self.levels, self.scopeless = set[str](), [], [], 0
        self.tables = self.captions = self.pictures = self.named = self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [str(found["id"])] if "id" in found else []
        self.tables += tag == "table"
        self.captions += tag == "caption"
        self.scopeless += tag == "th" and "scope" not in found
        self.pictures += tag == "svg" and "aria-hidden" not in found
        self.named += tag == "svg" and "aria-labelledby" in found
        self.levels += [int(tag[1])] if re.fullmatch(r"h\d", tag) else []
        if tag == "label":
            self.labels.add(str(found["for"]))
        if tag == "input" and found.get("type") != "hidden":
            self.inputs.append(str(found["id"]))
        assert tag != "script" or set(found) == {"src", "defer"}
        assert not [name for name in found if name.startswith("on") or name == "style"]


def check(text: str) -> None:
    page = Checked(text)
    assert len(page.ids) == len(set(page.ids))
    assert page.tables == page.captions
    assert page.pictures == page.named
    assert not page.scopeless
    assert set(page.inputs) <= page.labels
    assert page.levels[0] == 1
    assert page.levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(page.levels, page.levels[1:], strict=False))


@pytest.fixture
def server(tmp_path: Path) -> ServerFolder:
    return server_of(tmp_path, SITES)


def client(server: ServerFolder) -> Client:
    return client_of(lambda access: server_page(server, access))


def test_an_empty_server_says_how_to_begin(server: ServerFolder) -> None:
    text = client(server).get("/").text
    check(text)
    assert "No run yet" in text
    assert "fl.example.org:8443" in text
    assert not (server.path / "queue.db").exists(), "looking changes nothing"


def test_a_run_is_whole_without_scripts(server: ServerFolder) -> None:
    run = ordered(server, table_experiment(rounds=4, quorum=3), SITES)
    lines = [line_of(1, SITES), line_of(2, SITES, missing=["beta"]), line_of(3, SITES)]
    written(server, run, lines, rounds=4, waiting_for=["gamma", "alpha (to approve)"])
    (server.run_folder(run) / "report.html").write_text("<p>the report</p>")
    page = client(server)
    overview, text = page.get("/").text, page.get(f"/runs/{run}").text
    check(overview)
    check(text)
    assert f'href="/runs/{run}"' in overview
    states = dict(re.findall(r'<tr data-site="(\w+)">.*?<span class="state [^>]*>([^<]*)<', text))
    assert states == {"alpha": "to approve", "beta": "returned", "gamma": "waiting"}
    assert "Round 3 of 4 done. Waiting for alpha, gamma." in text
    assert text.count("<polyline") == 6, "two whole sites and all together, of two metrics"
    assert text.count(">The numbers<") == 2
    assert "<td>0.353</td>" in text
    assert "32.0 kB" in text, "the bytes that came"
    assert page.get(f"/runs/{run}/report").text == "<p>the report</p>"
    policy = page.get(f"/runs/{run}/report").headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert "script" not in policy


@pytest.mark.parametrize(
    "path", ["/runs/0000", "/runs/..%2f..", "/runs/0000/events", "/runs/RUN/secrets", "/runs/RUN/rounds.jsonl", "/static/../access.py", "/x"]
)
def test_what_is_not_there_is_not_found(path: str, server: ServerFolder) -> None:
    run = ordered(server, table_experiment(quorum=3), SITES)
    answer = client(server).get(path.replace("RUN", run))
    assert answer.status_code == 404
    assert str(server.path) not in answer.text


def test_nothing_leaks_and_nothing_hostile_runs(server: ServerFolder) -> None:
    names = [*SITES[:2], HOSTILE]
    run = ordered(server, table_experiment(quorum=3), SITES)
    line = line_of(1, names, missing=[HOSTILE])
    line["sites"]["alpha"]["metrics"] = {HOSTILE: 0.5, "val_loss": float("1e300"), "<b>": "no number"}
    line["sites"]["beta"]["refused"] = HOSTILE
    line["phase"] = HOSTILE
    written(server, run, [line], rounds=4, code=HOSTILE, waiting_for=[HOSTILE])
    Queue(server.path / "queue.db").change(run, note="E_REPORT [Errno 2] '/srv/Doe^John/x'", experiment=HOSTILE, sites=",".join(names))
    logs = server.path / "logs"
    secret = {"time": "2026-01-01T00:00:00Z", "level": "info", "event": "run ended", "run": run, "status": "failed", "why": "/srv/Doe^John"}
    (logs / "runs.log").write_text(json.dumps(secret) + '\n{"torn\n[]\n' + json.dumps({**secret, "event": HOSTILE, "code": "/srv/Doe"}) + "\n")
    page = client(server)
    for path in ("/", f"/runs/{run}", "/metrics"):
        text = page.get(path).text
        assert "Doe" not in text
        assert str(server.path) not in text
        assert "<img" not in text or path == "/metrics", "that is plain text, and says so"
    check(page.get(f"/runs/{run}").text)
    assert "E_REPORT" in page.get("/").text
    assert "status failed" in page.get("/").text


def test_nothing_can_be_changed(server: ServerFolder) -> None:
    ordered(server, table_experiment(quorum=3), SITES)
    routes = [route for route in server_page(server, client(server).door).app.routes if "POST" in getattr(route, "methods", ())]
    assert {route.path for route in routes} == {"/login", "/logout"}


def test_metrics_for_prometheus(server: ServerFolder) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    run = ordered(server, table_experiment(rounds=4, quorum=3), SITES)
    written(server, run, [line_of(1, SITES), line_of(2, SITES, missing=["beta"])], rounds=4, waiting_for=["beta"])
    with lock(server.path / "up.lock", what="a server"):
        text = client(server).get("/metrics").text
    found = {(s.name, *s.labels.values()): s.value for family in text_string_to_metric_families(text) for s in family.samples}
    assert all(name.startswith("fedild_") for name, *_ in found)
    assert found["fedild_server_up",] == 1
    assert found["fedild_server_runs", "running"] == 1
    assert found["fedild_server_sites", "approved"] == 3
    labels = ("table", run)  # by the names of the labels
    assert [found[f"fedild_run_{name}", *labels] for name in ("rounds_done", "rounds", "sites_waited_for", "sites_missing")] == [2, 4, 1, 1]
    assert (found["fedild_run_bytes_total", "up", *labels], found["fedild_run_bytes_total", "down", *labels]) == (20_000, 24_000)
    assert "alpha" not in text


def test_who_is_connected_is_asked_in_the_background(server: ServerFolder) -> None:
    asked: list[int] = []

    def ask(_: ServerFolder) -> list[dict]:
        asked.append(1)
        return [{"name": "alpha", "online": "online"}]

    assert Connections(server, ask).look() == {}
    assert not asked, "a server that is down is not asked"
    with lock(server.path / "up.lock", what="a server"):
        connections = Connections(server, ask)
        connections.look()
        until = time.monotonic() + 10
        while not connections.look() and time.monotonic() < until:
            time.sleep(0.01)
        assert connections.look() == {"alpha": "online"}
        assert asked == [1]
        assert "online" in client_of(lambda access: server_page(server, access, connections=connections)).get("/").text


def test_every_state_of_a_site() -> None:
    refused = line_of(2, ["a"], missing=["a"])
    refused["sites"]["a"]["refused"] = "E_FEW_CASES"
    one, gone = line_of(1, ["a"]), line_of(2, ["a"], missing=["a"])
    late, away = line_of(2, [], late=["a"]), line_of(2, [])
    cases = {
        "expected": ([], {}, {}),
        "joined": ([one], {}, {}),
        "returned": ([one, gone, line_of(3, ["a"])], {}, {}),
        "apart": ([one, away], {}, {}),
        "late": ([one, late], {}, {}),
        "waiting": ([one], {"waiting_for": ["a"]}, {}),
        "to approve": ([gone], {"waiting_for": ["a (to approve)"]}, {}),
        "dropped": ([one, gone], {}, {}),
        "refused": ([refused], {}, {}),
        "revoked": ([one], {}, {"a": "revoked"}),
    }
    assert cases.keys() == STATES.keys()
    for state, (lines, standing, register) in cases.items():
        found = site_standings(["a"], lines, standing=standing, register=register)[0]
        assert found.state == state
        assert len(found.course) == len(lines)
    (left_late,) = site_standings(["a"], [gone, line_of(3, ["a"])], standing={"waiting_for": ["a"]}, register={}, over=True)
    assert (left_late.state, left_late.since) == ("joined", 3), "who comes late joins, and a run that is over waits for nobody"


@pytest.mark.parametrize("releases", [1, 15, 200])
def test_the_epsilon_of_sites_is_the_strategys(releases: int) -> None:
    privacy = Privacy(unit="site", noise_multiplier=1.5, delta=1e-3)
    assert site_epsilon(privacy, releases) == pytest.approx(site_privacy.site_epsilon(privacy, releases), abs=1e-9)


def test_curves_are_drawn_after_one_round_and_where_nothing_changes() -> None:
    line = {"round": 1, "sites": {"a": {"metrics": {"train_loss": 0.0, "val_auroc": 0.5}}, "b": {"metrics": {"train_loss": 1e-13, "val_auroc": 0.5}}}}
    for lines in ([line], [line, {**line, "round": 2}]):
        curves = curves_of(lines, ["a", "b"])
        assert len(curves) == 2 and all(curve.svg.startswith("<svg") and "nan" not in curve.svg for curve in curves)
