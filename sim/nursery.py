"""Imports everything heavy once, then forks the worker processes of `sim.pool`.

Started as ``python -m sim.nursery BROADCAST LINE:BOX:BOX ...`` with inherited file descriptors. A worker lives until its line closes, so
that no process outlives the simulation, however it ends; the boxes are nameless files in memory and vanish with the last process.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
import traceback
from multiprocessing.connection import Connection

BOXES: dict[str, int] = {}
"""File descriptors of this worker process: ``broadcast`` to read, ``out`` to write the next reply's bytes."""


def serve(line: Connection, boxes: list[int]) -> None:
    """Answer tasks ``(module, function, arguments)`` with ``(True, result)`` or ``(False, traceback)`` until the line closes."""
    count = 0
    while True:
        try:
            module, name, arguments = line.recv()
        except (EOFError, OSError):
            return
        # Two boxes in turn: the parent may still read the last reply while the next one is made.
        count += 1
        BOXES["out"] = boxes[count % 2]
        try:
            answer = (True, getattr(importlib.import_module(module), name)(*arguments))
        except BaseException:
            answer = (False, traceback.format_exc())
        try:
            line.send(answer)
        except (BrokenPipeError, OSError):
            return


def main() -> None:
    """Warm up, fork, wait for the children."""
    broadcast = int(sys.argv[1])
    workers = [[int(number) for number in text.split(":")] for text in sys.argv[2:]]
    # Imports make millions of objects that all stay: looking for garbage among them costs a tenth of the start, and each worker would look
    # again, and so copy the pages that it shares.
    gc.disable()
    importlib.import_module("sim.warm").warm()
    gc.freeze()
    for line, *boxes in workers:
        if os.fork() == 0:
            for other, *others in workers:
                if other != line:
                    for number in (other, *others):
                        os.close(number)
            gc.enable()
            # The module that tasks import is `sim.nursery`; this one runs as `__main__`.
            nursery = importlib.import_module("sim.nursery")
            nursery.BOXES["broadcast"] = broadcast
            nursery.serve(Connection(line), boxes)
            os._exit(0)
    for line, *_ in workers:
        os.close(line)
    for _ in workers:
        os.wait()
    os._exit(0)  # taking torch apart in good order takes a second, and somebody waits for this process


if __name__ == "__main__":
    main()
