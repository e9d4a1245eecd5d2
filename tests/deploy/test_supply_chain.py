"""What is installed at a hospital: pinned, hashed, listed, none of it known to be bad, and built to the same bytes."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from deploy import lock, sbom, wheel
from deploy.packages import DENIED, UNHASHED, constraints, declared, installed
from shared_models.core.files import sha256


def locked() -> dict[str, tuple[str, list[str]]]:
    return lock.locked(lock.LOCK.read_text())


def listed() -> dict[str, Any]:
    return json.loads(sbom.SBOM.read_text())


def is_denied(name: str, version: str) -> bool:
    return name in DENIED and version in SpecifierSet(DENIED[name][0], prereleases=True)


@pytest.mark.parametrize(("name", "version"), [("pydicom", "3.0.1"), ("pydicom", "2.4.4"), ("monai", "1.6.0"), ("monai", "1.5.1")])
def test_bad_versions_are_known(name: str, version: str) -> None:
    assert is_denied(name, version)


@pytest.mark.parametrize("name", DENIED)
def test_no_bad_version_is_pinned_or_allowed(name: str) -> None:
    assert not is_denied(name, constraints()[name])
    assert not is_denied(name, locked()[name][0])
    asked = next(one for one in map(Requirement, declared()) if one.name == name)
    lowest = next(part.version for part in asked.specifier if part.operator == ">=")
    assert not is_denied(name, lowest)


def test_the_lock_is_made_from_the_constraints() -> None:
    assert {name: version for name, (version, _) in locked().items()} == lock.pins(), "run `make lock`"
    assert set(installed()) == set(locked()) | set(UNHASHED)


def test_every_file_is_hashed() -> None:
    hashes = {name: found for name, (_, found) in locked().items()}
    assert not [name for name, found in hashes.items() if not found]
    assert all(re.fullmatch(r"[0-9a-f]{64}", one) for found in hashes.values() for one in found)
    assert not re.search(r"https?:|--index-url|--find-links|file:|/", re.sub(r"(?m)#.*$", "", lock.LOCK.read_text()))


def test_a_requirement_without_a_pin_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.lock.constraints", lambda: {name: version for name, version in constraints().items() if name != "pydicom"})
    with pytest.raises(SystemExit, match="pydicom"):
        lock.pins()


def test_the_parts_list_is_that_of_the_lock() -> None:
    assert {one["name"].lower().replace("_", "-").replace(".", "-"): one["version"] for one in listed()["components"]} == {
        **lock.pins(),
        **{name: constraints()[name] for name in UNHASHED},
    }, "run `make sbom`"
    assert listed()["metadata"]["properties"][0]["value"] == sha256(lock.LOCK.read_bytes()), "run `make sbom`"


def test_the_parts_list_is_made_to_the_same_bytes() -> None:
    assert sbom.document() == listed() == sbom.document(), "run `make sbom`"


def test_the_parts_list_is_cyclonedx() -> None:
    found = listed()
    assert (found["bomFormat"], found["specVersion"], found["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", found["serialNumber"])
    refs = [found["metadata"]["component"]["bom-ref"], *(one["bom-ref"] for one in found["components"])]
    assert len(set(refs)) == len(refs)
    assert [one["ref"] for one in found["dependencies"]] == refs
    assert {ref for one in found["dependencies"] for ref in one["dependsOn"]} == set(refs[1:])  # nothing is there that nobody asks for
    assert all(len(set(one["dependsOn"])) == len(one["dependsOn"]) for one in found["dependencies"])


def test_every_part_names_its_licence() -> None:
    silent = [one["name"] for one in listed()["components"] if not one.get("licenses")]
    assert silent == []
    strong = [one["name"] for one in listed()["components"] if re.search(r"(?<!L)GPL|AGPL|General Public", json.dumps(one["licenses"]))]
    assert strong == []


def test_two_builds_are_the_same_bytes(tmp_path: Path) -> None:
    names = wheel.sources()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    one = wheel.build(names, tmp_path / "a", modified_s=1.6e9)
    two = wheel.build(names[::-1], tmp_path / "b", modified_s=1.7e9)
    assert sha256(one.read_bytes()) == sha256(two.read_bytes())
    with zipfile.ZipFile(one) as whole:
        inside = {name.split("/")[0] for name in whole.namelist()}
    assert {"client", "server", "shared_models", "sim"} < inside
    assert not inside & {"tests", "bench", "deploy"}
