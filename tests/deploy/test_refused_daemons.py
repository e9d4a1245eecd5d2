"""Real daemons that must not get in: with an identity that is not theirs, or before a door whose certificate is not in order; and an app that
the server's own administrator sends, with code of its own. Nothing runs, nothing leaves, each is told why, and none of them storms the door."""

from __future__ import annotations

import json
import shutil
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from client.approval import Approvals
from client.audit import AuditLog
from client.identity import join, make_site
from client.station import standing
from client.supervisor import PAUSES_S
from server.flower import start_run
from server.folder import open_folder
from server.sites import write_kit
from server.status import site_rows
from shared_models.core.files import read_json, sha256
from sim.deployment import Deployment, fedild, running_in
from tests.client import papers
from tests.client.papers import server_files
from tests.deploy.wire import Relay

pytestmark = [pytest.mark.deployment, pytest.mark.timeout(900)]

PATIENCE_S = 240.0
REPEATS = 3
"""Refusals of each daemon that are waited for."""


@pytest.fixture(scope="module")
def out() -> Iterator[Path]:
    # Not pytest's own folder: a worker's socket needs a short path.
    folder = Path(tempfile.mkdtemp(prefix="fl-"))
    yield folder
    shutil.rmtree(folder)


def wait_for(what: Callable[[], object], *, said: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < until, said
        time.sleep(0.2)


def ends(folder: Path) -> list[dict[str, Any]]:
    """Each time the site's SuperNode has ended, as its supervisor wrote it down."""
    path = folder / "logs" / "up.log"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line for line in lines if line["event"] == "ended" and line["program"] == "supernode"]


@dataclass
class Refused:
    """What was seen of a daemon that was refused."""

    folder: Path
    reason: str = ""
    pauses_s: list[float] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    callers: int = 0
    said: int = 0


def watch(sites: dict[str, Path]) -> dict[str, Refused]:
    """Wait until each daemon has been refused `REPEATS` times and return how that went."""
    wait_for(lambda: all(len(ends(folder)) >= REPEATS and standing(folder)["refused"] for folder in sites.values()), said="each must be refused")
    return {
        name: Refused(
            folder,
            reason=standing(folder)["refused"],
            pauses_s=[line["again_in_s"] for line in ends(folder)],
            events=[entry["event"] for entry in AuditLog(folder).entries()],
        )
        for name, folder in sites.items()
    }


def nothing_happened(seen: Refused) -> None:
    assert not {"released", "refused", "pending", "app refused"} & set(seen.events), "no job has reached the worker"
    assert not list(seen.folder.rglob("what-left.jsonl"))
    assert not (seen.folder / "flwr" / "apps").exists()
    # The pauses grow, and the last one repeats: no storm.
    wanted = [*PAUSES_S, *[PAUSES_S[-1]] * len(seen.pauses_s)][: len(seen.pauses_s)]
    assert seen.pauses_s == wanted


# --- identities ---


def _unregistered(place: Deployment, folder: Path) -> None:
    request = make_site(folder, "stray")
    join(folder, write_kit(open_folder(place.server), "stray", request.fingerprint))


def _revoked(place: Deployment, folder: Path) -> None:
    fedild("server", "revoke", "beta", "--folder", str(place.server))
    place.site("beta").rename(folder)


def _key_of_another(place: Deployment, folder: Path) -> None:
    place.site("gamma").rename(folder)
    shutil.copyfile(place.site("alpha") / "secrets" / "node.key", folder / "secrets" / "node.key")


def _second_daemon(place: Deployment, folder: Path) -> None:
    shutil.copytree(place.site("alpha"), folder)


INTRUDERS: dict[str, Callable[[Deployment, Path], None]] = {
    "unregistered key": _unregistered,
    "revoked site": _revoked,
    "key of another site": _key_of_another,
    "second daemon of one site": _second_daemon,
}


@dataclass
class Scene:
    """A server with one good site, and what became of the others."""

    place: Deployment
    seen: dict[str, Refused]
    alpha: dict[str, Any]
    online: list[str]


@pytest.fixture(scope="module")
def scene(out: Path) -> Iterator[Scene]:
    with Deployment(out / "d") as place:
        place.found(("alpha", "beta", "gamma"))
        folders = {name: place.site(f"x{number}") for number, name in enumerate(INTRUDERS)}
        for name, folder in folders.items():
            INTRUDERS[name](place, folder)
        place.start_site("alpha")
        place.wait_ready(place.site("alpha"))
        wait_for(lambda: _online(place) == ["alpha"], said="the good site connects")
        for number in range(len(folders)):
            place.start_site(f"x{number}")
        seen = watch(folders)
        found = Scene(place, seen, running_in(place.site("alpha"))["supernode"], _online(place))
        for folder in folders.values():
            _end(place, folder)
        yield found


def _online(place: Deployment) -> list[str]:
    return [row["name"] for row in site_rows(open_folder(place.server)) if row["online"] == "online"]


def _end(place: Deployment, folder: Path) -> None:
    process = place._processes.pop(folder)
    process.terminate()
    process.wait(60)


@pytest.mark.parametrize("name", INTRUDERS)
def test_a_foreign_identity_is_refused_and_told_why(name: str, scene: Scene) -> None:
    assert "not registered, or was revoked, or its last connection has not run out" in scene.seen[name].reason
    nothing_happened(scene.seen[name])


def test_the_good_site_notices_nothing(scene: Scene) -> None:
    assert scene.online == ["alpha"]
    assert (scene.alpha["ready"], scene.alpha["restarts"]) == (True, 0)


# --- apps with code, sent by the server itself ---

VISITOR = """
from pathlib import Path
Path({marker!r}).write_text("ran")
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp
app = ClientApp()

@app.train()
def train(message, context):
    return Message(RecordDict(), reply_to=message)
"""
HOST = """
import json, time
from pathlib import Path
from flwr.app import Message, RecordDict
from flwr.serverapp import ServerApp
app = ServerApp()

@app.main()
def main(grid, context):
    waiting = set(grid.push_messages([Message(RecordDict(), dst_node_id=node, message_type="train") for node in grid.get_node_ids()]))
    answers, until = [], time.monotonic() + 200
    while waiting and time.monotonic() < until:
        for reply in grid.pull_messages(waiting):
            waiting.discard(reply.metadata.reply_to_message_id)
            answers.append(reply.error.reason if reply.has_error() else "ran")
        time.sleep(0.3)
    place = Path(context.run_config["answers"])
    place.with_suffix(".part").write_text(json.dumps(answers))
    place.with_suffix(".part").rename(place)
"""


def _visit(scene: Scene, folder: Path, *, approved: bool) -> tuple[list[str], bool]:
    """Send an app with code to the connected sites; return their answers, and whether its code ran at one of them."""
    from flwr.cli.build import build_fab_from_disk

    answers, marker = folder / "answers.json", folder / "marker"
    app = {"publisher": "shop", "fab-include": ["*.py"], "components": {"serverapp": "host:app", "clientapp": "visitor:app"}}
    document = {
        "project": {"name": "visitor", "version": "1.0.0", "license": "Apache-2.0", "dependencies": []},
        "tool": {"flwr": {"app": {**app, "config": {"answers": str(answers)}}}},
    }
    (folder / "pyproject.toml").write_text(tomli_w.dumps(document))
    (folder / "visitor.py").write_text(VISITOR.format(marker=str(marker)))
    (folder / "host.py").write_text(HOST)
    if approved:
        digest = sha256(build_fab_from_disk(folder))
        Approvals(scene.place.site("alpha")).decide("approved", kind="app", name="shop.visitor", digest=digest)
    start_run(open_folder(scene.place.server), folder)
    wait_for(answers.exists, said="the app's own server half must end")
    return read_json(answers), marker.exists()


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # Flower's own packing of a bundle
@pytest.mark.parametrize(("approved", "answer", "runs"), [(False, "E_APP", False), (True, "ran", True)], ids=["not approved", "approved"])
def test_code_from_the_server_runs_only_where_it_was_approved(approved: bool, answer: str, runs: bool, scene: Scene, tmp_path: Path) -> None:
    folder = tmp_path / "visitor"
    folder.mkdir()
    assert _visit(scene, folder, approved=approved) == ([answer], runs)
    refusals = [entry for entry in AuditLog(scene.place.site("alpha")).entries() if entry["event"] == "app refused"]
    assert [entry["reason"] for entry in refusals] == ["E_APP"]


# --- certificates ---

DOORS: dict[str, tuple[dict[str, Any], str]] = {
    "of another authority": ({}, "not of the consortium's authority"),
    "signed by itself": ({"self_signed": True}, "not of the consortium's authority"),
    "for another host": ({"host": "other.example"}, "another name"),
    "expired": ({"days": -1}, "expired"),
    "not yet valid": ({"since_days": -1}, "not valid yet"),
}


@pytest.fixture(scope="module")
def strangers(out: Path) -> Iterator[dict[str, Refused]]:
    with Deployment(out / "c") as place, ExitStack() as stack:
        relays = {}
        for number, (name, (settings, _)) in enumerate(DOORS.items()):
            folder, secrets = place.site(f"s{number}"), out / "c" / f"door{number}"
            request = make_site(folder, "alpha")
            server_files(secrets, **settings)
            relays[name] = Relay(9, accept=_accept(secrets))
            stack.callback(relays[name].close)
            join(folder, papers.write_kit(secrets / "kit.json", request, address=f"localhost:{relays[name].port}"))
            if name == "of another authority":
                papers.authority.cache_clear()
                server_files(secrets)
                relays[name].accept = _accept(secrets)
            place.start_site(f"s{number}")
        seen = watch({name: place.site(f"s{number}") for number, name in enumerate(DOORS)})
        for name, relay in relays.items():
            seen[name].callers, seen[name].said = relay.callers, sum(map(len, relay.streams))
        yield seen


def _accept(secrets: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(secrets / "server.crt", secrets / "server.key")
    return context


@pytest.mark.parametrize("name", DOORS)
def test_a_door_whose_certificate_is_not_in_order_hears_nothing(name: str, strangers: dict[str, Refused]) -> None:
    seen = strangers[name]
    assert DOORS[name][1] in seen.reason
    assert seen.said == 0, "not a byte of a request was sent"
    assert seen.callers <= 2 * (len(seen.pauses_s) + 1), "one try of the SuperNode and one look for the cause each time"
    nothing_happened(seen)
