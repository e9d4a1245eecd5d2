"""One deployment of four sites behind relays that the tests of faults share: faults are done to it, runs go through it, it is mended again."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import tomli_w

from client.station import decide
from server.folder import open_folder
from server.orders import order_run
from server.queue import Entry, Queue
from server.runs.log import read_rounds
from shared_models.core.choices import Choice
from shared_models.core.files import read_json, write_atomic, write_json
from shared_models.core.supervision import marked
from shared_models.experiment import Data, Evaluation, Experiment, Federation, Train
from sim.deployment import Deployment
from sim.federation_demo import simulate_same
from tests.client.sites import CLASSES, patch_site
from tests.deploy.invariants import check_run
from tests.deploy.relay import Relay

NAMES = ("alpha", "beta", "gamma", "delta")
SEAMS = Path(__file__).parent / "seams"
RUN_S = 1800.0
"""Seconds for a run of a minute: a machine may be busy with other things."""


def experiment(name: str, *, rounds: int = 4, quorum: int = 4, deadline_s: float = 120.0, retries: int = 20, **more: float) -> Experiment:
    """A second of training a round; with the defaults every site is waited for, so that the bits cannot depend on who was there."""
    return Experiment(
        name=name,
        data=Data(kind="patches", classes=CLASSES),
        model=Choice.model_validate({"name": "patch_cnn", "width": 4, "bins": 8, "hidden": 8}),
        train=Train(batch=8, steps=40, optimiser=Choice.model_validate({"name": "adamw", "lr": 0.005}), augment=(Choice(name="flip"),)),
        strategy=Choice(name="fedadam"),
        federation=Federation.model_validate({"rounds": rounds, "quorum": quorum, "deadline_s": deadline_s, "retries": retries, **more}),
        evaluation=Evaluation(validation=0.25, bootstrap=0),
    )


WHOLE = experiment("whole")
"""Whatever happens, it ends with the bits of the undisturbed run."""


@dataclass
class Plan:
    """What `tests/deploy/seams` does inside the deployment's processes."""

    path: Path
    kills: list[dict] = field(default_factory=list)
    clocks: list[dict] = field(default_factory=list)

    def kill(self, name: str, *, event: str, path: str, count: int = 1) -> None:
        """Kill the process that is about to do `event` (``os.rename``, ``open`` for writing, ``shutil.rmtree``) to a path that matches."""
        self.kills.append({"name": name, "event": event, "path": path, "count": count})
        self.write()

    def move_clock(self, folder: Path, seconds: float) -> None:
        """Move the clock of what starts in `folder` from now on."""
        self.clocks.append({"folder": str(folder), "seconds": seconds})
        self.write()

    def left(self) -> list[str]:
        """Return the kills that have not happened."""
        return [kill["name"] for kill in self.kills if not self.path.with_name(f"{self.path.name}.{kill['name']}").exists()]

    def clear(self) -> None:
        """Plan nothing."""
        for done in self.path.parent.glob(f"{self.path.name}.*"):
            done.unlink()
        self.kills.clear()
        self.clocks.clear()
        self.write()

    def write(self) -> None:
        """Let the processes know; those that run look again when the file has changed."""
        write_json(self.path, {"kills": self.kills, "clocks": self.clocks}, durable=False)


class Stage:
    """A server and its sites; `restore` mends whatever a test has done to them.

    Parameters
    ----------
    out : Path
        New folder with a short path.
    """

    def __init__(self, out: Path) -> None:
        self.began, self.plan = time.monotonic(), Plan(out / "plan.json")
        self.deployment = Deployment(out / "d", told=self.told)
        self.relays: dict[str, Relay] = {}
        self._stopped: list[int] = []
        self._undisturbed: dict[str, Path] = {}

    def told(self, line: str) -> None:
        """Print a line with the time, for the log of a failed test."""
        print(f"{time.monotonic() - self.began:7.1f} s  {line}", file=sys.stderr, flush=True)

    def found(self) -> None:
        """Make and start everything."""
        self.plan.path.parent.mkdir(parents=True, exist_ok=True)
        self.plan.write()
        self.arm()
        for number, name in enumerate(NAMES):
            patch_site(self.deployment.out / "sites", name, seed=number)
        self.deployment.found(NAMES)
        door = open_folder(self.deployment.server).settings.server.listen_port
        for name in NAMES:
            self.relays[name] = Relay(("127.0.0.1", door))
            toml = self.deployment.site(name) / "site.toml"
            text = toml.read_text()
            assert f"127.0.0.1:{door}" in text
            toml.write_text(text.replace(f"127.0.0.1:{door}", f"127.0.0.1:{self.relays[name].port}"))
            self.deployment.start_site(name)
        self.wait_ready()

    def arm(self) -> None:
        """Let what is started from now on read the plan; this process has started long ago."""
        self.disarm()
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(SEAMS), os.environ.get("PYTHONPATH", ""))))
        os.environ["FAULTS"] = str(self.plan.path)

    @staticmethod
    def disarm() -> None:
        """Keep the plan from the deployments of other tests."""
        os.environ.pop("FAULTS", None)
        os.environ["PYTHONPATH"] = os.environ.get("PYTHONPATH", "").removeprefix(str(SEAMS)).removeprefix(os.pathsep)

    def wait_ready(self) -> None:
        """Wait until every program of every folder is ready."""
        for folder in (self.deployment.server, *map(self.deployment.site, NAMES)):
            self.deployment.wait_ready(folder)

    def order(self, experiment: Experiment, names: tuple[str, ...] = NAMES) -> str:
        """Let the sites approve an experiment, put it into the queue, return the run's identifier."""
        toml = self.deployment.out / "experiments" / f"{experiment.digest[:16]}.toml"
        if not toml.exists():
            write_atomic(toml, tomli_w.dumps(experiment.model_dump(mode="json", exclude_none=True)).encode())
            for name in NAMES:
                decide(self.deployment.site(name), str(toml), "approved")
        return order_run(open_folder(self.deployment.server), str(toml), roster=list(names), settings=[])

    def follow(self, run: str, look: Callable[[Entry], None] | None = None) -> Path:
        """Wait until a run has finished, check every invariant, return its folder."""
        self.deployment.follow(run, timeout_s=RUN_S, look=look)
        return check_run(self.deployment, run, NAMES)

    @staticmethod
    def deadline_s() -> float:
        """Return a deadline that can be waited for and that a site on a machine as busy as this one keeps."""
        return max(30.0, 6.0 * os.getloadavg()[0])

    def undisturbed(self, experiment: Experiment) -> Path:
        """Return the folder of the simulation of an experiment to which nothing happens. One experiment a stage."""
        if experiment.digest not in self._undisturbed:
            self._undisturbed[experiment.digest] = simulate_same(experiment, self.deployment, list(NAMES), processes=1)
        return self._undisturbed[experiment.digest]

    def wait_for(self, what: Callable[[], bool], why: str, *, seconds: float = 240.0) -> None:
        """Wait until something is so."""
        until = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < until, f"waited {seconds:.0f} s in vain: {why}"
            time.sleep(0.1)

    def rounds(self, run: str) -> list[dict]:
        """Return what the run's log holds by now."""
        return read_rounds(self.deployment.server / "runs" / run / "rounds.jsonl")

    def entry(self, run: str) -> Entry:
        """Return the run's line of the queue."""
        return Queue(self.deployment.server / "queue.db").get(run)

    def halt(self, pid: int) -> None:
        """Stop a process with SIGSTOP until `restore`."""
        os.kill(pid, signal.SIGSTOP)
        self._stopped.append(pid)

    def unhalt(self) -> None:
        """Let every halted process go on."""
        for pid in self._stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._stopped.clear()

    def family(self, folder: Path) -> list[int]:
        """Return every process that a folder's supervisor has started, and the supervisor."""
        return [self.deployment.pid(folder), *marked(str(read_json(folder / "up.json")["mark"]))]

    def restore(self) -> None:
        """Mend everything, stop what still runs, and wait until all is ready."""
        self.plan.clear()
        self.unhalt()
        for relay in self.relays.values():
            relay.heal()
        for folder in (self.deployment.server, *map(self.deployment.site, NAMES)):
            if not self.deployment.is_up(folder):
                self.deployment.start_server() if folder == self.deployment.server else self.deployment.start_site(folder.name)
        self.wait_ready()
        queue = Queue(self.deployment.server / "queue.db")
        for entry in queue.all():
            if entry.state in ("queued", "running", "interrupted"):
                queue.stop(entry.run)
                self.wait_for(lambda run=entry.run: queue.get(run).state != "running", "a run must stop")

    def close(self) -> None:
        """End everything."""
        self.unhalt()
        self.deployment.stop()
        for relay in self.relays.values():
            relay.close()
        self.disarm()
