"""Run a program that ends with its parent: ``python leash.py PARENT SIGNAL PROGRAM ARGUMENTS...``. Linux alone.

The kernel sends SIGNAL to the program when the thread that started it is gone (``prctl(PR_SET_PDEATHSIG)``, kept across ``exec``), so that a
killed supervisor leaves nobody behind. A file of its own, because Python code between fork and exec is not safe beside threads.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Tie this process to its parent and become the program; ends at once when the parent is gone already."""
    parent, signal, *command = arguments
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main(sys.argv[1:])
