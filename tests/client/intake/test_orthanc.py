"""A real PACS: store, query, retrieve over DICOMweb, C-GET and C-MOVE, prepare; the voxels are those that were stored."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from highdicom.seg import Segmentation
from typer.testing import CliRunner

from client.cli import app
from client.dicom.results import SERIES_PATTERNS, Maker, Measured, report, segment_names, segmentation
from client.dicom.scan import list_files
from client.intake.fetch import Fetch
from client.intake.receiver import receiver_of, receiving
from client.prepare import prepare_folder
from client.site import Site
from shared_models.experiment import Preparation
from tests.client.dicom_factory import SeriesPlan, chest, write
from tests.client.intake.orthanc import PASSWORD, REFUSED, USER, Orthanc, dcmtk, free_port

PATIENTS = ("Doe-0007", "Roe-0008")
SLICES = 40
PLANS = {
    "Doe-0007": SeriesPlan(chest(seed=1), patient="Doe-0007", study="1.2.9.1", series="1.2.9.1.1", extra={"AccessionNumber": "ACC0007"}),
    "Roe-0008": SeriesPlan(chest(seed=2), patient="Roe-0008", name="Roe^R", study="1.2.9.2", series="1.2.9.2.1", extra={"AccessionNumber": "A8"}),
}
RECEIVER = free_port()


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both studies as files, one of the two compressed (RLE), and a series that is no CT."""
    folder = tmp_path_factory.mktemp("originals")
    for patient, plan in PLANS.items():
        write(folder / patient, plan)
    compress = dcmtk("dcmcrle")
    if compress is not None:
        for path in list_files(folder / "Roe-0008"):
            subprocess.run([compress, path, path], check=True)
    mr = SeriesPlan(chest(2), patient="Doe-0007", study="1.2.9.1", series="1.2.9.1.7", extra={"Modality": "MR", "AccessionNumber": "ACC0007"})
    write(folder / "other", mr)
    return folder


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory, originals: Path) -> Iterator[Orthanc]:
    pacs = Orthanc(tmp_path_factory.mktemp("pacs") / "orthanc", callers={"FEDILD": RECEIVER, "STORESCU": free_port()})
    pacs.start()
    assert store(pacs.dicom, originals) == 0
    yield pacs
    pacs.kill()


def store(port: int, folder: Path, *, called: str = "ORTHANC", calling: str = "STORESCU") -> int:
    """Push a folder with dcmtk, an implementation that is not ours; return its exit code."""
    command = [str(dcmtk("storescu")), "-R", "-xr", "-aec", called, "-aet", calling, "+sd", "+r", "127.0.0.1", str(port), str(folder)]
    return subprocess.run(command, capture_output=True).returncode


def site_with(folder: Path, pacs: str) -> Site:
    """A site whose TOML says `pacs`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "password").write_text(f"{USER}:{PASSWORD}\n")
    (folder / "password").chmod(0o600)
    receiver = f'[receiver]\ncallers = ["ORTHANC", "STORESCU"]\nport = {RECEIVER}\n'
    (folder / "site.toml").write_text(f'[site]\nname = "alpha"\n\n{receiver}\n[pacs]\ntimeout_s = 20\n{pacs}\n')
    return Site.load(folder / "site.toml")


def ways(orthanc: Orthanc) -> dict[str, str]:
    return {
        "web": f'url = "http://127.0.0.1:{orthanc.http}/dicom-web"\npassword_file = "password"',
        "get": f'address = "127.0.0.1:{orthanc.dicom}"\ntitle = "ORTHANC"',
        "move": f'address = "127.0.0.1:{orthanc.dicom}"\ntitle = "ORTHANC"\nretrieve = "move"',
    }


def prepared(folder: Path, workspace: Path) -> set[str]:
    """Cached studies: their names are digests of the voxels and of everything that was read."""
    return {Path(visit.prepared).name for case in prepare_folder(folder, workspace, Preparation()).cohort.cases for visit in case.visits}


def identifiers() -> list[bytes]:
    found = [plan.study for plan in PLANS.values()] + [*PLANS] + ["ACC0007", "Doe^Jane", "Roe^R", "1.2.9.1.1"]
    return [text.encode() for text in found]


@pytest.mark.parametrize("way", ["web", "get", "move"])
def test_store_query_retrieve_prepare(way: str, orthanc: Orthanc, originals: Path, tmp_path: Path) -> None:
    site = site_with(tmp_path / "s", ways(orthanc)[way])
    work = Fetch(site)
    assert work.ask([("accession", "ACC0007"), ("patient", "Roe-0008"), ("study", "1.2.9.1"), ("accession", "nobody")]) == 4
    steps: list[tuple[int, int]] = []
    assert work.run(lambda done, wanted: steps.append((done, wanted))) == {"done": 2, "failed": 1}
    assert len(steps) == 2 * SLICES and steps[-1] == (2 * SLICES, 2 * SLICES)
    assert [item.reason for item in work.queue.items(state="failed")] == ["NOT_FOUND"]
    inbox = site.path("dicom")
    files = list_files(inbox)
    assert len(files) == 2 * SLICES  # the MR series stayed where it was
    assert {Path(path).stat().st_mode & 0o777 for path in files} == {0o600}
    assert not [path for path in files for one in identifiers() if one.decode() in path]
    assert (site.workspace / "wanted.csv").stat().st_mode & 0o777 == 0o600
    for path in site.workspace.glob("queue*"):
        assert not [one for one in identifiers() if one in path.read_bytes()], path.name
    if way == "web":  # once is enough: what lands is the same
        shutil.copy(site.workspace / "site.key", tmp_path / "site.key")
        (tmp_path / "w").mkdir()
        (tmp_path / "site.key").rename(tmp_path / "w" / "site.key")
        assert prepared(inbox, site.workspace) == prepared(originals, tmp_path / "w") and len(prepared(inbox, site.workspace)) == 2
    stored = {one.read_bytes()[-4096:] for patient in PATIENTS for one in (originals / patient).iterdir()}
    assert {Path(path).read_bytes()[-4096:] for path in files} == stored  # pixels as stored, compressed ones too
    assert work.run() == {"done": 2, "failed": 1}  # and nothing is fetched twice


def test_the_commands(orthanc: Orthanc, tmp_path: Path) -> None:
    site = site_with(tmp_path / "s", ways(orthanc)["web"])
    (tmp_path / "list.csv").write_text("accession\nA8\nnobody\n")

    def run(*arguments: object, code: int = 0) -> str:
        result = CliRunner().invoke(app, [*map(str, arguments), "--folder", str(site.folder)])
        assert result.exit_code == code, result.output + repr(result.exception)
        return result.output

    assert "1 studies are here, 1 items failed" in run("fetch", "--accession-list", tmp_path / "list.csv", code=1)
    assert len(list_files(site.path("dicom"))) == SLICES
    assert "NOT_FOUND" in run("queue", "--state", "failed")
    found = json.loads(run("queue", "--format", "json"))
    assert found["counts"]["fetch"]["done"] == 1 and {item["state"] for item in found["items"]} == {"done", "failed"}
    assert not [one for one in identifiers() if one.decode() in json.dumps(found)]
    assert "1 items wait anew" in run("queue", "--retry", "all")
    assert json.loads(run("queue", "--format", "json"))["counts"]["find"]["waiting"] == 1


def test_wrong_titles_and_passwords_are_refused(orthanc: Orthanc, originals: Path, tmp_path: Path) -> None:
    assert store(orthanc.dicom, originals, called="WRONG") != 0
    good = ways(orthanc)
    for number, pacs in enumerate(
        [
            good["get"].replace('"ORTHANC"', '"WRONG"'),
            good["get"] + '\ncalling = "STRANGER"',
            good["web"].replace('password_file = "password"', ""),
        ]
    ):
        work = Fetch(site_with(tmp_path / str(number), pacs), pauses_s=())
        work.ask([("patient", "Doe-0007")])
        assert work.run() == {"done": 0, "failed": 1}
        assert [item.reason for item in work.queue.items(state="failed")] == ["REFUSED"]


@pytest.mark.filterwarnings(REFUSED)
@pytest.mark.parametrize("way", ["web", "get"])
def test_a_pacs_that_is_killed_in_the_middle(way: str, orthanc: Orthanc, tmp_path: Path) -> None:
    site = site_with(tmp_path / "s", ways(orthanc)[way])
    work = Fetch(site, pauses_s=(0.1,))
    work.ask([("patient", "Doe-0007")])

    def kill_once(done: int, wanted: int) -> None:
        if done == 12:
            orthanc.kill()

    try:
        assert work.run(kill_once) == {"done": 0, "failed": 1}
        assert [item.reason for item in work.queue.items(state="failed")] == ["UNREACHABLE"]
        here = {path: Path(path).stat().st_mtime_ns for path in list_files(site.path("dicom"))}
        assert 12 <= len(here) < SLICES
    finally:
        orthanc.start()
    again = Fetch(Site.load(site.folder / "site.toml"))
    assert again.queue.retry() == 1
    steps: list[int] = []
    assert again.run(lambda done, wanted: steps.append(done)) == {"done": 1, "failed": 0}
    assert len(steps) == SLICES - len(here)
    assert all(Path(path).stat().st_mtime_ns == stamp for path, stamp in here.items())  # what had come was not fetched again


def test_a_pacs_pushes_to_our_receiver(orthanc: Orthanc, originals: Path, tmp_path: Path) -> None:
    site = site_with(tmp_path / "s", ways(orthanc)["get"])
    with receiving(*receiver_of(site), site.folder):
        study = orthanc.ask("/tools/find", b'{"Level": "Study", "Query": {"PatientID": "Roe-0008"}}').decode().split('"')[1]
        orthanc.ask("/modalities/fedild/store", study.encode())
        assert store(RECEIVER, originals / "Doe-0007", called="FEDILD") == 0
        assert len(list_files(site.path("dicom"))) == 2 * SLICES
        assert store(RECEIVER, originals / "Doe-0007", called="FEDILD", calling="STRANGER") != 0
        assert store(RECEIVER, originals / "Doe-0007", called="OTHER") != 0
    assert len(list_files(site.path("dicom"))) == 2 * SLICES


def test_results_are_stored_queried_and_read_back(orthanc: Orthanc, originals: Path, tmp_path: Path) -> None:
    images = [pydicom.dcmread(path) for path in list_files(originals / "Doe-0007")]
    for image in images:
        image.FrameOfReferenceUID = "1.2.9.1.99"
    images.sort(key=lambda image: float(image.ImagePositionPatient[2]))
    labels = np.zeros((SLICES, int(images[0].Rows), int(images[0].Columns)), np.uint8)
    labels[10:20, 20:30, 10:25] = 1
    maker = Maker("fibrosis", "cd" * 32, "0.1.0")
    lungs = segmentation(images, labels, segment_names(), maker)
    marked = np.where(labels > 0, np.arange(labels.shape[2]) % 3, 0).astype(np.uint8)  # ground glass and reticulation
    patterns = segmentation(images, marked, segment_names(patterns=True), maker, series_number=SERIES_PATTERNS)
    measured = {"right lung": [Measured("Volume", 2100.5, "mL")], "ggo": [Measured("volume", 12.25, "mL")]}
    told = report(images, lungs, {"UIP": 0.7}, measured, maker, patterns=patterns)
    made = {"lungs": (lungs, labels), "patterns": (patterns, marked), "SR": (told, None)}
    (tmp_path / "results").mkdir()
    for name, (one, _) in made.items():
        one.save_as(tmp_path / "results" / f"{name}.dcm", enforce_file_format=True)
    assert store(orthanc.dicom, tmp_path / "results") == 0
    for one, held in made.values():
        query = {"Level": "Instance", "Query": {"PatientID": "Doe-0007", "Modality": one.Modality, "SeriesInstanceUID": one.SeriesInstanceUID}}
        (found,) = json.loads(orthanc.ask("/tools/find", json.dumps(query).encode()))
        back = pydicom.dcmread(io.BytesIO(orthanc.ask(f"/instances/{found}/file")))
        assert back.SOPInstanceUID == one.SOPInstanceUID and back.StudyInstanceUID == "1.2.9.1"
        if held is not None:
            read = Segmentation.from_dataset(back)
            wanted = [image.SOPInstanceUID for image in images]
            frames = read.get_pixels_by_source_instance(wanted, combine_segments=True, assert_missing_frames_are_empty=True)
            assert np.array_equal(frames, held)
        else:
            assert all(word in str(back.ContentSequence) for word in ("2100.5", "12.25", patterns.SOPInstanceUID))
