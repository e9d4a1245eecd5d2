"""The server folder: its TOML, its layout, its permissions.

server.toml                  what an operator may set
secrets/                     authority, certificate, signing key, superexec's secret (0700; keys 0600)
sites.json                   the register of sites; kits/ what was made for them
queue.db                     runs and their states
state.db flwr/               Flower's own
runs/<run id>/               everything of a run
logs/ up.lock up.json        of the supervisor
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from server.identity import check_secrets, make_identities
from shared_models.core.choices import Section, load_toml, validated
from shared_models.core.errors import BadInput, Refused
from shared_models.core.files import write_atomic
from shared_models.experiment import Name

Port = Annotated[int, Field(ge=1, le=65535)]


class Address(Section):
    """``[server]``: under which address hospitals dial, where the door listens, which port Flower has on this machine alone."""

    name: Name
    address: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+:\d{1,5}$")]
    listen_host: str = "0.0.0.0"  # noqa: S104 - the door is what hospitals reach
    listen_port: Port = 8443
    fleet_port: Port = 8000

    @field_validator("address")
    @classmethod
    def _port_is_one(cls, value: str) -> str:
        if not 1 <= int(value.rpartition(":")[2]) <= 65535:
            raise ValueError("address is host:port with a port of 1 to 65535")
        return value


class Limits(Section):
    """``[limits]`` of the door. Bodies may have any size: what counts is that they go on.

    `connections` in all and `per_address` from one address at a time; a request's head within `head_s` seconds and `head_bytes` bytes; at
    least `slowest_bytes` bytes of a body in every `idle_s` seconds; an answer within `answer_s` seconds; a kept connection may be silent
    for `silent_s` seconds. From one address come at most `new_per_s` connections each second, `new_burst` at once; after `refused_burst`
    refused requests or handshakes it must wait until there is less than that again, at `refused_per_s` each second.
    """

    connections: Annotated[int, Field(ge=1, le=100_000)] = 512
    per_address: Annotated[int, Field(ge=1, le=100_000)] = 64
    head_bytes: Annotated[int, Field(ge=1024, le=1 << 20)] = 32768
    head_s: Annotated[float, Field(gt=0)] = 10.0
    idle_s: Annotated[float, Field(gt=0)] = 30.0
    slowest_bytes: Annotated[int, Field(ge=1)] = 4096
    answer_s: Annotated[float, Field(gt=0)] = 300.0
    silent_s: Annotated[float, Field(gt=0)] = 75.0
    handshake_s: Annotated[float, Field(gt=0)] = 10.0
    new_per_s: Annotated[float, Field(gt=0)] = 20.0
    new_burst: Annotated[int, Field(ge=1)] = 400
    refused_per_s: Annotated[float, Field(gt=0)] = 1.0
    refused_burst: Annotated[int, Field(ge=1)] = 60


class Server(Section):
    """A server as its TOML describes it."""

    server: Address
    limits: Limits = Limits()


@dataclass(frozen=True)
class ServerFolder:
    """A server folder that was read and whose permissions are right."""

    path: Path
    settings: Server

    @property
    def secrets(self) -> Path:
        """Keys and certificates."""
        return self.path / "secrets"

    @property
    def runs(self) -> Path:
        """One folder a run."""
        return self.path / "runs"

    @property
    def flower_home(self) -> Path:
        """Flower's own folder (FLWR_HOME)."""
        return self.path / "flwr"

    @property
    def superlink(self) -> str:
        """The SuperLink's address on this machine."""
        return f"127.0.0.1:{self.settings.server.fleet_port}"

    def run_folder(self, run: str) -> Path:
        """Return the folder of a run.

        Raises
        ------
        BadInput
            No such run.
        """
        path = self.runs / run
        if not run.isalnum() or not path.is_dir():
            raise BadInput("no such run on this server", value=run, remedy="`fedild server runs` lists them")
        return path


def init_folder(
    path: Path, *, name: str, address: str, listen_host: str | None = None, listen_port: int | None = None, fleet_port: int | None = None
) -> ServerFolder:
    """Make a server folder with its identities and return it.

    Parameters
    ----------
    path : Path
        New or empty.
    name : str
        The consortium's.
    address : str
        ``host:port`` that hospitals dial; the certificate is made for this host.

    Raises
    ------
    BadInput
        The folder is in use, or a setting is wrong.
    """
    path = path.resolve()
    if path.exists() and any(path.iterdir()):
        raise BadInput("a server folder must be new or empty", value=str(path), remedy="choose another one")
    given = {"listen_host": listen_host, "listen_port": listen_port, "fleet_port": fleet_port}
    document: dict[str, Any] = {"server": {"name": name, "address": address} | {key: value for key, value in given.items() if value is not None}}
    settings: Server = validated(Server, document, what="server.toml")
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)
    make_identities(path / "secrets", name=name, hosts=[address.rpartition(":")[0]])
    for sub in ("runs", "flwr", "logs", "kits"):
        (path / sub).mkdir(mode=0o700)
    write_atomic(path / "server.toml", _toml(settings).encode())
    return open_folder(path)


def open_folder(path: Path) -> ServerFolder:
    """Read a server folder; refuse one whose secrets others may read.

    Raises
    ------
    BadInput, Refused
        No server folder, a wrong setting, or open key files.
    """
    path = path.resolve()
    if not (path / "server.toml").exists():
        raise BadInput("a server folder was expected", value=str(path), remedy="name it with --folder, or make one with `fedild server init`")
    settings: Server = validated(Server, load_toml(path / "server.toml"), what="server.toml")
    if stat.S_IMODE((path / "secrets").stat().st_mode) & 0o077:
        raise Refused("the folder secrets/ is for its owner alone", remedy=f"chmod 700 {path / 'secrets'}", code="E_KEY_FILE")
    check_secrets(path / "secrets")
    return ServerFolder(path, settings)


def _toml(settings: Server) -> str:
    import tomli_w

    return tomli_w.dumps(settings.model_dump(mode="json"))
