"""TensorBoard's event file, written without TensorFlow and without a thread: each step is on the disk before the next round begins.

The library names its files after the machine; this one is always ``events.out.tfevents.fedild``, and a run that goes on appends to it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from server.runs.tracking.spec import Facts

FOLDER, FILE = "tensorboard", "events.out.tfevents.fedild"


class EventFile:
    """Appends one event a step."""

    def __init__(self, path: Path, facts: Facts) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        messages: tuple[Any, Any] = (event_pb2, summary_pb2)  # made while they are imported: a type checker sees no names in them
        self._event, self._summary = messages[0].Event, messages[1].Summary
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = not path.exists()
        self._writer = RecordWriter(open(path, "ab"))  # noqa: SIM115 - the writer closes it
        if fresh:
            self._write(file_version="brain.Event:2")

    def tell(self, step: int, figures: dict[str, float]) -> None:
        """Append the numbers of one step and flush them."""
        values = [self._summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
        self._write(step=step, summary=self._summary(value=values))

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _write(self, **fields: Any) -> None:
        self._writer.write(self._event(wall_time=time.time(), **fields).SerializeToString())
        self._writer.flush()


class Build:
    """Opens the event file of a run."""

    def __call__(self, home: Path, facts: Facts) -> EventFile:
        """Return the file, to be appended to."""
        return EventFile(home / FOLDER / FILE, facts)

    def ready(self) -> None:
        """Raise ImportError without tensorboard."""
        import tensorboard.summary.writer.record_writer  # noqa: F401


event_file = Build()
