"""Logs of events: lines of JSON with a time, rotated, so that a daemon may run for years."""

from __future__ import annotations

import json
import logging
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path

LOG_BYTES = 10 << 20


def event_log(path: Path, name: str) -> logging.Logger:
    """Return a logger of JSON lines at `path`, rotated at 10 MiB, three old files kept. Log with ``log.info("event", extra={"more": {...}})``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    log = logging.getLogger(f"{name}:{path}")
    if not log.handlers:
        handler = RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=3, encoding="utf-8")
        handler.setFormatter(_Lines())
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False
    return log


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        line = {"time": stamp, "level": record.levelname.lower(), "event": record.getMessage(), **getattr(record, "more", {})}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)
