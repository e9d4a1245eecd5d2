"""The receiver: who is let in, what lands and how; bytes unchanged, nothing half-written, nothing without end."""

from __future__ import annotations

import errno
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import CTImageStorage, Verification  # pyright: ignore[reportAttributeAccessIssue]

from client.cases.identity import Pseudonyms
from client.dicom.scan import list_files
from client.identity import make_site
from client.intake import landing as landing_file
from client.intake import receiver as receiver_file
from client.intake.landing import Landing
from client.intake.receiver import NOT_UNDERSTOOD, OUT_OF_RESOURCES, receiving, sockets, tls_context
from client.intake.settings import Receiver, Tls
from client.supervisor import programs_of
from shared_models.core.errors import BadInput
from tests.client.dicom_factory import SeriesPlan, chest, dataset
from tests.client.intake.orthanc import free_port

PLAN = SeriesPlan(chest(3))


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(tmp_path / "inbox", Pseudonyms(bytes(32)))


@contextmanager
def listening(landing: Landing, **settings: object) -> Iterator[Receiver]:
    receiver = Receiver.model_validate({"callers": ("PACS",), "port": free_port(), **settings})
    with receiving(receiver, landing, landing.inbox.parent):
        yield receiver


@contextmanager
def calling(
    receiver: Receiver, *, title: str = "PACS", called: str = "FEDILD", tls: Tls | None = None, folder: Path = Path()
) -> Iterator[Association]:
    entity = AE(ae_title=title)
    entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    entity.add_requested_context(Verification)
    entity.acse_timeout = entity.connection_timeout = entity.dimse_timeout = 10
    tls_args = None if tls is None else (tls_context(tls, folder, server=False), "localhost")
    association = entity.associate(receiver.host, receiver.port, ae_title=called, evt_handlers=sockets(), tls_args=tls_args)
    yield association
    if association.is_established:
        association.release()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_what_is_sent_lands_unchanged_for_its_owner_alone(landing: Landing) -> None:
    with listening(landing) as receiver, calling(receiver) as association:
        assert association.send_c_echo().Status == 0
        for _ in range(2):  # the same image again replaces itself
            assert all(association.send_c_store(dataset(PLAN, k, k)).Status == 0 for k in range(3))
    files = list_files(landing.inbox)
    assert len(files) == 3 and len({Path(path).parent for path in files}) == 1
    assert {Path(path).stat().st_mode & 0o777 for path in files} == {0o600}
    assert not [path for path in files if PLAN.study in path or PLAN.patient in path]
    for path in files:
        landed = dcmread(path)
        sent = dataset(PLAN, int(landed.InstanceNumber), int(landed.InstanceNumber))
        assert {tag: str(landed[tag].value) for tag in landed.keys()} == {tag: str(sent[tag].value) for tag in sent.keys()}  # noqa: SIM118


@pytest.mark.parametrize(("title", "called"), [("STRANGER", "FEDILD"), ("PACS", "OTHER")])
def test_who_is_not_let_in(title: str, called: str, landing: Landing, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with listening(landing) as receiver, calling(receiver, title=title, called=called) as association:
        assert association.is_rejected
    assert "STRANGER" not in "".join(record.getMessage() for record in caplog.records if record.name.startswith("fedild"))


def test_what_cannot_be_stored_is_answered_so(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(landing) as receiver, calling(receiver) as association:
        nameless = dataset(PLAN, 0, 0)
        nameless.StudyInstanceUID = ""
        assert association.send_c_store(nameless).Status == NOT_UNDERSTOOD

        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "no room")

        monkeypatch.setattr(landing_file, "write_atomic", full)
        assert association.send_c_store(dataset(PLAN, 0, 0)).Status == OUT_OF_RESOURCES
        monkeypatch.undo()
        assert association.send_c_store(dataset(PLAN, 0, 0)).Status == 0  # and the next one is taken


def test_an_object_without_end_is_cut_off(landing: Landing) -> None:
    with listening(landing, max_file_mb=1) as receiver, calling(receiver) as association:
        large = dataset(SeriesPlan(chest(1, 800)), 0, 0)
        assert association.send_c_store(large).get("Status") != 0
    assert list_files(landing.inbox) == []


def test_a_port_that_is_taken(landing: Landing) -> None:
    with listening(landing) as receiver, pytest.raises(BadInput, match="free"), listening(landing, port=receiver.port):
        pass


def test_tls_asks_for_a_certificate(landing: Landing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver_file, "GREETING_S", 0.3)
    for name in ("ours", "theirs"):
        subject = f"/CN={'localhost'}"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        command += ["-subj", subject, "-addext", "subjectAltName=DNS:localhost", "-keyout", str(tmp_path / f"{name}.key")]
        subprocess.run([*command, "-out", str(tmp_path / f"{name}.crt")], check=True, capture_output=True)
    ours = Tls(certificate="ours.crt", key="ours.key", authority="theirs.crt")
    theirs = Tls(certificate="theirs.crt", key="theirs.key", authority="ours.crt")
    with listening(landing, tls=ours.model_dump()) as receiver:
        with calling(receiver, tls=theirs, folder=tmp_path) as association:
            assert association.send_c_store(dataset(PLAN, 0, 0)).Status == 0
        with socket.create_connection((receiver.host, receiver.port)) as mute:  # says nothing, and holds nobody up for long
            with calling(receiver, tls=theirs, folder=tmp_path) as association:
                assert association.send_c_echo().Status == 0
            mute.sendall(b"no TLS")
    with pytest.raises(BadInput, match="PEM"), listening(landing, tls=ours.model_dump() | {"key": "none.key"}):
        pass


def test_what_a_killed_one_left_half_written_goes(landing: Landing) -> None:
    folder = landing.inbox / "0123"
    folder.mkdir(parents=True)
    for name in (".a.dcm.x1.part", "a.dcm"):
        (folder / name).touch()
    landing.sweep()
    assert [path.name for path in folder.iterdir()] == ["a.dcm"]


def test_the_site_runs_it_when_its_toml_says_so(tmp_path: Path) -> None:
    site, port = tmp_path / "s", free_port()
    make_site(site, "alpha")
    (site / "secrets" / "ca.crt").write_text("x")
    toml = (site / "site.toml").read_text() + '\n[server]\naddress = "localhost:9443"\nname = "lungs"\n'
    (site / "site.toml").write_text(toml)
    assert "receiver" not in [program.name for program in programs_of(site)]
    (site / "site.toml").write_text(toml + f'\n[receiver]\ncallers = ["PACS"]\nport = {port}\n')
    (program,) = (program for program in programs_of(site) if program.name == "receiver")
    assert program.command[0] == sys.executable
    process = subprocess.Popen(program.command, env={"PYTHONPATH": str(Path.cwd()), **dict(program.environment)})
    try:
        receiver = Receiver(callers=("PACS",), port=port)
        until = time.monotonic() + 60
        while not listens(port):
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.1)
        with calling(receiver) as association:
            assert association.send_c_store(dataset(PLAN, 0, 0)).Status == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()
    assert len(list_files(site / "dicom")) == 1
    assert (site / "logs" / "receive.log").stat().st_mode & 0o777 == 0o600
