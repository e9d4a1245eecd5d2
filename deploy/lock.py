"""``make lock``: write ``requirements.lock``, what a hospital installs with the SHA-256 of every file of each release.

The versions are those of ``constraints.txt``, the names those that `fedild` needs on Python 3.11 on Linux. Installed with
``pip install --no-deps --require-hashes -r requirements.lock``: a file that is not exactly one of these is refused.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from deploy.packages import ROOT, UNHASHED, constraints, installed

LOCK = ROOT / "requirements.lock"
HEAD = "# Made by `make lock` from constraints.txt; install with: pip install --no-deps --require-hashes -r requirements.lock\n"


def pins() -> dict[str, str]:
    """Return name and version of everything that the lock holds.

    Raises
    ------
    SystemExit
        Something that is needed has no version in ``constraints.txt``.
    """
    known, names = constraints(), [name for name in installed() if name not in UNHASHED]
    if missing := [name for name in names if name not in known]:
        raise SystemExit(f"constraints.txt must pin {', '.join(missing)}")
    return {name: known[name] for name in names}


def locked(text: str) -> dict[str, tuple[str, list[str]]]:
    """Return version and hashes by name of a lock's text.

    Examples
    --------
    >>> locked("six==1.17.0 --hash=sha256:ab --hash=sha256:cd")
    {'six': ('1.17.0', ['ab', 'cd'])}
    """
    found = {}
    for line in text.replace("\\\n", " ").splitlines():
        words = line.split("#")[0].split()
        if words:
            name, _, version = words[0].partition("==")
            found[name] = (version, [word.partition("sha256:")[2] for word in words[1:]])
    return found


def main() -> None:
    """Ask the package index, by the ordinary client, for the hashes of every release and write the lock."""
    wanted = "".join(f"{name}=={version}\n" for name, version in pins().items())
    command = [str(Path(sys.executable).parent / "uv"), "pip", "compile", "-", "--no-deps", "--generate-hashes"]
    command += ["--no-header", "--no-annotate", "--no-config", "--quiet", "--python-version", "3.11"]
    answer = subprocess.run(command, input=wanted, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(answer.stderr)
    left_out = "".join(f"# not {name}: {reason}\n" for name, reason in UNHASHED.items())
    LOCK.write_text(HEAD + left_out + answer.stdout)
    print(f"{LOCK.name}: {len(locked(LOCK.read_text()))} packages")


if __name__ == "__main__":
    main()
