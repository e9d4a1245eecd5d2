"""`flower-superexec` as a hospital runs it: Flower's own program, which keeps the messenger imported and forks it for each message.

Flower starts a new Python for every message, and it imports for seconds what the last one imported. Here the imports are done once, when the
site starts; each message still has a process of its own, with the memory that the imports left and nothing of another message. The code that
answers is the code that was there when the site started.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from contextlib import suppress
from typing import Any

PROGRAM = "flwr-clientapp"
PR_SET_NAME = 15
"""Of ``prctl(2)``: what the process is called, for whoever looks at a list of processes."""


def arguments_of(spec: Any) -> list[str]:
    """Return the command line that Flower would start for the task in `spec`."""
    words = [PROGRAM, "--runtime-api-address", spec.runtime_api_address, "--token", spec.token]
    words += ["--insecure"] if spec.insecure else ["--root-certificates", spec.root_certificates_path] if spec.root_certificates_path else []
    words += ["--parent-pid", str(spec.parent_pid)] if spec.parent_pid is not None else []
    return words  # dependencies are never installed while the site runs, whatever the server allows


def fork(arguments: list[str]) -> int:
    """Run the messenger on `arguments` in a child of this process, which has imported it; return the child's number."""
    from client.messenger import main

    child = os.fork()
    if child:
        return child
    code = 1
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        ctypes.CDLL(None).prctl(PR_SET_NAME, PROGRAM.encode(), 0, 0, 0)
        sys.argv = arguments
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()  # into the site's own log
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)  # nothing of the parent's is closed or written twice


def bury() -> None:
    """Take the exit codes of children that have ended: no process is left over."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def main() -> None:
    """Run Flower's program on this process's arguments."""
    from flwr.supercore.cli.flower_superexec import flower_superexec
    from flwr.supercore.constant import TaskType
    from flwr.supercore.superexec.executor.subprocess_executor import SubprocessExecutor
    from flwr.supercore.superexec.executor.types import LaunchResult

    import client.app
    import client.messenger  # noqa: F401

    def launch(self: Any, spec: Any) -> Any:
        del self
        if spec.task_type is not TaskType.CLIENT_APP:
            return LaunchResult.failed("a site runs client apps alone")
        fork(arguments_of(spec))
        return LaunchResult.accepted()

    SubprocessExecutor.launch = launch  # type: ignore[method-assign]
    SubprocessExecutor.reconcile = lambda self: bury()  # type: ignore[method-assign]
    flower_superexec()


if __name__ == "__main__":
    main()
