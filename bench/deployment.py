"""What a deployment costs: memory, seconds and bytes of real processes on loopback, a 250 MB model, and many rounds on end.

python -m bench.deployment [--only memory|overhead|bytes|large|soak] [--rounds N] [--sites N] [--keep FOLDER]

    memory     idle and peak memory of every process of server and sites
    overhead   seconds of a round less the slowest site's training
    bytes      bytes of a round on the wire with each compression, TLS included
    large      a 250 MB model over three sites: memory of every process, in models where it is ours
    soak       five sites and fifty rounds: MB a round by which each process, and each folder, grows

A deployment is a server and its sites as separate processes with keys and TLS, started by the commands that an administrator types.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.processes import Peak, Sample, peaks, slope, total_pss_mb
from bench.relay import Crossed
from bench.rig import Rig, experiment, rig
from bench.timing import against, heading, spread, table
from shared_models.compression import COMPRESSIONS

ROUND_GOAL_S = 7.0
MODELS_GOAL = 3.0
SERVER_GOAL_MB = 1500.0
SLOPE_GOAL_MB = 0.5
KNOBS = {"top_k": {"keep": 0.1}}
"""Of the compressions that are not measured with their defaults alone, for the table."""


def measure_memory(on: Rig, rounds: int) -> None:
    """Print the memory of every process at rest, and at its highest in a run with a model of 9 MB."""
    heading(f"memory in MB, {len(on.names)} sites; at rest before the first run, and the highest in {rounds} rounds with a model of 9 MB")
    rest = peaks([on.idle()])
    timed = on.run(on.approve(experiment("9 MB", rounds=rounds, sites=len(on.names))))
    table(["process", "PSS at rest", "RSS at rest", "PSS peak", "RSS peak", "handles"], memory_rows(rest, peaks(timed.samples)))
    server, site = total_pss_mb(timed.samples, "server"), max(total_pss_mb(timed.samples, name) for name in on.names)
    print(f"all processes at one moment, PSS: server {server:.0f} MB, the largest site {site:.0f} MB\n", flush=True)


def memory_rows(rest: Mapping[tuple[str, str], Peak], run: Mapping[tuple[str, str], Peak]) -> list[list[str]]:
    """Return a row for each process that was seen, the server's first; ``-`` stands for one that did not run."""
    rows = []
    for side, role in sorted(rest.keys() | run.keys()):
        idle, peak = rest.get((side, role)), run.get((side, role))
        cells = [f"{one.pss_mb:.0f} {one.rss_mb:.0f}".split() if one else ["-", "-"] for one in (idle, peak)]
        rows.append([f"{side}: {role}", *cells[0], *cells[1], str(max(one.handles for one in (idle, peak) if one))])
    return rows


def measure_overhead(on: Rig, rounds: int) -> None:
    """Print the seconds of a round over the slowest site's training."""
    heading(f"seconds of a round, {len(on.names)} sites x {rounds} rounds; later rounds: from the end of one to the end of the next")
    rows = []
    for size in ("2 kB", "9 MB"):
        timed = on.run(on.approve(experiment(size, rounds=rounds, sites=len(on.names))), look_s=None)
        over = timed.overhead_s()
        first = timed.rounds[0]["wall_s"]
        rows.append(
            [size, f"{first:.1f}", spread(timed.round_s()), spread(list(timed.trained_s.values())), spread(over), against(ROUND_GOAL_S, over)]
        )
    table(["model", "first round s", "later rounds s: median (range)", "training s", "overhead s", "goal"], rows)


def measure_bytes(on: Rig, rounds: int) -> None:
    """Print what crosses between sites and door in a round with each compression."""
    heading(f"bytes of a round on the wire, TLS included, {len(on.names)} sites x {rounds} rounds, model of 9 MB; a site's mean")
    rows, plain = [], 0.0
    for name in COMPRESSIONS:
        choice = {"name": name, **KNOBS.get(name, {})}
        timed = on.run(on.approve(experiment("9 MB", rounds=rounds, sites=len(on.names), compression=choice)), look_s=None)
        up, down = per_round(timed.crossed, sites=len(on.names))
        payload = statistics.mean(line["bytes"] for line in timed.rounds[1:]) / len(on.names)
        plain = plain or up
        label = " ".join([name, *(f"{knob}={value}" for knob, value in KNOBS.get(name, {}).items())])
        rows.append([label, *(f"{value / 1e6:.3f}" for value in (payload, up, down)), f"{up / payload - 1:+.1%}", f"{up / plain:.3f}"])
    table(["compression", "update MB", "up MB", "down MB", "up over update", "up / none"], rows)


def per_round(crossed: Sequence[Crossed], *, sites: int) -> tuple[float, float]:
    """Return bytes up and down of a round and site: from the end of the first round to the end of the last.

    >>> per_round([Crossed(100, 10), Crossed(160, 30), Crossed(220, 50)], sites=2)
    (30.0, 10.0)
    """
    whole, count = crossed[-1] - crossed[0], (len(crossed) - 1) * sites
    return whole.up / count, whole.down / count


def measure_large(on: Rig, rounds: int) -> None:
    """Print the memory of every process with a model of 250 MB, and against the goals."""
    heading(f"a model of 250 MB, {len(on.names)} sites x {rounds} rounds: highest memory in MB")
    wanted = experiment("250 MB", rounds=rounds, sites=len(on.names))
    rest = peaks([on.idle()])
    timed = on.run(on.approve(wanted))
    run = peaks(timed.samples)
    table(["process", "PSS at rest", "RSS at rest", "PSS peak", "RSS peak", "handles"], memory_rows(rest, run))
    model_mb = timed.rounds[0]["bytes"] / len(on.names) / (1 << 20)
    app, together = run["server", "server app"], total_pss_mb(timed.samples, "server")
    rows = [
        ["server app, models of memory (RSS)", f"{app.rss_mb / model_mb:.2f}", against(MODELS_GOAL, [app.rss_mb / model_mb])],
        ["all server processes at one moment (PSS MB)", f"{together:.0f}", against(SERVER_GOAL_MB, [together])],
        ["of these without Flower's SuperLink", f"{_without(timed.samples, 'superlink'):.0f}", ""],
        ["rounds s", ", ".join(f"{line['wall_s']:.0f}" for line in timed.rounds), ""],
        ["of these training s", ", ".join(f"{seconds:.0f}" for _, seconds in sorted(timed.trained_s.items())), ""],
    ]
    table(["what", "measured", "goal"], rows)


def _without(samples: Sequence[Sample], role: str) -> float:
    def others(sample: Sample) -> float:
        return sum(reading.pss_mb for (side, name, _), reading in sample.readings.items() if side == "server" and name != role)

    return max(map(others, samples))


def measure_soak(on: Rig, rounds: int) -> None:
    """Print by how much each process and each folder grows in a round, over the second half of the rounds."""
    heading(f"{len(on.names)} sites x {rounds} rounds of a tiny model: growth a round over the second half, least squares")
    sizes: list[dict[str, float]] = []
    timed = on.run(on.approve(experiment("2 kB", rounds=rounds, sites=len(on.names))), look_s=2.0, look=lambda done: sizes.append(_disk(on)))
    rows, worst = growth_rows(timed.samples, rounds)
    table(["process", "RSS MB at half", "at the end", "MB a round", "goal", "handles at half", "at the end", "a round"], rows)
    half = range(rounds // 2, rounds)
    disk = []
    for name in sizes[-1]:
        values = [sizes[number].get(name, 0.0) for number in half]
        disk.append([name, f"{values[0]:.2f}", f"{values[-1]:.2f}", f"{slope(list(half), values):+.4f}"])
    table(["folder", "MB at half", "at the end", "MB a round"], disk)
    print(f"rounds s: {spread(timed.round_s())}; steepest process {worst:+.3f} MB a round, goal {against(SLOPE_GOAL_MB, [worst])}\n", flush=True)


def growth_rows(samples: Sequence[Sample], rounds: int) -> tuple[list[list[str]], float]:
    """Return a row for each process that lived through the second half of the rounds, and the steepest slope of all."""
    late = [sample for sample in samples if rounds // 2 <= sample.round < rounds]
    seen: dict[tuple[str, str, int], list[tuple[int, float, int]]] = {}
    for sample in late:
        for process, reading in sample.readings.items():
            seen.setdefault(process, []).append((sample.round, reading.rss_mb, reading.handles))
    rows, worst = [], float("-inf")
    for (side, role, _), looks in sorted(seen.items()):
        if len(looks) < 0.9 * len(late):
            continue  # a messenger, a command: gone after seconds
        at, memory, handles = ([look[i] for look in looks] for i in range(3))
        grows, part = slope(at, memory), max(1, len(looks) // 5)
        worst = max(worst, grows)
        ends = [statistics.median(values[piece]) for values in (memory, handles) for piece in (slice(None, part), slice(-part, None))]
        rows.append([f"{side}: {role}", f"{ends[0]:.1f}", f"{ends[1]:.1f}", f"{grows:+.3f}", against(SLOPE_GOAL_MB, [grows])])
        rows[-1] += [f"{ends[2]:.0f}", f"{ends[3]:.0f}", f"{slope(at, handles):+.3f}"]
    return rows, worst


def _disk(on: Rig) -> dict[str, float]:
    """Return MB on disk: the server's folders and databases, and those of the first site."""
    server, site = on.folders["server"], on.folders[on.names[0]]
    found = {f"server: {part.name}": _mb(part) for part in sorted(server.iterdir()) if part.name != "secrets"}
    return found | {f"site: {part.name}": _mb(part) for part in sorted(site.iterdir()) if part.name != "secrets"}


def _mb(path: Path) -> float:
    files = path.rglob("*") if path.is_dir() else [path]
    total = 0
    for file in files:
        try:
            total += file.lstat().st_size if not file.is_dir() else 0
        except OSError:  # gone meanwhile
            continue
    return total / (1 << 20)


MEASURES: dict[str, tuple[Callable[[Rig, int], None], int, int, bool]] = {
    "memory": (measure_memory, 3, 3, False),
    "overhead": (measure_overhead, 6, 3, False),
    "bytes": (measure_bytes, 3, 3, True),
    "large": (measure_large, 2, 3, False),
    "soak": (measure_soak, 50, 5, False),
}
"""What is measured, with how many rounds and sites, and whether bytes are counted on the way."""


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.deployment", description=str(__doc__).splitlines()[0])
    parser.add_argument("--only", choices=MEASURES)
    parser.add_argument("--rounds", type=int, help="instead of each measure's own number")
    parser.add_argument("--sites", type=int, help="instead of each measure's own number")
    parser.add_argument("--keep", type=Path, help="new folder for the deployment; default: a temporary one that is removed")
    options = parser.parse_args()
    for name in [options.only] if options.only else MEASURES:
        measure, rounds, sites, relayed = MEASURES[name]
        out = options.keep / name if options.keep else None
        with rig(options.sites or sites, out=out, relayed=relayed) as on:
            measure(on, options.rounds or rounds)


if __name__ == "__main__":
    main()
