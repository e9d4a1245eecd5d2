"""`flwr-clientapp` as a hospital runs it: Flower's own program, which looks at an app bundle before it is unpacked or imported.

The site's executor (`client/executor`) runs it for every message, in a process of its own.
A bundle without code is let through: the installed package runs. One with code runs only when the site has approved exactly its bytes. Texts
of exceptions, which Flower would send to the server, are replaced by a code.
"""

from __future__ import annotations

import io
import os
import tomllib
import zipfile
from pathlib import Path
from typing import Any

from client.approval import Approvals
from shared_models.core.errors import Refused
from shared_models.core.files import sha256

CODELESS = {".md", ".toml"}
BESIDES = {"LICENSE", ".info/CONTENT"}
OURS = "client.app:app"
REFUSED = "shared_models.core.errors.Refused"
LARGEST = 20 << 20
"""Bytes of a bundle when unpacked; Flower's own limit is 10 MiB zipped."""


def check_bundle(content: bytes, folder: Path) -> None:
    """Refuse an app bundle that may not run at the site in `folder`.

    Raises
    ------
    Refused
        E_APP: it holds code, or names another app than ours, and was not approved; or it is no bundle. E_APPROVALS: the list of approvals
        was changed by somebody else.
    """
    approvals = Approvals(folder)
    digest = sha256(content)
    if is_codeless(content):
        return
    try:
        if approvals.allows_app(digest):
            return
    except Refused as refused:
        approvals.audit.note("app refused", digest=digest, reason=refused.code)
        raise
    approvals.audit.note("app refused", digest=digest, reason="E_APP")
    raise Refused("an app with code of its own runs only when this site has approved it", remedy="fedild site approve BUNDLE.fab", code="E_APP")


def is_codeless(content: bytes) -> bool:
    """Return whether a bundle holds only descriptions and names our installed client app."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as bundle:
            names = [info.filename for info in bundle.infolist()]
            if sum(info.file_size for info in bundle.infolist()) > LARGEST or len(set(names)) != len(names) or any(map(_leads_out, names)):
                return False
            described = [name for name in names if Path(name).suffix not in CODELESS and name not in BESIDES]
            document = tomllib.loads(bundle.read("pyproject.toml").decode())
            return not described and document["tool"]["flwr"]["app"]["components"]["clientapp"] == OURS
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, OSError, RuntimeError):
        return False


def _leads_out(name: str) -> bool:
    return name.startswith("/") or "\\" in name or ".." in name.split("/")


def main() -> None:
    """Run Flower's program with our look at the bundle in place of its unpacking."""
    from flwr.app.error import Error
    from flwr.supernode.cli.flwr_clientapp import flwr_clientapp
    from flwr.supernode.runtime import run_clientapp

    folder = Path(os.environ["FEDILD_SITE"])
    unpack, report = run_clientapp.install_from_fab, run_clientapp.push_task_output

    def checked(content: bytes, *args: Any, **kwargs: Any) -> Any:
        check_bundle(content, folder)
        return unpack(content, *args, **kwargs)

    def silent(*, details: str, **kwargs: Any) -> None:
        report(details="E_MESSENGER" if details else "", **kwargs)

    run_clientapp.install_from_fab = checked
    run_clientapp.push_task_output = silent
    run_clientapp.Error = lambda code, reason="": Error(code=code, reason="E_APP" if REFUSED in reason else "E_MESSENGER")
    flwr_clientapp()
