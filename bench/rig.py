"""A deployment to be measured: prepared sites, a server and its daemons on loopback, and runs that are timed from outside."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from bench.processes import Sample, Watch, reset_peaks
from bench.relay import Crossed, Relay
from bench.sites import CLASSES, prepared_site
from server.folder import open_folder
from server.queue import Entry
from server.runs.log import read_rounds
from shared_models.core.files import write_atomic
from shared_models.experiment import Experiment
from sim.deployment import Deployment, fedild

VOLUME = (16, 16, 16)
RUN_S = 3600.0
_TRAINED = re.compile(r"round (\d+): \d+ steps on \d+ patients in ([0-9.]+) s")
MODELS: dict[str, dict[str, Any]] = {
    "2 kB": {"name": "mil_cnn", "widths": [4, 4], "features": 8, "bins": 0},
    "9 MB": {"name": "resnet18", "width": 17},
    "250 MB": {"name": "resnet18", "width": 88},
}
"""Models by the bytes of their weights: a tiny network, the largest that the goal for a round's time is for, and a very wide one."""


def experiment(size: str, *, rounds: int, sites: int, compression: dict[str, Any] | None = None) -> Experiment:
    """Return an experiment with the model of `size`: one step of training a round, all sites needed, no validation patients."""
    name = f"bench-{size.replace(' ', '')}-{(compression or {'name': 'none'})['name']}-{rounds}"
    return Experiment.model_validate(
        {
            "name": name,
            "data": {"classes": CLASSES},
            "inputs": {"slices": 4, "size": 16, "shape_zyx": VOLUME, "margin_mm": 0.0},
            "model": MODELS[size],
            "train": {"steps": 1, "batch": 4, "schedule": "constant", "optimiser": {"name": "sgd", "lr": 1e-3}},
            "strategy": {"name": "fedavg"},
            "federation": {"rounds": rounds, "quorum": sites, "deadline_s": 900.0, "compression": compression or {"name": "none"}},
            "evaluation": {"validation": 0.0},
        }
    )


@dataclass
class Timed:
    """What a run left: its lines of ``rounds.jsonl``, when each was seen (seconds) and what had crossed the wire by then, and all samples."""

    rounds: list[dict[str, Any]] = field(default_factory=list)
    seen_s: list[float] = field(default_factory=list)
    crossed: list[Crossed] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    trained_s: dict[int, float] = field(default_factory=dict)

    def round_s(self) -> list[float]:
        """Return the seconds of each round but the first, from the end of one to the end of the next."""
        return [after - before for before, after in zip(self.seen_s, self.seen_s[1:], strict=False)]

    def overhead_s(self) -> list[float]:
        """Return the seconds of each round but the first less the slowest site's training."""
        return [seconds - self.trained_s.get(number, 0.0) for number, seconds in enumerate(self.round_s(), start=2)]


@dataclass
class Rig:
    """A running deployment. `folders` are its server and sites, `relay` counts what crosses between them."""

    deployment: Deployment
    names: Sequence[str]
    relay: Relay | None = None

    @property
    def folders(self) -> dict[str, Path]:
        return {"server": self.deployment.server} | {name: self.deployment.site(name) for name in self.names}

    def approve(self, wanted: Experiment) -> Path:
        """Write an experiment's TOML, let every site approve it, and return its path."""
        toml = self.deployment.out / f"{wanted.name}.toml"
        write_atomic(toml, tomli_w.dumps(wanted.model_dump(mode="json", exclude_none=True)).encode())
        for name in self.names:
            fedild("site", "approve", str(toml), "--folder", str(self.deployment.site(name)))
        return toml

    def idle(self, settle_s: float = 5.0) -> Sample:
        """Return a sample of the deployment at rest."""
        time.sleep(settle_s)
        with Watch(self.folders) as watch:
            return watch.look()

    def run(self, toml: Path, *, look_s: float | None = 0.5, look: Callable[[int], None] = lambda done: None) -> Timed:
        """Order a run, follow it to its end and return what was measured; `look` is told the number of finished rounds."""
        timed, known = Timed(), self._trained()
        run = self.deployment.order(toml, self.names)
        path = self.deployment.server / "runs" / run / "rounds.jsonl"

        def note(entry: Entry | None = None) -> None:
            del entry
            timed.rounds = read_rounds(path)
            while len(timed.seen_s) < len(timed.rounds):
                timed.seen_s.append(time.monotonic())
                timed.crossed.append(self.relay.crossed() if self.relay else Crossed(0, 0))
                look(len(timed.seen_s))

        reset_peaks(self.folders)
        watch = Watch(self.folders, lambda: len(timed.rounds), look_s or 0.0)
        with watch if look_s else nullcontext():
            self.deployment.follow(run, timeout_s=RUN_S, look=note)
            note()
        timed.samples = watch.samples
        timed.trained_s = self._trained(known)
        return timed

    def _trained(self, known: dict[str, int] | None = None) -> Any:
        """Return the lines of each site's worker log; with their former numbers, the slowest site's seconds of training by round since then."""
        lines = {name: _lines(self.deployment.site(name) / "logs" / "worker.log") for name in self.names}
        if known is None:
            return {name: len(found) for name, found in lines.items()}
        slowest: dict[int, float] = {}
        for name, found in lines.items():
            for line in found[known[name] :]:
                if match := _TRAINED.match(str(line.get("event", ""))):
                    slowest[int(match[1])] = max(slowest.get(int(match[1]), 0.0), float(match[2]))
        return slowest


@contextmanager
def rig(sites: int, *, out: Path | None = None, relayed: bool = False, told: Callable[[str], None] = lambda line: None) -> Iterator[Rig]:
    """Make a deployment of `sites` sites in a temporary folder, or in `out` where it then stays, and end it afterwards."""
    with tempfile.TemporaryDirectory(prefix="fb-") if out is None else nullcontext(str(out)) as place:
        names = [f"s{number}" for number in range(sites)]
        with Deployment(Path(place).resolve(), told=told) as deployment:
            for number, name in enumerate(names):
                prepared_site(deployment.out / "sites", name, volume=VOLUME, seed=number)
            deployment.found(names)
            listens = open_folder(deployment.server).settings.server.listen_port
            with Relay(listens) if relayed else nullcontext() as relay:
                for name in names:
                    if relay is not None:
                        _redirect(deployment.site(name) / "site.toml", listens, relay.port)
                    deployment.start_site(name)
                for name in names:
                    deployment.wait_ready(deployment.site(name))
                try:
                    yield Rig(deployment, names, relay)
                finally:
                    deployment.stop()


def _redirect(toml: Path, old: int, new: int) -> None:
    text = toml.read_text(encoding="utf-8")
    if f"127.0.0.1:{old}" not in text:
        raise SystemExit(f"{toml} does not name the server's port")
    toml.write_text(text.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}"), encoding="utf-8")


def _lines(path: Path) -> list[dict[str, Any]]:
    found = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            found.append(json.loads(text))
        except ValueError:
            continue
    return found
