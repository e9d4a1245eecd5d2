"""`flower-superlink` as a consortium runs it: Flower's own program, whose database neither fills the memory nor gives up while the disk is slow.

Flower lets every connection to its SQLite file keep 64 MB of pages and map 256 MB of the file, and opens connections as requests come: a model
of 250 MB that passes through takes a gigabyte. What passes through is read once, so a small cache serves as well. And a writer that waits for
another one waits here for a minute, not for five seconds, before a site gets an error in place of an answer.
"""

from __future__ import annotations

import sys

PRAGMAS = {"busy_timeout": "60000", "cache_size": "-2000", "mmap_size": "0"}
"""Settings of each connection: milliseconds that a writer waits, size of its cache (negative: in kB), bytes of the file that are mapped."""


def settle(pragmas: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Return Flower's settings with ours in the place of the same names.

    Raises
    ------
    LookupError
        Flower does not know one of our names any more: this version of it was not looked at.

    Examples
    --------
    >>> settle((("busy_timeout", "5000"), ("journal_mode", "WAL"), ("cache_size", "-64000"), ("mmap_size", "1")))
    (('busy_timeout', '60000'), ('journal_mode', 'WAL'), ('cache_size', '-2000'), ('mmap_size', '0'))
    """
    if missing := PRAGMAS.keys() - {name for name, _ in pragmas}:
        raise LookupError(f"Flower sets no {', '.join(sorted(missing))}")
    return tuple((name, PRAGMAS.get(name, value)) for name, value in pragmas)


def main() -> None:
    """Run Flower's program on this process's arguments."""
    from flwr.supercore import sql_mixin
    from flwr.superlink.cli import flower_superlink

    sql_mixin.SQLITE_PRAGMAS = settle(sql_mixin.SQLITE_PRAGMAS)  # type: ignore[assignment]
    sys.argv[0] = "flower-superlink"
    flower_superlink()


if __name__ == "__main__":
    main()
