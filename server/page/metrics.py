"""``/metrics`` of the server, for Prometheus: counts of runs, rounds, bytes, sites and programs. No name of a site and no word of an error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from server.folder import ServerFolder
from server.identity import days_left, read_certificate
from server.page.facts import entries_of
from server.runs.log import read_rounds
from server.runs.standing import read_standing
from server.sites import read_sites
from shared_models.core.files import read_json
from shared_models.core.locks import is_locked

RUN_STATES = ("queued", "running", "interrupted", "stopped", "finished", "failed")
SITE_STATES = ("invited", "approved", "revoked")


class ServerMetrics(Collector):
    """Reads the server folder whenever it is asked.

    Parameters
    ----------
    server : ServerFolder
        The folder.
    """

    def __init__(self, server: ServerFolder) -> None:
        self.server = server

    def collect(self) -> Iterable[Metric]:
        """Yield every metric as it is now."""
        up = is_locked(self.server.path / "up.lock")
        yield GaugeMetricFamily("fedild_server_up", "1 while `fedild server up` runs in this folder.", value=float(up))
        days = days_left(read_certificate(self.server.secrets / "server.crt"))
        yield GaugeMetricFamily("fedild_server_certificate_days", "Days until the server's certificate ends.", value=days)
        yield self._restarts(up)
        yield _counts(
            "fedild_server_sites", "Sites in the register.", Counter(entry.state for entry in read_sites(self.server).values()), SITE_STATES
        )
        entries = entries_of(self.server)
        yield _counts("fedild_server_runs", "Runs in the queue.", Counter(entry.state for entry in entries), RUN_STATES)
        labels = ["run", "experiment"]
        done = GaugeMetricFamily("fedild_run_rounds_done", "Rounds that are done.", labels=labels)
        planned = GaugeMetricFamily("fedild_run_rounds", "Rounds in all.", labels=labels)
        waiting = GaugeMetricFamily("fedild_run_sites_waited_for", "Sites that are being waited for.", labels=labels)
        missing = GaugeMetricFamily("fedild_run_sites_missing", "Sites that were missing in the last round.", labels=labels)
        seconds = GaugeMetricFamily("fedild_run_round_seconds", "Seconds of the last round.", labels=labels)
        sent = CounterMetricFamily("fedild_run_bytes", "Bytes of arrays between server and sites.", labels=[*labels, "direction"])
        for entry in entries:
            folder, values = self.server.run_folder(entry.run), [entry.run, entry.experiment]
            standing, lines = read_standing(folder), read_rounds(folder / "rounds.jsonl")
            done.add_metric(values, float(standing.get("round", 0)))
            planned.add_metric(values, float(standing.get("rounds") or 0))
            waiting.add_metric(values, float(len(standing.get("waiting_for", [])) if entry.state == "running" else 0))
            missing.add_metric(values, float(len(lines[-1]["missing"]) if lines else 0))
            seconds.add_metric(values, float(lines[-1].get("wall_s", 0.0) if lines else 0.0))
            for direction, key in (("up", "bytes"), ("down", "bytes_down")):
                sent.add_metric([*values, direction], float(sum(line.get(key) or 0 for line in lines)))
        yield from (done, planned, waiting, missing, seconds, sent)

    def _restarts(self, up: bool) -> Metric:
        family = CounterMetricFamily("fedild_server_program_restarts", "Restarts of each program since the server came up.", labels=["program"])
        path = self.server.path / "up.json"
        for name, program in read_json(path).get("programs", {}).items() if up and path.exists() else ():
            family.add_metric([name], float(program.get("restarts", 0)))
        return family


def registry_of(server: ServerFolder) -> CollectorRegistry:
    """Return a registry that holds these metrics and nothing of this process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ServerMetrics(server))
    return registry


def _counts(name: str, about: str, found: Counter[str], states: tuple[str, ...]) -> Metric:
    family = GaugeMetricFamily(name, about, labels=["state"])
    for state in states:
        family.add_metric([state], float(found[state]))
    return family
