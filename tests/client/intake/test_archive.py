"""Hostile archives write nothing outside, and nothing at all; honest ones give every file back."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.dicom import tags
from client.intake import archive
from client.intake.archive import ArchiveLimits, BadArchive, unpack

FILES = {"a/1": b"one", "a/2": b"two" * 1000, "b/1": b"", "loose": b"x"}
SMALL = ArchiveLimits(total_bytes=1 << 20, entries=50)


def zipped(path: Path, files: dict[str, bytes] = FILES) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in files.items():
            out.writestr(name, data)
    return path


def tarred(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as out:
        for info, data in members:
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return path


def plain(name: str, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), data


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def content(folder: Path) -> dict[str, list[bytes]]:
    """Bytes of all files, by folder."""
    return {str(here): [(Path(here) / name).read_bytes() for name in sorted(names)] for here, _, names in os.walk(folder) if names}


@pytest.mark.parametrize("suffix", sorted([*archive.SUFFIXES, ".ZIP"]))
def test_every_file_comes_out_under_no_name_of_its_own(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"export{suffix}"
    if suffix.lower() == ".zip":
        zipped(path)
    else:
        tarred(path, *(plain(name, data) for name, data in FILES.items()), mode="w:gz" if "gz" in suffix else "w")
    assert unpack(path, tmp_path / "out") == len(FILES)
    assert sorted(content(tmp_path / "out").values()) == sorted([[b"one", b"two" * 1000], [b""], [b"x"]])
    found = list((tmp_path / "out").rglob("*"))
    assert not [entry for entry in found if entry.name in ("a", "b", "loose")]
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in found} == {0o600, 0o700}


def hostile_zip(path: Path, name: str, mode: int = 0, data: bytes = b"evil") -> Path:
    info = zipfile.ZipInfo("x")
    info.filename, info.external_attr = name, mode << 16
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("good", b"1")
        out.writestr(info, data)
    return path


def encrypted(path: Path) -> Path:
    data = bytearray(zipped(path, {"a": b"1"}).read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + at] |= 1
    path.write_bytes(data)
    return path


def cut(path: Path, make: Callable[[Path], Path]) -> Path:
    data = make(path).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def flipped(path: Path) -> Path:
    data = bytearray(zipped(path, {"a": os.urandom(4000)}).read_bytes())
    data[2000] ^= 255
    path.write_bytes(data)
    return path


def nested(path: Path, depth: int) -> Path:
    data = b"core"
    for level in range(depth + 1):
        inner = io.BytesIO()
        with zipfile.ZipFile(inner, "w") as out:
            out.writestr("study/x.zip" if level else "study/x", data)
        data = inner.getvalue()
    path.write_bytes(data)
    return path


def lying(path: Path) -> Path:
    """A zip whose index says 10 bytes for 3 MB."""
    data = bytearray(zipped(path, {"a": bytes(3 << 20)}).read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = (10).to_bytes(4, "little")
    path.write_bytes(data)
    return path


HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "up.zip": (lambda p: hostile_zip(p, "../evil"), "ARCHIVE_UNSAFE"),
    "deep up.zip": (lambda p: hostile_zip(p, "a/../../evil"), "ARCHIVE_UNSAFE"),
    "absolute.zip": (lambda p: hostile_zip(p, "/tmp/evil"), "ARCHIVE_UNSAFE"),
    "drive.zip": (lambda p: hostile_zip(p, "C:\\evil"), "ARCHIVE_UNSAFE"),
    "backslash.zip": (lambda p: hostile_zip(p, "..\\evil"), "ARCHIVE_UNSAFE"),
    "link.zip": (lambda p: hostile_zip(p, "evil", stat.S_IFLNK | 0o777, b"/etc/passwd"), "ARCHIVE_UNSAFE"),
    "device.zip": (lambda p: hostile_zip(p, "evil", stat.S_IFCHR | 0o666), "ARCHIVE_UNSAFE"),
    "encrypted.zip": (encrypted, "ARCHIVE_ENCRYPTED"),
    "bomb.zip": (lambda p: zipped(p, {"a": bytes(3 << 20)}), "ARCHIVE_LIMITS"),
    "lying.zip": (lying, "ARCHIVE_DAMAGED"),
    "many.zip": (lambda p: zipped(p, {str(n): b"" for n in range(60)}), "ARCHIVE_LIMITS"),
    "nested.zip": (lambda p: nested(p, 3), "ARCHIVE_LIMITS"),
    "cut.zip": (lambda p: cut(p, zipped), "ARCHIVE_DAMAGED"),
    "flipped.zip": (flipped, "ARCHIVE_DAMAGED"),
    "empty.zip": (lambda p: (p.write_bytes(b""), p)[1], "ARCHIVE_DAMAGED"),
    "no.zip": (lambda p: (p.write_bytes(b"MZ" * 100), p)[1], "ARCHIVE_DAMAGED"),
    "up.tar": (lambda p: tarred(p, plain("../evil", b"1")), "ARCHIVE_UNSAFE"),
    "absolute.tar": (lambda p: tarred(p, plain("/tmp/evil", b"1")), "ARCHIVE_UNSAFE"),
    "symlink.tar": (lambda p: tarred(p, special("evil", tarfile.SYMTYPE, "/etc/passwd"), plain("evil/x", b"1")), "ARCHIVE_UNSAFE"),
    "hardlink.tar": (lambda p: tarred(p, special("evil", tarfile.LNKTYPE, "/etc/passwd")), "ARCHIVE_UNSAFE"),
    "device.tar": (lambda p: tarred(p, special("evil", tarfile.CHRTYPE)), "ARCHIVE_UNSAFE"),
    "pipe.tar.gz": (lambda p: tarred(p, special("evil", tarfile.FIFOTYPE), mode="w:gz"), "ARCHIVE_UNSAFE"),
    "bomb.tgz": (lambda p: tarred(p, plain("a", bytes(3 << 20)), mode="w:gz"), "ARCHIVE_LIMITS"),
    "cut.tar.gz": (lambda p: cut(p, lambda q: tarred(q, plain("a", os.urandom(9000)), mode="w:gz")), "ARCHIVE_DAMAGED"),
    "no.tar": (lambda p: (p.write_bytes(b"MZ" * 1000), p)[1], "ARCHIVE_DAMAGED"),
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_hostile_archive_is_refused_by_name_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    make, reason = HOSTILE[name]
    path = make(tmp_path / name)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadArchive) as refused:
        unpack(path, tmp_path / "here" / "out", SMALL)
    (tmp_path / "here").rmdir()  # empty
    assert refused.value.reason == reason
    assert reason in tags.QUARANTINED
    assert sorted(tmp_path.rglob("*")) == before
    assert "evil" not in str(refused.value)


def test_one_archive_in_another_is_opened_and_counted_in(tmp_path: Path) -> None:
    assert unpack(nested(tmp_path / "a.zip", 1), tmp_path / "out") == 1
    assert list(content(tmp_path / "out").values()) == [[b"core"]]


def test_the_ratio_counts_only_beyond_what_a_few_blank_images_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "a.zip", {"a": bytes(3 << 20)})
    unpack(path, tmp_path / "out")
    monkeypatch.setattr(archive, "MIN_RATIO_BYTES", 1 << 20)
    with pytest.raises(BadArchive, match="shrink"):
        unpack(path, tmp_path / "again")


def test_room_is_left_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "LEAVE_FREE_BYTES", 1 << 60)
    with pytest.raises(BadArchive) as refused:
        unpack(zipped(tmp_path / "a.zip"), tmp_path / "out")
    assert refused.value.reason == "NO_ROOM"


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=30), st.integers(0, 400), st.sampled_from(["zip", "tar", "tgz"]))
def test_spoilt_archives_only_ever_give_their_reasons(tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int, kind: str) -> None:
    folder = tmp_path_factory.mktemp("spoilt")
    path = folder / f"a.{kind}"
    zipped(path) if kind == "zip" else tarred(path, plain("a/1", zlib.compress(b"1")), mode="w:gz" if kind == "tgz" else "w")
    data = path.read_bytes()
    path.write_bytes(data[:at] + noise + data[at + len(noise) :])
    try:
        unpack(path, folder / "out", SMALL)
    except BadArchive as refused:
        assert refused.reason in tags.QUARANTINED
    assert {entry.name for entry in folder.iterdir()} <= {path.name, "out"}
