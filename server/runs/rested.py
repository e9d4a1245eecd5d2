"""Sending what a phase changes, and what rests only to sites that do not have it: the first time, and when they say that they lost it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from server.runs.gathering import SiteRecord
from shared_models.core.state import digest
from shared_models.messages import Job, Packed
from shared_models.phases import Phase


class Rested:
    """Which sites have the arrays that rest in `phase`. Kept in memory: after a restart of the server they travel once more.

    Parameters
    ----------
    phase : Phase
        Where all arrays are trained, nothing rests and every job is whole.
    """

    def __init__(self, phase: Phase) -> None:
        self.phase, self.rests = phase, ""
        self.having: set[str] = set()

    def jobs(self, job: Job, sites: Iterable[str]) -> dict[str, Job]:
        """Return the job of each site: `job` itself, or one with the arrays alone that the phase changes. Equal jobs are one object."""
        if not self.phase.train_only:
            return dict.fromkeys(sites, job)
        part = self.phase.changed(job.state)
        if not self.rests:
            self.rests = digest({key: value for key, value in job.state.items() if key not in part})
        thin = replace(job, state=Packed(part), rests=self.rests)
        return {site: thin if site in self.having else job for site in sites}

    def note(self, records: Mapping[str, SiteRecord]) -> None:
        """Remember who has what rests: whoever answered to a job, and not who says that it is lost or says nothing."""
        self.having |= {site for site, record in records.items() if record.refused is None}
        self.having -= {site for site, record in records.items() if record.refused is not None}
