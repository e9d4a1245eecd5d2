"""What the site TOML says about getting studies: ``[receiver]``, ``[pacs]`` and ``[limits]``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from shared_models.core.choices import Section
from shared_models.core.errors import BadInput

Title = Annotated[str, Field(pattern=r"^[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?$")]
"""An application entity title: 1 to 16 printable characters, no backslash, no blanks around it (PS3.5 table 6.2-1, AE)."""
Port = Annotated[int, Field(ge=1, le=65535)]


class Tls(Section):
    """Paths, counted from the site TOML: our certificate and key, and whose certificates the other side may show."""

    certificate: str
    key: str
    authority: str


class Receiver(Section):
    """``[receiver]``: the C-STORE receiver that `fedild site up` runs. It listens on loopback unless `host` names an interface.

    Only callers named in `callers` are let in, and only when they call it by its `title`. A title is no proof of who calls: on a network
    that others can reach, `tls` asks for certificates.
    """

    title: Title = "FEDILD"
    callers: Annotated[tuple[Title, ...], Field(min_length=1)]
    host: str = "127.0.0.1"
    port: Port = 11112
    tls: Tls | None = None
    associations: Annotated[int, Field(ge=1, le=100)] = 10
    max_file_mb: Annotated[int, Field(ge=1, le=4096)] = 512


class Pacs(Section):
    """``[pacs]``: where `fedild site fetch` asks: DICOMweb under `url`, or DIMSE at `address` under `title`.

    With `retrieve` ``get`` studies come over the connection that asked for them; with ``move`` the PACS sends them to our receiver, whose title it
    must know. `password_file` holds ``user:password`` and is readable by its owner alone. `authority` is the certificate authority of an
    https `url`, where the system does not know it.
    """

    url: Annotated[str, Field(pattern=r"^https?://[^\s@]+$")] | None = None
    password_file: str | None = None
    authority: str | None = None
    address: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+:\d{1,5}$")] | None = None
    title: Title = "PACS"
    calling: Title = "FEDILD"
    retrieve: Literal["get", "move"] = "get"
    tls: Tls | None = None
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 60.0

    @model_validator(mode="after")
    def _one_way(self) -> Pacs:
        if (self.url is None) == (self.address is None):
            raise ValueError("exactly one of url (DICOMweb) and address (DIMSE) must be given")
        return self

    def credentials(self, folder: Path) -> tuple[str, str] | None:
        """Return user and password of `password_file`.

        Raises
        ------
        BadInput
            Others may read the file, or it holds no ``user:password``.
        """
        if self.password_file is None:
            return None
        path = folder / self.password_file
        if not path.is_file() or path.stat().st_mode & 0o077:
            raise BadInput("the password file of the PACS must be there, for its owner alone", remedy="chmod 600 it")
        user, found, password = path.read_text(encoding="utf-8").strip().partition(":")
        if not found:
            raise BadInput("the password file of the PACS must hold user:password")
        return user, password


class StudyLimits(Section):
    """``[limits]``: what one series may take while it is prepared: memory of its process in MB, seconds; 0 is no limit.

    A chest of 512 x 512 x 300 voxels takes about 0.75 GB and some seconds (`make bench-ct`).
    """

    memory_mb: Annotated[float, Field(ge=0)] = 6000.0
    seconds: Annotated[float, Field(ge=0)] = 1800.0
