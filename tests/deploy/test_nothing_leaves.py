"""One deployment under observation, ten rounds: whom its processes dial, what can be read on the line, and where a patient's name turns up.

Four hospitals: three take part (one of them prepared from DICOM files full of names), the fourth fails in every round over a file whose path
is a patient's name. Every daemon and command runs under `strace`; the line to the door is recorded as it travels and in plain.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import tomli_w

import sim.deployment
from client.guards import SEAL_BYTES
from server.queue import Entry
from server.runs.log import read_rounds
from shared_models.core.choices import Choice
from shared_models.core.files import read_json, write_atomic
from shared_models.experiment import Data, Evaluation, Experiment, Federation, Inputs
from shared_models.messages import Update, from_frame
from sim.deployment import Deployment, fedild, running_in
from tests.client.dicom_factory import SeriesPlan, chest, write
from tests.client.sites import CLASSES, table_site
from tests.deploy.watch import Dialled, addresses, dialled, under_watch
from tests.deploy.wire import Relay, files_with, opened

pytestmark = [pytest.mark.deployment, pytest.mark.timeout(1500)]

ROUNDS, RUN_S = 10, 1200.0
CANARY = "canary-7f3a91c0".ljust(64, "q").encode()
"""64 bytes of plain text in the experiment's title, and so in every job."""
GOOD = ("alpha", "beta", "gamma")
SITES = (*GOOD, "delta")
SURNAME, GIVEN, NUMBER, DOCTOR = "Quitzdorf", "Rosalinde", "MRN-48151623", "Zwetschkenbaum"
"""Planted in paths, file names, DICOM tags, tables and exceptions; nothing else on this machine is called so."""
PLANTED = [name.encode() for name in (SURNAME, GIVEN, NUMBER, DOCTOR)]
PATIENTS = 24


def experiment() -> Experiment:
    return Experiment(
        name="observed",
        title=CANARY.decode(),
        data=Data(classes=CLASSES),
        inputs=Inputs(columns=("whole_haa_percent", "age")),
        model=Choice(name="logistic"),
        federation=Federation(rounds=ROUNDS, quorum=3, deadline_s=300.0),
        evaluation=Evaluation(validation=0.25, bootstrap=0),
    )


class Observed(Deployment):
    """Each site in a folder named after a patient, each daemon under `strace`."""

    def site(self, name: str) -> Path:
        return self.out / "sites" / f"{name}-{SURNAME}"

    def traces(self, name: str) -> Path:
        return self.out / "traces" / name

    def _start(self, folder: Path, side: str) -> None:
        with patch.object(sim.deployment, "PROGRAM", (*under_watch(self.traces(folder.name.partition("-")[0])), *PROGRAM)):
            super()._start(folder, side)


PROGRAM = sim.deployment.PROGRAM


@dataclass
class Scene:
    """What is left to look at when the run is over and every process has ended."""

    place: Observed
    run: str
    sealed: Relay
    plain: Relay
    ports: dict[str, set[int]]
    """Ports of this machine that the processes of the server, or of a site, may dial."""
    updates: dict[int, Update] = field(default_factory=dict)


def table_hospital(place: Observed, name: str, seed: int) -> None:
    toml = table_site(place.out / "made", name, seed=seed)
    shutil.copytree(toml.parent, place.site(name))


def imaging_hospital(place: Observed, name: str) -> None:
    """An inbox whose folders, files and headers name patients, and a clinical table that does."""
    folder, rows = place.site(name), ["patient_id,diagnosis"]
    inbox = folder / f"{SURNAME}^{GIVEN}"
    for number in range(PATIENTS):
        hu = chest(slices=20, size=48, step_mm=10.0, pixel_mm=7.0, seed=number)
        plan = SeriesPlan(
            hu,
            step_mm=10.0,
            pixel_mm=(7.0, 7.0),
            patient=f"{NUMBER}-{number}",
            name=f"{SURNAME}{number}^{GIVEN}",
            study=f"1.2.3.{number}",
            series=f"1.2.3.{number}.1",
            prefix=f"{SURNAME}{number}_",
            extra={"PatientAge": f"{40 + number:03d}Y", "ReferringPhysicianName": DOCTOR, "PatientComments": f"{GIVEN} {SURNAME}"},
        )
        write(inbox / f"{GIVEN}_{SURNAME}{number}", plan)
        rows.append(f"{NUMBER}-{number},{CLASSES[number % 2]}")
    (folder / f"{SURNAME}.csv").write_text("\n".join(rows) + "\n")
    (folder / "site.toml").write_text(f'[site]\nname = "{name}"\ninbox = "{inbox.name}"\nclinical = "{SURNAME}.csv"\nworkspace = "work-{SURNAME}"\n')


def failing_hospital(place: Observed, name: str) -> None:
    """Its list of patients is a folder: reading it raises an error whose text is the path, and with it the patient's name."""
    (place.site(name) / f"{GIVEN}-{NUMBER}" / "cohort.json").mkdir(parents=True)
    (place.site(name) / "site.toml").write_text(f'[site]\nname = "{name}"\nworkspace = "{GIVEN}-{NUMBER}"\n')


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    # Not pytest's own folder: a worker's socket needs a short path.
    out = Path(tempfile.mkdtemp(prefix="fl-"))
    began = time.monotonic()

    def told(line: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {line}")

    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, out)
        place = Observed(out, told=told)
        stack.enter_context(patch.object(sim.deployment, "PROGRAM", (*under_watch(place.traces("commands")), *PROGRAM)))
        yield _observe(place, stack)


def _observe(place: Observed, stack: contextlib.ExitStack) -> Scene:
    table_hospital(place, "alpha", 1)
    table_hospital(place, "beta", 2)
    imaging_hospital(place, "gamma")
    failing_hospital(place, "delta")
    with place:
        place.found(SITES)
        door, fleet = _ports(place.server)
        plain = opened(place.server / "secrets", door)
        sealed = Relay(plain.port)
        stack.callback(plain.close)
        stack.callback(sealed.close)
        toml = place.out / "experiment.toml"
        write_atomic(toml, tomli_w.dumps(experiment().model_dump(mode="json", exclude_none=True)).encode())
        fedild("site", "prepare", "--experiment", str(toml), "--processes", "1", "--folder", str(place.site("gamma")))
        for name in SITES:
            settings = place.site(name) / "site.toml"
            settings.write_text(settings.read_text().replace(f"127.0.0.1:{door}", f"127.0.0.1:{sealed.port}"))
            fedild("site", "approve", str(toml), "--folder", str(place.site(name)))
            place.start_site(name)
        for name in SITES:
            place.wait_ready(place.site(name))
        ports = {"server": {door, fleet}} | {name: {sealed.port, _own_port(place.site(name))} for name in SITES}
        run = place.order(toml, SITES)
        found = Scene(place, run, sealed, plain, ports)

        def look(entry: Entry) -> None:
            for path in (place.site("alpha") / "workspace" / "steps").glob("*.frame"):
                with contextlib.suppress(OSError):
                    update = from_frame(path.read_bytes()[SEAL_BYTES:], Update)
                    found.updates.update({update.round: update} if update.state else {})

        place.follow(run, timeout_s=RUN_S, look=look)
    return found


def _ports(server: Path) -> tuple[int, int]:
    from server.folder import open_folder

    settings = open_folder(server).settings.server
    return settings.listen_port, settings.fleet_port


def _own_port(folder: Path) -> int:
    """Where the site's SuperNode serves its own programs."""
    words = Path(f"/proc/{running_in(folder)['supernode']['pid']}/cmdline").read_bytes().split(b"\0")
    return int(words[words.index(b"--port") + 1])


def test_the_run_went_through_all_its_rounds_without_the_failing_site(scene: Scene) -> None:
    rounds = read_rounds(scene.place.server / "runs" / scene.run / "rounds.jsonl")
    assert [line["round"] for line in rounds] == list(range(1, ROUNDS + 1))
    for line in rounds:
        assert {name: line["sites"][name]["refused"] for name in SITES} == {**dict.fromkeys(GOOD), "delta": "E_WORKER"}


@pytest.mark.parametrize("name", ["server", *SITES])
def test_a_daemon_dials_nobody_but_the_server(name: str, scene: Scene) -> None:
    used = dialled(scene.place.traces(name))
    assert {address for address in used if not address.is_loopback or address.port not in scene.ports[name]} == set()
    assert {address.port for address in used} == scene.ports[name], "the trace shows what is dialled"


def test_no_command_dials_anybody_but_the_server(scene: Scene) -> None:
    used = dialled(scene.place.traces("commands"))
    assert used, "the server's commands ask the SuperLink"
    assert {address for address in used if not address.is_loopback or address.port not in scene.ports["server"]} == set()


DIALS = {
    "TCP": ("import socket\ns = socket.socket()\ns.settimeout(0.2)\ns.connect_ex(('192.0.2.1', 443))", Dialled("192.0.2.1", 443)),
    "UDP, as DNS": ("import socket\nsocket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))", Dialled("192.0.2.1", 53)),
    "in a child": (
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import socket; socket.create_connection((\"127.0.0.1\", 9), 1)'])",
        Dialled("127.0.0.1", 9),
    ),
}


@pytest.mark.parametrize("name", DIALS)
def test_a_process_that_dials_is_seen(name: str, tmp_path: Path) -> None:
    import subprocess

    code, wanted = DIALS[name]
    try:
        subprocess.run([*under_watch(tmp_path), sys.executable, "-c", code], timeout=60, check=False, capture_output=True)
    except OSError as error:
        pytest.fail(f"strace cannot run here: {error}")
    until = time.monotonic() + 10
    while wanted not in dialled(tmp_path) and time.monotonic() < until:
        time.sleep(0.05)  # the tracer writes its last lines just after the process has gone
    assert wanted in dialled(tmp_path)


LINES = {
    'connect(3, {sa_family=AF_UNIX, sun_path="/run/nscd/socket"}, 110) = -1 ENOENT': [],
    'connect(3, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("10.0.0.53")}, 16) = 0': [Dialled("10.0.0.53", 53)],
    'connect(4, {sa_family=AF_INET6, sin6_port=htons(443), inet_pton(AF_INET6, "2001:db8::1", &sin6_addr), sin6_scope_id=0}, 28)': [
        Dialled("2001:db8::1", 443)
    ],
    "sendto(3, 0x1, 5, 0, {sa_family=AF_VSOCK, svm_cid=0x2}, 16) = 5": [Dialled("AF_VSOCK", 0)],
    'sendto(5, ""..., 20, 0, NULL, 0) = 20': [],
}


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_a_trace_is_read(line: str) -> None:
    assert list(addresses(line)) == LINES[line]


def test_the_canary_passes_in_plain_behind_the_tls_and_is_in_no_capture_of_the_line(scene: Scene) -> None:
    assert len(CANARY) == 64
    assert scene.plain.holds(CANARY), "every job carries the experiment's title"
    assert not scene.sealed.holds(CANARY)
    assert not any(scene.sealed.holds(part) for part in (CANARY[:16], b"/v1/fleet/", b"content-length"))
    carried, opened_up = (sum(map(len, relay.streams)) for relay in (scene.sealed, scene.plain))
    assert carried > opened_up > 100_000, "the capture of the line holds all that was said, and the TLS around it"


def test_the_weights_of_an_update_are_in_no_capture_of_the_line(scene: Scene) -> None:
    patterns = [max((np.ascontiguousarray(value).tobytes() for value in update.state.values()), key=len)[:64] for update in scene.updates.values()]
    patterns = [pattern for pattern in patterns if len(pattern) == 64 and len(set(pattern)) > 8]  # the first round's Hessian is still zero
    assert len(patterns) >= ROUNDS // 2
    for pattern in patterns:
        assert any(pattern in stream for stream in scene.plain.streams), "the update travelled"
        assert not any(pattern in stream for stream in scene.sealed.streams)


@pytest.mark.parametrize("name", PLANTED, ids=bytes.decode)
def test_a_planted_name_is_found_in_the_hospital_and_nowhere_else(name: bytes, scene: Scene) -> None:
    place = scene.place
    assert files_with(place.site("gamma"), name), "it was planted, and the search finds it"
    assert files_with(place.server, CANARY), "the search looks into the server's files and databases"
    assert files_with(place.server, name) == []
    assert not scene.plain.holds(name)
    assert not scene.sealed.holds(name)
    for other in ("alpha", "beta"):
        # Their own folder's name is their own affair; what the files say is not.
        own = place.site(other)
        assert [path for path in files_with(own, name) if _is_foreign(own / path, name)] == []


def _is_foreign(path: Path, name: bytes) -> bool:
    """Whether a file of a site holds `name` other than in the path of the site's own folder."""
    if not path.is_file():
        return True
    content = path.read_bytes()
    for folder in (parent for parent in path.parents if SURNAME in parent.name):
        content = content.replace(str(folder).encode(), b"")
    return name.lower() in content.lower()


def test_the_text_of_an_exception_stays_in_the_hospitals_log(scene: Scene) -> None:
    log = (scene.place.site("delta") / "logs" / "worker.log").read_text()
    assert "IsADirectoryError" in log
    assert NUMBER in log, "the error's text holds the name"
    for word in (b"IsADirectory", b"Traceback"):
        assert not scene.plain.holds(word)
    assert scene.plain.holds(b"E_WORKER"), "what leaves is a code"


def test_the_capture_is_of_every_site(scene: Scene) -> None:
    audits = {name: read_json(scene.place.site(name) / "kit.json")["name"] for name in SITES}
    assert audits == {name: name for name in SITES}
    assert all(scene.plain.holds(f'"site":"{name}"'.encode()) for name in SITES)
