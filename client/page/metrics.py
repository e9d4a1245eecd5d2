"""``/metrics`` of a site, for Prometheus: counts and the privacy spent. No name, no cohort, no run, no patient: nothing that identifies."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from client.audit import AuditLog
from client.expiry import days_left
from client.intake.queue import KINDS, STATES, Queue
from client.privacy.account import account
from client.site import Site
from client.station import decisions, departures
from shared_models.core.errors import FedILDError
from shared_models.core.files import read_json
from shared_models.core.locks import is_locked


class SiteMetrics(Collector):
    """Reads the site folder whenever it is asked.

    Parameters
    ----------
    folder : Path
        The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def collect(self) -> Iterable[Metric]:
        """Yield every metric as it is now; what cannot be read is left out and counted as a fault."""
        faults = 0
        for family in (self._up, self._restarts, self._decisions, self._left, self._refused, self._days, self._privacy, self._work):
            try:
                yield from family()
            except FedILDError:
                faults += 1
        yield GaugeMetricFamily("fedild_site_faults", "Records of this site that cannot be read or were changed.", value=float(faults))

    def _up(self) -> Iterable[Metric]:
        up = is_locked(self.folder / "up.lock")
        yield GaugeMetricFamily("fedild_site_up", "1 while `fedild site up` runs in this folder.", value=float(up))

    def _restarts(self) -> Iterable[Metric]:
        family = CounterMetricFamily("fedild_site_program_restarts", "Restarts of each program since the site came up.", labels=["program"])
        path = self.folder / "up.json"
        for name, program in read_json(path).get("programs", {}).items() if path.exists() else ():
            family.add_metric([name], float(program.get("restarts", 0)))
        yield family

    def _decisions(self) -> Iterable[Metric]:
        waiting = sum(row["decision"] == "waiting" for row in decisions(self.folder))
        yield GaugeMetricFamily("fedild_site_approvals_waiting", "Experiments that wait for a decision.", value=float(waiting))

    def _left(self) -> Iterable[Metric]:
        left = departures(self.folder)
        yield CounterMetricFamily("fedild_site_messages_left", "Messages that left.", value=float(len(left)))
        yield CounterMetricFamily("fedild_site_bytes_left", "Bytes of arrays that left.", value=float(sum(row["bytes"] for row in left)))

    def _refused(self) -> Iterable[Metric]:
        refused = sum(one["event"] == "refused" for one in AuditLog(self.folder).entries())
        yield CounterMetricFamily("fedild_site_refusals", "Questions of the server that were refused.", value=float(refused))

    def _days(self) -> Iterable[Metric]:
        family = GaugeMetricFamily("fedild_site_certificate_days", "Days until a certificate ends.", labels=["certificate"])
        for name, days in days_left(self.folder).items():
            family.add_metric([name], days)
        yield family

    def _privacy(self) -> Iterable[Metric]:
        found = account(self.folder)
        spent = math.inf if found["epsilon"] is None else found["epsilon"]
        yield GaugeMetricFamily("fedild_site_epsilon_spent", "Epsilon of the worst-off patient.", value=float(spent))
        if found["limit"] is not None:
            yield GaugeMetricFamily("fedild_site_epsilon_limit", "Epsilon that a patient may spend in all.", value=float(found["limit"]))

    def _work(self) -> Iterable[Metric]:
        family = GaugeMetricFamily("fedild_site_work_items", "Items of the site's work.", labels=["kind", "state"])
        workspace = Site.load(self.folder / "site.toml").workspace
        counts = Queue(workspace).counts() if (workspace / "queue.sqlite").exists() else {}
        for kind in KINDS:
            for state in STATES:
                family.add_metric([kind, state], float(counts.get(kind, {}).get(state, 0)))
        yield family


def registry_of(folder: Path) -> CollectorRegistry:
    """Return a registry that holds these metrics and nothing of this process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SiteMetrics(folder))
    return registry
