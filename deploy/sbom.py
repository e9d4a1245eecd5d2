"""``make sbom``: write ``sbom.json``, the parts list of what a hospital installs, in CycloneDX 1.6 JSON (ECMA-424).

Made from the metadata of the installed packages rather than by a tool that lists a whole environment: the list names what runs at a
hospital, not what tests it. Equal packages give equal bytes: there is no time in it, and its number is derived from its content.
"""

from __future__ import annotations

import importlib.metadata
import json
import tomllib
import uuid
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.lock import LOCK
from deploy.packages import ROOT, declared, installed, needs
from shared_models.core.files import canonical_json, sha256

SBOM = ROOT / "sbom.json"
LONGEST_NAME = 80
"""Characters; a longer licence field is the licence's text, not its name."""


def document() -> dict[str, Any]:
    """Return the parts list as JSON values."""
    parts = installed()
    refs = {name: _purl(part) for name, part in parts.items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    own = f"pkg:pypi/{project['name']}@{project['version']}"
    direct = sorted(refs[canonicalize_name(Requirement(text).name)] for text in declared())
    body = {
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": project["name"],
                "version": project["version"],
                "description": project["description"],
                "licenses": [{"expression": project["license"]}],
                "purl": own,
            },
            "properties": [{"name": "fedild:requirements.lock:sha256", "value": sha256(LOCK.read_bytes())}],
        },
        "components": [_component(part, refs[name]) for name, part in parts.items()],
        "dependencies": [
            {"ref": own, "dependsOn": direct},
            *({"ref": refs[name], "dependsOn": [refs[one] for one in needs(part, set(parts))]} for name, part in parts.items()),
        ],
    }
    number = uuid.uuid5(uuid.NAMESPACE_URL, canonical_json(body))
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": f"urn:uuid:{number}", "version": 1, **body}


def licences(metadata: importlib.metadata.PackageMetadata) -> list[dict[str, Any]]:
    """Return what a package says of its licence: an SPDX expression, else the names of its classifiers, else its short field."""
    fields: dict[str, Any] = dict(metadata.items())
    if expression := fields.get("License-Expression"):
        return [{"expression": expression}]
    named = [one.rpartition(" :: ")[2] for one in metadata.get_all("Classifier") or () if one.startswith("License :: OSI Approved :: ")]
    text = str(fields.get("License") or "").strip()
    if not named and text and "\n" not in text and len(text) <= LONGEST_NAME:
        named = [text]
    return [{"license": {"name": name}} for name in named]


def _component(part: importlib.metadata.Distribution, ref: str) -> dict[str, Any]:
    found = {"type": "library", "bom-ref": ref, "name": part.metadata["Name"], "version": _version(part), "purl": ref}
    said = licences(part.metadata)
    return {**found, "licenses": said} if said else found


def _version(part: importlib.metadata.Distribution) -> str:
    return part.version.partition("+")[0]  # the build for a processor and the one for CUDA are one release


def _purl(part: importlib.metadata.Distribution) -> str:
    return f"pkg:pypi/{canonicalize_name(part.metadata['Name'])}@{_version(part)}"


def main() -> None:
    """Write the list."""
    made = document()
    SBOM.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")
    print(f"{SBOM.name}: {len(made['components'])} packages")


if __name__ == "__main__":
    main()
