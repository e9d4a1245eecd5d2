"""Flower's own programs, called by name: how the SuperLink and its superexec are started, and the few `flwr` commands that we use.

Flower's control interface asks nobody who they are, so it listens on this machine's loopback alone; hospitals reach it through the door.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from server.folder import ServerFolder
from server.runs.place import HOME
from shared_models.core.errors import FedILDError
from shared_models.core.files import write_atomic
from shared_models.core.locks import is_locked
from shared_models.core.supervision import LEAN, OFFLINE

CONNECTION = "fedild"
PATIENCE_S = 120.0
"""Seconds that one `flwr` command may take: it imports for a second, on a machine that is busy for a minute."""
FINISHED = "finished:"


class FlowerFailed(FedILDError):
    """A `flwr` command that did not do what it was asked."""

    code = "E_FLOWER"


def command(name: str) -> str:
    """Return the path of one of Flower's programs beside this Python."""
    here = Path(sys.executable).parent / name
    return str(here if here.exists() else Path(sysconfig.get_path("scripts")) / name)


def environment(server: ServerFolder) -> dict[str, str]:
    """Return what every program of this server finds in its environment."""
    # Flower starts its own programs by name.
    path = f"{Path(command('flwr')).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    own = {"FLWR_HOME": str(server.flower_home), HOME: str(server.path), "PATH": path, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    return {**OFFLINE, **LEAN, **own}


def superlink_command(server: ServerFolder) -> list[str]:
    """Return the SuperLink's command: loopback, TLS, sites with registered keys alone, database on disk, apps in processes of their own."""
    secrets = server.secrets
    name = "superlink" if (secrets / "superlink.crt").exists() else "server"
    return [
        *(sys.executable, "-m", "server.superlink"),
        *("--host", "127.0.0.1", "--port", str(server.settings.server.fleet_port)),
        *("--ssl-ca-certfile", str(secrets / "ca.crt"), "--ssl-certfile", str(secrets / f"{name}.crt")),
        *("--ssl-keyfile", str(secrets / f"{name}.key")),
        "--enable-supernode-auth",
        *("--database", str(server.path / "state.db")),
        *("--isolation", "process", "--superexec-auth-secret-file", str(secrets / "superexec.secret")),
        "--disable-runtime-dependency-installation",
    ]


def superexec_command(server: ServerFolder) -> list[str]:
    """Return the command of the superexec, which starts a process for each run."""
    return [
        command("flower-superexec"),
        *("--runtime-api-address", server.superlink),
        *("--root-certificates", str(server.secrets / "ca.crt")),
        *("--superexec-auth-secret-file", str(server.secrets / "superexec.secret")),
    ]


def write_connection(server: ServerFolder) -> None:
    """Tell the `flwr` command where this server's SuperLink is."""
    text = (
        f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\naddress = "{server.superlink}"\n'
        f"root-certificates = {json.dumps(str(server.secrets / 'ca.crt'))}\n"
    )
    write_atomic(server.flower_home / "config.toml", text.encode(), mode=0o600)


def flwr(server: ServerFolder, *arguments: str, folder: Path | None = None) -> dict[str, Any]:
    """Run a `flwr` command and return its JSON.

    Raises
    ------
    FlowerFailed
        The server is not up; or the command ended otherwise or took too long, and the text is Flower's.
    """
    if not is_locked(server.path / "up.lock"):
        raise FlowerFailed("the server must be up for this", value=server.path, remedy="`fedild server up` in another terminal, or its service")
    write_connection(server)
    try:
        done = subprocess.run(
            [command("flwr"), *arguments, "--format", "json"],
            cwd=folder or server.flower_home,
            env={**os.environ, **environment(server)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FlowerFailed(
            f"`flwr {arguments[0]}` must answer", value=f"nothing in {PATIENCE_S:.0f} s", remedy="is `fedild server up` running?"
        ) from None
    answer = _json_in(done.stdout)
    if answer is None or not answer.get("success"):
        said = (answer or {}).get("error-message") or (done.stdout + done.stderr).strip()[-600:]
        raise FlowerFailed(f"`flwr {arguments[0]}` must succeed", value=said, remedy="is `fedild server up` running?")
    return answer


def register_node(server: ServerFolder, *, name: str, public_key: Path) -> int:
    """Register a site's public key under its name; return Flower's number for it."""
    return int(flwr(server, "supernode", "register", str(public_key), CONNECTION, "--name", name)["node-id"])


def unregister_node(server: ServerFolder, node: int) -> None:
    """Make Flower refuse the node from now on."""
    flwr(server, "supernode", "unregister", str(node), CONNECTION)


def list_nodes(server: ServerFolder) -> list[dict[str, Any]]:
    """Return Flower's registered nodes with their status."""
    return list(flwr(server, "supernode", "ls", CONNECTION).get("nodes", []))


def start_run(server: ServerFolder, bundle: Path) -> int:
    """Start the app in `bundle` and return Flower's number of the run."""
    return int(flwr(server, "run", str(bundle), CONNECTION, folder=bundle)["run-id"])


def run_status(server: ServerFolder, flower_run: int) -> tuple[str, str]:
    """Return Flower's status of a run (``running``, ``finished:failed``, ...) and its details."""
    run = flwr(server, "ls", CONNECTION, "--run-id", str(flower_run))["runs"][0]
    return str(run["status"]), str(run.get("status-details", ""))


def stop_run(server: ServerFolder, flower_run: int) -> None:
    """Ask Flower to stop a run."""
    flwr(server, "stop", str(flower_run), CONNECTION)


def write_bundle(folder: Path, *, experiment: str, run: str, sites: list[str], quorum: int) -> None:
    """Write the app of a run: a description without code. What runs is what this machine and each hospital have installed.

    The configuration travels to every site that takes part: the experiment, the run's identifier and its roster, and no path of this machine.
    """
    import tomli_w

    document = {
        "project": {"name": "fedild-run", "version": "0.1.0", "license": "Apache-2.0", "dependencies": ["fedild"]},
        "tool": {
            "flwr": {
                "app": {
                    "publisher": "fedild",
                    "fab-include": ["README.md"],
                    "components": {"serverapp": "server.app:app", "clientapp": "client.app:app"},
                    "config": {"experiment": experiment, "run": run, "sites": ",".join(sites), "quorum": quorum},
                }
            }
        },
    }
    write_atomic(folder / "pyproject.toml", tomli_w.dumps(document).encode())
    write_atomic(folder / "README.md", b"A run of FedILD. It holds no code: server and sites run what they have installed.\n")


def _json_in(text: str) -> dict[str, Any] | None:
    try:
        found, _ = json.JSONDecoder().raw_decode(text[text.index("{") :])
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
