"""One round of the secure sum without training: seconds and bytes, with and without a site that drops out, against the plain round's bytes.

python -m bench.secure_sum [--parameters 10000000] [--sites 5] [--repeats 3] [--smoke]

All sites and the server take turns in this process, so the seconds of a phase at the sites are given for one site.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from bench.timing import heading, table
from client.privacy.secure_sum.mask import masked, member_count
from client.privacy.secure_sum.member import Member
from client.privacy.secure_sum.summand import stage_arrays
from server.runs.secure import SecureSum
from shared_models.core.choices import Choice
from shared_models.core.state import size_bytes
from shared_models.experiment import Data, Experiment, Federation
from shared_models.messages import Job, Update, broadcast, update_content
from shared_models.secure_sum.vector import Part, encode, step


class Hospitals:
    """Sites in this process that answer with ready-made updates; keeps seconds by stage and the bytes of every message."""

    def __init__(self, folder: Path, experiment: Experiment, states: dict[str, dict[str, np.ndarray]], lost: set[str]) -> None:
        self.folder, self.experiment, self.states, self.lost = folder, experiment, states, lost
        self.seconds: dict[str, list[float]] = {}
        self.up = self.down = 0

    def __call__(self, jobs: Mapping[str, Job], timeout_s: float) -> Iterator[tuple[str, Update | str]]:
        for site, job in jobs.items():
            self.down += wire_bytes(broadcast(job)) if job.kind != "fit" else wire_bytes(broadcast(replace(job, state={}))) + size_bytes(job.state)
            if job.kind == "fit" and site in self.lost:
                continue
            began = time.perf_counter()
            member = Member.of(self.folder / site, site, key=None, peers=None)
            update = Update(run=job.run, round=job.round, site=site)
            if job.kind == "fit":
                words = encode(Part(self.states[site], 100, {}), job.state, self.experiment, sites=member_count(member, job))
                update = masked(member, job, update, words)
            else:
                settings = self.experiment.federation.secure_sum
                assert settings is not None
                update = replace(update, extra=stage_arrays(member, job, settings, quorum=3))
            self.seconds.setdefault(job.kind, []).append(time.perf_counter() - began)
            self.up += wire_bytes(update_content(update))
            yield site, update


def wire_bytes(content: object) -> int:
    """Return the bytes of a message's arrays and words."""
    total = 0
    for record in content.values():  # type: ignore[attr-defined]
        total += sum(len(value.data) if hasattr(value, "data") else len(str(value)) for value in record.values())
    return total


def learnt(current: dict[str, np.ndarray], number: int) -> dict[str, np.ndarray]:
    """Return what site `number` has learnt."""
    rng = np.random.default_rng([5, number])
    return {key: rng.normal(0, 0.01, value.shape).astype(np.float32) for key, value in current.items()}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--parameters", type=int, default=10_000_000)
    arguments.add_argument("--sites", type=int, default=5)
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--smoke", action="store_true", help="a small sum, once: shows only that everything runs")
    options = arguments.parse_args()
    if options.smoke:
        options.parameters, options.repeats = 100_000, 1
    names = [f"site{number}" for number in range(options.sites)]
    current = {f"layer{number}": np.zeros(options.parameters // 10, np.float32) for number in range(10)}
    states = {name: learnt(current, number) for number, name in enumerate(names)}
    experiment = Experiment(
        name="bench", data=Data(classes=("a", "b")), model=Choice(name="mil_cnn"), federation=Federation.model_validate({"secure_sum": {"ahead": 1}})
    )
    up, down = wire_bytes(update_content(Update("r", 1, names[0], state=states[names[0]]))), size_bytes(current)
    rows = []
    for lost in (set(), {names[0]}):
        site_s, server_s, all_s = [], [], []
        for repeat in range(options.repeats):
            with tempfile.TemporaryDirectory() as folder:
                line = Hospitals(Path(folder), experiment, states, lost)
                began = time.perf_counter()
                job = Job(run="r", round=1 + repeat, kind="fit", state=current)
                total = SecureSum(experiment, run="r").sum(job, line, sites=names, current=current).total
                all_s.append(time.perf_counter() - began)
                site_s.append(median(line.seconds["fit"]))
                server_s.append(all_s[-1] - sum(map(sum, line.seconds.values())))
        assert total is not None
        left = [name for name in names if name not in lost]
        mean = {key: np.mean([states[name][key] for name in left], axis=0, dtype=np.float64) for key in current}
        error = max(float(np.abs(total.state[key] - mean[key]).max()) for key in current)
        moved, plain = line.up + line.down, down * len(names) + up * len(left)
        row = [len(lost), len(line.seconds), *(f"{median(seconds):.2f}" for seconds in (site_s, server_s, all_s)), f"{moved / 1e6:.1f}"]
        rows.append([*row, f"{moved / plain:.4f}", f"{error:.1e}", f"{step(experiment, sites=len(names), weight=100 * len(left)):.1e}"])
    heading(f"secure sum of {options.parameters} parameters over {options.sites} sites, no training; medians of {options.repeats}")
    print(f"keys exchanged anew each round; a plain round moves {(up + down) * len(names) / 1e6:.1f} MB up and down\n")
    table(["sites lost", "stages", "masking, s a site", "server, s", "all, s", "MB", "of the plain round", "largest error", "one step"], rows)


if __name__ == "__main__":
    main()
