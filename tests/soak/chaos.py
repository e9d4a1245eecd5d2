"""Kills at random moments: real processes, SIGKILL, printed seeds. Every run must finish by itself with the bits of the undisturbed run.

python -m tests.soak.chaos [--runs N] [--kills K] [--seed S] [--out FOLDER] [--victims a,b,c]

Each run is one federation of three sites on loopback, with `K` kills. This script plays systemd for the two daemons and nothing else: what
else dies, their supervisors must notice. After all runs everything is stopped, and no process and no temporary file may be left.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import tomli_w

from server.queue import Entry
from server.runs.log import read_rounds
from shared_models.core.choices import Choice
from shared_models.core.files import read_json, read_state, write_atomic
from shared_models.core.state import digest
from shared_models.core.supervision import marked
from shared_models.experiment import Data, Evaluation, Experiment, Federation, Train
from sim.deployment import Deployment, fedild, running_in
from sim.federation_demo import differences, simulate_same
from tests.client.sites import CLASSES, patch_site

NAMES = ("alpha", "beta", "gamma")
RUN_S = 1800.0


@dataclass(frozen=True)
class Pace:
    """How fast a run is hit.

    Parameters
    ----------
    first_s, between_s : tuple of float
        Seconds, drawn between two bounds, from the start of a run to the first kill, and from a recovery to the next kill.
    systemd_s : mapping of float
        Seconds until a killed supervisor is started again.
    width, steps : int
        Of the network and its training: how long a round takes.
    """

    first_s: tuple[float, float]
    between_s: tuple[float, float]
    systemd_s: Mapping[str, float]
    width: int
    steps: int


EARNEST = Pace((1.0, 12.0), (12.0, 25.0), {"server": 5.0, "daemon": 15.0}, width=8, steps=300)
"""A few seconds of training a round, so that kills fall into it too; RestartSec is that of the two units in `deploy/`."""
HASTE = Pace((0.5, 2.0), (0.5, 2.0), {"server": 1.0, "daemon": 1.0}, width=4, steps=60)
"""For `make test`: no pause that is not the programs' own."""


def experiment(pace: Pace = EARNEST) -> Experiment:
    """Three sites, all of them wanted in each of four rounds."""
    return Experiment(
        name="chaos",
        data=Data(kind="patches", classes=CLASSES),
        model=Choice.model_validate({"name": "patch_cnn", "width": pace.width, "bins": 8, "hidden": 16}),
        train=Train(batch=8, steps=pace.steps, optimiser=Choice.model_validate({"name": "adamw", "lr": 0.005}), augment=(Choice(name="flip"),)),
        strategy=Choice(name="fedadam"),
        federation=Federation(rounds=4, quorum=3, deadline_s=180.0, retries=20),
        evaluation=Evaluation(validation=0.25, bootstrap=0),
    )


def _find(folder: Path, word: str) -> int | None:
    """The process of a folder's daemon (by the mark in its environment) that is called `word` or whose command line holds it."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        for pid in marked(str(read_json(folder / "up.json")["mark"])):
            with contextlib.suppress(OSError):
                if word == Path(f"/proc/{pid}/comm").read_text().strip() or word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
    return None


def _program(folder: Path, name: str) -> int | None:
    return running_in(folder).get(name, {}).get("pid")


VICTIMS: dict[str, Callable[[Deployment, str], int | None]] = {
    "server": lambda d, site: d.pid(d.server),
    "server app": lambda d, site: _find(d.server, "flwr-serverapp"),
    "daemon": lambda d, site: d.pid(d.site(site)),
    "worker": lambda d, site: _program(d.site(site), "resident"),
    "superlink": lambda d, site: _program(d.server, "superlink"),
    "superexec": lambda d, site: _program(d.server, "superexec"),
    "door": lambda d, site: _program(d.server, "door"),
    "supernode": lambda d, site: _program(d.site(site), "supernode"),
    "messenger": lambda d, site: _find(d.site(site), "flwr-clientapp"),
}
"""Whom to kill: where its process is now, if it runs."""


@dataclass
class Chaos:
    """The kills of one run, at its deployment's sites; `kinds` are of `VICTIMS`, and what has been killed is taken out."""

    deployment: Deployment
    dealer: random.Random
    kinds: list[str]
    pace: Pace = EARNEST
    done: list[tuple[str, float, int]] = field(default_factory=list)
    recoveries_s: list[float] = field(default_factory=list)
    _next: float = 0.0
    _systemd: list[tuple[float, str]] = field(default_factory=list)
    _hurt: tuple[float, int] | None = None

    def begin(self) -> None:
        self._next = time.monotonic() + self.dealer.uniform(*self.pace.first_s)

    def look(self, entry: Entry) -> None:
        now = time.monotonic()
        for due, name in list(self._systemd):
            if now >= due:
                self._systemd.remove((due, name))
                self.deployment.start_server() if name == "server" else self.deployment.start_site(name)
        left = sum(1 for _ in self._departures(entry.run))
        if self._hurt is not None and left > self._hurt[1]:
            # The first message that leaves a site after a kill says that the run goes on.
            self.recoveries_s.append(now - self._hurt[0])
            self._hurt = None
            self._next = now + self.dealer.uniform(*self.pace.between_s)
        if self.kinds and self._hurt is None and not self._systemd and now >= self._next:
            self._kill(now, left)

    def end(self) -> None:
        for _, name in self._systemd:
            self.deployment.start_server() if name == "server" else self.deployment.start_site(name)
        self._systemd.clear()

    def _kill(self, now: float, left: int) -> None:
        kind, site = self.kinds[0], self.dealer.choice(NAMES)
        pid = VICTIMS[kind](self.deployment, site)
        if pid is None:
            return  # not there at this moment: at the next look
        self.kinds.pop(0)
        folder = {"server": self.deployment.server, "daemon": self.deployment.site(site)}.get(kind)
        if folder is not None:
            self.deployment.kill(folder)
            self._systemd.append((now + self.pace.systemd_s[kind], kind if kind == "server" else site))
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._hurt = (now, left)
        self.done.append((kind, now, left))
        self.deployment.told(
            f"  SIGKILL {kind}" + ("" if folder == self.deployment.server or kind.startswith(("super", "server", "door")) else f" of {site}")
        )

    def _departures(self, run: str) -> list[dict]:
        lines = []
        for name in NAMES:
            path = self.deployment.site(name) / "workspace" / "what-left.jsonl"
            with contextlib.suppress(OSError, ValueError):
                lines += [line for line in read_rounds(path) if line["run"] == run]
        return lines


def repeated(deployment: Deployment, run: str) -> int:
    """Rounds of a run that some site answered more than once."""
    worst = 0
    for name in NAMES:
        rounds = [
            line["round"] for line in read_rounds(deployment.site(name) / "workspace" / "what-left.jsonl") if line["run"] == run and line["keys"]
        ]
        worst = max(worst, len(rounds) - len(set(rounds)))
    return worst


def leftovers(out: Path) -> list[str]:
    """Processes that name `out` on their command line or in their environment, and temporary files in it; not we and whoever started us."""
    word, found, ours = str(out).encode(), [], {os.getpid()}
    above = os.getpid()
    while above > 1:
        above = int(Path(f"/proc/{above}/stat").read_text().rpartition(")")[2].split()[1])
        ours.add(above)
    for place in Path("/proc").iterdir():
        if place.name.isdigit() and int(place.name) not in ours:
            with contextlib.suppress(OSError):
                if word in (place / "cmdline").read_bytes() or word in (place / "environ").read_bytes():
                    found.append(f"process {place.name} {(place / 'cmdline').read_bytes()[:120]!r}")
    return found + [str(path.relative_to(out)) for path in out.rglob("*.part")]


def chaos(out: Path, *, runs: int, kills: int, seed: int, victims: list[str], pace: Pace = EARNEST) -> bool:
    """Do it all in `out`, print what happened, and return whether every promise held."""
    began = time.monotonic()

    def told(line: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {line}", flush=True)

    dealer = random.Random(seed)
    plan = [[victims[(number * kills + k) % len(victims)] for k in range(kills)] for number in range(runs)]
    for kinds in plan:
        dealer.shuffle(kinds)
    good = True
    with Deployment(out, told=told) as deployment:
        for number, name in enumerate(NAMES):
            patch_site(out / "sites", name, seed=number)
        deployment.found(NAMES)
        toml = out / "experiment.toml"
        write_atomic(toml, tomli_w.dumps(experiment(pace).model_dump(mode="json", exclude_none=True)).encode())
        for name in NAMES:
            fedild("site", "approve", str(toml), "--folder", str(deployment.site(name)))
            deployment.start_site(name)
        for name in NAMES:
            deployment.wait_ready(deployment.site(name))
        undisturbed = simulate_same(experiment(pace), deployment, list(NAMES), processes=1)
        told(f"undisturbed: {digest(read_state(undisturbed / 'final.safetensors'))[:16]}")
        recoveries: list[float] = []
        for number, kinds in enumerate(plan):
            own = dealer.randrange(2**31)
            told(f"run {number + 1} of {runs}, seed {own}: {', '.join(kinds)}")
            storm = Chaos(deployment, random.Random(own), list(kinds), pace)
            run = deployment.order(toml, NAMES)
            storm.begin()
            started = time.monotonic()
            deployment.follow(run, timeout_s=RUN_S, look=storm.look)
            storm.end()
            unequal = differences(deployment.server / "runs" / run, undisturbed)
            again, hit = repeated(deployment, run), len(storm.done)
            held = not unequal and again <= hit and not storm.kinds
            good &= held
            recoveries += storm.recoveries_s
            recovered = ", ".join(f"{seconds:.0f} s" for seconds in storm.recoveries_s) or "-"
            words = [f"{time.monotonic() - started:.0f} s", f"{hit} kills", f"{again} rounds asked again", f"recovered after {recovered}"]
            words += [f"differs in {', '.join(unequal)}"] if unequal else []
            words += [f"not killed: {', '.join(storm.kinds)}"] if storm.kinds else []
            told(f"run {number + 1}: {'as promised' if held else 'NOT AS PROMISED'}; {'; '.join(words)}")
        for name in (None, *NAMES):
            deployment.wait_ready(deployment.server if name is None else deployment.site(name))
        told("stopping")
    left = leftovers(out)
    good &= not left
    told(f"left behind: {', '.join(left) or 'nothing'}")
    if recoveries:
        told(f"recovery: median {sorted(recoveries)[len(recoveries) // 2]:.0f} s, longest {max(recoveries):.0f} s")
    told("every promise held" if good else "A PROMISE WAS BROKEN")
    return good


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.chaos", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--kills", type=int, default=1, help="kills in each run")
    parser.add_argument("--seed", type=int, default=None, help="default: drawn, and printed")
    parser.add_argument("--out", type=Path, default=None, help="new folder; default: a temporary one, removed when all went well")
    parser.add_argument("--victims", default="server,server app,daemon,worker", help=f"of {', '.join(VICTIMS)}")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(2**31)
    out = (options.out or Path(tempfile.mkdtemp(prefix="chaos-"))).resolve()
    print(f"seed {seed}, folder {out}", flush=True)
    good = chaos(out, runs=options.runs, kills=options.kills, seed=seed, victims=options.victims.split(","))
    if good and options.out is None:
        shutil.rmtree(out)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
