"""The operations files: no root, no secrets on command lines, images read-only, nothing writable but the one folder, nothing phones home."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = {"server": DEPLOY / "fedild-server.service", "site": DEPLOY / "fedild-site.service"}
SECRET = re.compile(r"(?i)secret|token|password|passwd|private|api[_-]?key|-----BEGIN|ssl-keyfile|auth-supernode")
OFF = ("FLWR_TELEMETRY_ENABLED=0", "FLWR_DISABLE_UPDATE_CHECK=1", "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1")
HARDENED = {
    "NoNewPrivileges": "true",
    "ProtectSystem": "strict",
    "ProtectHome": "true",
    "PrivateTmp": "true",
    "PrivateDevices": "true",
    "ProtectKernelTunables": "true",
    "ProtectKernelModules": "true",
    "ProtectKernelLogs": "true",
    "ProtectControlGroups": "true",
    "ProtectClock": "true",
    "ProtectProc": "invisible",
    "RestrictSUIDSGID": "true",
    "RestrictNamespaces": "true",
    "LockPersonality": "true",
    "CapabilityBoundingSet": "",
    "UMask": "0077",
    "LimitCORE": "0",
}


def unit(text: str) -> dict[str, dict[str, list[str]]]:
    """A unit file as section, key, values: a key may come several times."""
    sections: dict[str, dict[str, list[str]]] = {}
    here: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("["):
            here = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            here.setdefault(key, []).append(value)
    return sections


def faults_of_unit(text: str) -> list[str]:
    """What is wrong with a unit file, as words."""
    service = unit(text)["Service"]
    faults = [f"{key} must be {value!r}" for key, value in HARDENED.items() if service.get(key) != [value]]
    user = service.get("User", ["root"])[0]
    if user in ("root", "0", ""):
        faults.append("runs as root")
    if not all(path.startswith("/var/lib/fedild-") for line in service.get("ReadWritePaths", ["/"]) for path in line.split()):
        faults.append("writes outside its folder")
    if any(SECRET.search(line) for key in ("ExecStart", "Environment") for line in service.get(key, [])):
        faults.append("a secret in arguments or environment")
    if not set(OFF) <= set(" ".join(service.get("Environment", [])).split()):
        faults.append("phones home")
    if service.get("KillMode") != ["mixed"] or service.get("Restart") != ["always"]:
        faults.append("is not started again, or ends without its supervisor's order")
    return faults


@pytest.mark.parametrize("side", UNITS)
def test_the_units_are_hardened(side: str) -> None:
    assert not faults_of_unit(UNITS[side].read_text())


def test_the_site_reads_its_images_and_no_more() -> None:
    service = unit(UNITS["site"].read_text())["Service"]
    assert service["ReadOnlyPaths"] == ["/srv/ct"]
    assert service["RestrictAddressFamilies"] == ["AF_INET AF_INET6 AF_UNIX"]


@pytest.mark.parametrize("side", UNITS)
def test_a_refused_node_is_tried_for_ever(side: str) -> None:
    sections = unit(UNITS[side].read_text())
    assert sections["Unit"]["StartLimitIntervalSec"] == ["0"]
    assert float(sections["Service"]["RestartSec"][0]) >= (15 if side == "site" else 1)


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("User=fedild-site", "User=root", "root"),
        ("User=fedild-site\n", "", "root"),
        ("ProtectSystem=strict", "ProtectSystem=full", "ProtectSystem"),
        ("ReadWritePaths=/var/lib/fedild-site", "ReadWritePaths=/var/lib/fedild-site /srv/ct", "outside"),
        ("--folder /var/lib/fedild-site", "--folder /var/lib/fedild-site --token abc", "secret"),
        ("FLWR_TELEMETRY_ENABLED=0 ", "", "phones home"),
        ("NoNewPrivileges=true\n", "", "NoNewPrivileges"),
    ],
)
def test_the_lint_sees(before: str, after: str, fault: str) -> None:
    text = UNITS["site"].read_text()
    assert before in text
    assert any(fault in found for found in faults_of_unit(text.replace(before, after)))


@pytest.mark.parametrize("side", UNITS)
def test_systemd_itself_rates_them_well(side: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not on this machine")
    command = ["systemd-analyze", "security", "--offline=true", "--json=short", "--no-pager", str(UNITS[side])]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if not found.stdout.startswith("["):
        pytest.skip(f"this systemd-analyze cannot look at files: {found.stderr[:80]!r}")
    exposure = sum(float(row["exposure"] or 0) for row in json.loads(found.stdout))
    assert exposure <= 3.0  # of 10; what remains: the network, which it is for, and /proc of its own user


def faults_of_container(text: str) -> list[str]:
    """What is wrong with a Containerfile, as words."""
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.strip().startswith("#")]
    last_stage = lines[max(i for i, line in enumerate(lines) if line.startswith("FROM ")) :]
    users = [line.split()[1] for line in last_stage if line.startswith("USER ")]
    faults = []
    if not users or users[-1].split(":")[0] in ("root", "0"):
        faults.append("runs as root")
    elif any(line.startswith(("RUN", "COPY", "ADD")) for line in last_stage[last_stage.index(f"USER {users[-1]}") :]):
        faults.append("the daemon's user changes the image")
    if any(SECRET.search(line) for line in lines if line.startswith(("ENV", "ARG", "CMD", "ENTRYPOINT"))):
        faults.append("a secret in the image")
    if any(line.startswith("ADD ") or re.search(r"curl|wget|chmod 777|--privileged", line) for line in lines):
        faults.append("fetches or opens what it should not")
    if any(":latest" in line or ":" not in line.split()[1] for line in lines if line.startswith("FROM ") and "/" in line):
        faults.append("an unpinned base")
    installs = [command for line in lines for command in line.split("&&") if "pip install" in command]
    if not all(
        "--no-deps" in one and ("--require-hashes -r requirements.lock" in one or one.split()[-1] in (".", "torch==2.13.0")) for one in installs
    ):
        faults.append("unpinned packages")
    if not all(any(setting in line for line in last_stage) for setting in OFF):
        faults.append("phones home")
    return faults


def test_the_image_is_not_root_and_pinned() -> None:
    assert not faults_of_container((DEPLOY / "Containerfile").read_text())


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("USER 10001:10001\n", "", "root"),
        ("USER 10001:10001", "USER root", "root"),
        ("--no-deps .", ".", "unpinned packages"),
        ("--require-hashes -r", "-r", "unpinned packages"),
        ("HOME=/tmp", "HOME=/tmp API_KEY=abc", "secret"),
        ("python:3.11-slim-bookworm AS", "python:latest AS", "unpinned base"),
        ("WORKDIR /data", "WORKDIR /data\nRUN touch x", "changes the image"),
    ],
)
def test_the_container_lint_sees(before: str, after: str, fault: str) -> None:
    text = (DEPLOY / "Containerfile").read_text()
    assert before in text
    assert any(fault in found for found in faults_of_container(text.replace(before, after)))


def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]


@pytest.mark.parametrize("side", ["server", "site"])
def test_compose_gives_no_rights(side: str) -> None:
    service = compose()[side]
    assert service["user"] == "10001:10001"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "environment", "env_file", "devices"} & service.keys()
    assert not any(SECRET.search(word) for word in service["command"])
    assert service["command"][:2] == [side, "up"]
    writable = [volume["target"] for volume in service["volumes"] if not volume.get("read_only")]
    assert writable == ["/data"]


def test_compose_opens_one_port_at_the_server_and_none_at_a_site() -> None:
    services = compose()
    assert services["server"]["ports"] == ["8443:8443"]
    assert "ports" not in services["site"]
    assert [volume["source"] for volume in services["site"]["volumes"] if volume.get("read_only")] == ["/srv/ct"]


def commands_in(text: str) -> list[list[str]]:
    """The `fedild ...` command lines of the shell blocks of a page."""
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.S)
    lines = [line.split("#")[0] for block in blocks for line in block.splitlines()]
    found = [re.match(r"fedild-(site|server) (.*)", line) or re.search(r"fedild:\S+ (site|server) (.*)", line) for line in lines]
    return [[match.group(1), *match.group(2).split()] for match in found if match]


def test_every_command_of_the_page_exists() -> None:
    from typer.main import get_command

    from sim.cli import app

    root: Any = get_command(app)
    for path in (ROOT / "docs" / "deploy.md",):
        commands = commands_in(path.read_text())
        assert len(commands) >= 9
        for words in commands:
            command = root
            for word in words[:2]:
                command = command.commands[word]
            known = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= known, words
            given = [word for i, word in enumerate(words[2:]) if not word.startswith("--") and not words[i + 1].startswith("--")]
            most = sum(1 for parameter in command.params if parameter.param_type_name == "argument")
            assert len(given) <= most, words


def test_every_test_that_the_papers_name_exists() -> None:
    for name in ("threat-model.md", "security-review.md"):
        for path in re.findall(r"`(tests/[A-Za-z0-9_/.]+)`", (ROOT / "docs" / name).read_text()):
            assert (ROOT / path).exists(), f"{name} names {path}"


def test_units_parse() -> None:
    for path in UNITS.values():
        configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",), comment_prefixes=("#",)).read_string(path.read_text())
