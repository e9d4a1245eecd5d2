"""``make wheel``: build the wheel twice from copies with other times, paths and orders, and refuse two that differ in one byte."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.packages import ROOT
from shared_models.core.files import sha256

EPOCH = "1577836800"
"""Time of every file in the wheel: 2020-01-01, as zip files know no time before 1980 and builds no common clock."""


def sources() -> list[str]:
    """Return the files that git knows, below the project's root."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def build(names: list[str], into: Path, *, modified_s: float) -> Path:
    """Build a wheel in `into` from a copy of the files `names`, all 0644, last changed at `modified_s`; return its path."""
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "source"
        for name in names:
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)
            target.chmod(0o644)
            os.utime(target, (modified_s, modified_s))
        script = f"import os; os.umask(0o022); from setuptools import build_meta; build_meta.build_wheel({str(into.resolve())!r})"
        environment = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH, "PYTHONHASHSEED": "random"}
        built = subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=copy, env=environment, capture_output=True, text=True, check=False)
        if built.returncode:
            raise SystemExit(built.stderr)
    return next(into.glob("*.whl"))


def main() -> None:
    """Build twice, compare, and leave the wheel in ``dist``."""
    names = sources()
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    dist.mkdir()
    wheel = build(names, dist, modified_s=1.6e9)
    with tempfile.TemporaryDirectory() as other:
        again = sha256(build(names[::-1], Path(other), modified_s=1.7e9).read_bytes())
    first = sha256(wheel.read_bytes())
    if again != first:
        raise SystemExit(f"two builds differ: {first} and {again}")
    print(f"{wheel.relative_to(ROOT)} sha256:{first}, twice")


if __name__ == "__main__":
    main()
