"""The site's page without a browser: what waits, decisions by the same path as the command's, what left, metrics that identify nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.approval import Approvals
from client.audit import AuditLog
from client.guards import Guards
from client.identity import make_site
from client.page.app import site_page
from client.site import Site
from client.worker import Worker
from shared_models.core.errors import BadInput
from tests.client.sites import table_experiment, table_site
from tests.client.test_worker import job_of
from tests.server.page.test_pages import check
from tests.shared_models.page.shown import ORIGIN, Client, client_of, token_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = table_site(tmp_path, "alpha").parent
    make_site(folder, "alpha")
    return folder


def asked(folder: Path) -> str:
    site = Site.load(folder / "site.toml")
    worker = Worker(site, guards=Guards.of(folder, site.workspace))
    return worker.handle(job_of(table_experiment())).code


def entered(folder: Path) -> Client:
    client = client_of(lambda access: site_page(folder, access), role="site", link=True)
    assert client.get("/").status_code == 303
    client.get(f"/enter?key={client.door.link}")
    return client


def decide(client: Client, verdict: str, reason: str = "", digest: str = table_experiment().digest) -> int:
    form = {"token": token_of(client.get("/").text), "digest": digest, "verdict": verdict, "reason": reason}
    return client.post("/decide", data=form, headers=ORIGIN).status_code


def test_approving_refusing_and_what_left(folder: Path) -> None:
    client = entered(folder)
    text = client.get("/").text
    check(text)
    assert "Nothing waits" in text
    assert asked(folder) == "E_NOT_APPROVED"
    text = client.get("/").text
    check(text)
    digest = table_experiment().digest
    assert "1 experiment for you to decide on" in text
    for part in (digest, "normal, UIP", "logistic", "no differential privacy", "2 sites", "Every setting that you would sign"):
        assert part in text
    assert decide(client, "refuse") == 422, "whoever refuses says why"
    assert decide(client, "refuse", "the question <b>is</b> not ours") == 303
    assert asked(folder) == "E_NOT_APPROVED"
    text = client.get("/").text
    assert "the question &lt;b&gt;is&lt;/b&gt; not ours" in text
    last = Approvals(folder).entries()[-1]
    assert (last.decision, last.reason) == ("rejected", "the question <b>is</b> not ours")
    assert "question" not in str(AuditLog(folder).entries()), "the audit log takes plain words alone"
    Approvals(folder).decide("approved", kind="experiment", name="table", digest=digest)
    assert asked(folder) == ""
    text = client.get("/").text
    check(text)
    assert "1 in all" in text
    assert "lines, all whole" in text
    assert decide(client, "refuse", "no longer") == 303
    assert Approvals(folder).entries()[-1].decision == "revoked"


def test_a_decision_needs_a_form_of_this_page(folder: Path) -> None:
    asked(folder)
    client = entered(folder)
    token, digest = token_of(client.get("/").text), table_experiment().digest
    for form in ({"digest": digest}, {"token": "x", "digest": digest}):
        assert client.post("/decide", data={**form, "verdict": "approve"}, headers=ORIGIN).status_code == 403
    good = {"token": token, "digest": digest, "verdict": "approve"}
    assert client.post("/decide", data=good, headers={"origin": "http://evil.example"}).status_code == 403
    for change in ({"digest": digest[:12]}, {"digest": "0" * 64}, {"verdict": "perhaps"}, {"digest": "../../x"}, {"reason": "x" * 301}):
        assert client.post("/decide", data={**good, **change}, headers=ORIGIN).status_code == 422
    assert client.get("/decide").status_code in (404, 405)
    assert Approvals(folder).entries() == []
    assert client.post("/decide", data=good, headers=ORIGIN).status_code == 303
    assert [one.decision for one in Approvals(folder).entries()] == ["approved"]


def test_a_record_that_was_changed_is_said_at_the_top(folder: Path) -> None:
    client = entered(folder)
    asked(folder)
    assert decide(client, "approve") == 303
    (folder / "approvals.jsonl").write_text("{}\n")
    text = client.get("/").text
    assert 'role="alert"' in text
    assert "E_APPROVALS" in text
    assert decide(client, "approve") == 409
    assert "fedild_site_faults 1.0" in client.get("/metrics").text


def test_metrics_identify_nobody(folder: Path) -> None:
    asked(folder)
    Approvals(folder).decide("approved", kind="experiment", name="table", digest=table_experiment().digest)
    asked(folder)
    text = client_of(lambda access: site_page(folder, access), role="site", link=True).get("/metrics").text
    for name, value in (
        ("site_up", 0),
        ("site_approvals_waiting", 0),
        ("site_messages_left_total", 1),
        ("site_refusals_total", 1),
        ("site_faults", 0),
    ):
        assert f"fedild_{name} {value}.0" in text
    for secret in ("alpha", "table", str(folder), 'run="'):
        assert secret not in text


@pytest.mark.parametrize("reason", ["x" * 301, "a\x00b", "a\x1b[2Jb"])
def test_reasons_are_short_and_printable(reason: str, folder: Path) -> None:
    with pytest.raises(BadInput):
        Approvals(folder).decide("rejected", kind="experiment", name="table", digest="0" * 64, reason=reason)
    assert Approvals(folder).entries() == []
