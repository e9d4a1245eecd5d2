"""Differential privacy of whole sites, made at the server: whoever trusts it gets models that do not show which hospital took part.

With a handful of hospitals the price is high: epsilon counts sites, and an average over five hides none of them behind the others. The
figure is written beside every round; for the privacy of patients choose ``privacy.unit = "patient"``, which the sites make themselves.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from server.strategies.replies import Spool
from server.strategies.strategy import Strategy
from shared_models.core.arrays import State
from shared_models.core.randomness import SecretRandom
from shared_models.experiment import Privacy

log = logging.getLogger("fedild.server")
RELEASES = "privacy/releases"
"""Key of the strategy's own state that counts the noisy means made so far: it is part of every checkpoint."""


def with_site_privacy(strategy: Strategy, privacy: Privacy, *, secret: SecretRandom | None = None) -> Strategy:
    """Return `strategy` fed with one noisy mean in place of the sites' updates (McMahan et al., ICLR 2018, algorithm 1, all sites taking part).

    Each site's change is scaled to at most ``clip`` over all weights together, all sites weigh alike, Gaussian noise of standard deviation
    ``noise_multiplier clip`` is added to the sum, which is divided by the number of sites. What the strategy makes of it is post-processing.
    Counters and other whole numbers stay as they are in the global model.

    Parameters
    ----------
    strategy : Strategy
        Any that averages.
    privacy : Privacy
        The experiment's, with ``unit = "site"``.
    secret : SecretRandom, optional
        The noise; given by tests only.
    """
    secret = secret or SecretRandom()

    def start(current: State) -> State:
        return {**strategy.start(current), RELEASES: np.zeros(1)}

    def aggregate(current: State, own: State, spool: Spool) -> tuple[State, State]:
        mean = noisy_mean(current, spool, clip=privacy.clip, sigma=privacy.noise_multiplier or 0.0, secret=secret)
        releases = int(own[RELEASES][0]) + 1
        log.info("%s", spoken(privacy, sites=len(spool.replies), releases=releases))
        single = Spool(spool.folder.with_name(spool.folder.name + "-mean"))
        single.clear()
        try:
            single.add("mean", mean, num_cases=1, steps=1)
            state, after = strategy.aggregate(current, {key: value for key, value in own.items() if key != RELEASES}, single)
        finally:
            single.clear()
        return state, {**after, RELEASES: np.array([float(releases)])}

    return replace(strategy, aggregate=aggregate, start=start)


def noisy_mean(current: State, spool: Spool, *, clip: float, sigma: float, secret: SecretRandom) -> State:
    """Return the global state moved by the noisy mean of the sites' clipped changes; one site's reply is in memory at a time."""
    keys = sorted(key for key, value in current.items() if value.dtype.kind == "f")
    total = {key: np.zeros(current[key].shape) for key in keys}
    for reply in spool.states():
        changes = {key: reply[key].astype(np.float64) - current[key] for key in keys}
        length = float(np.sqrt(sum(float(np.vdot(change, change)) for change in changes.values())))
        if not np.isfinite(length):  # the update check refuses it; here it would spoil the mean for good
            continue
        factor = min(1.0, clip / max(length, 1e-300))
        for key in keys:
            total[key] += factor * changes[key]
    sites = len(spool.replies)
    moved = dict(current)
    for key in keys:
        noise = sigma * clip * secret.normal(total[key].size).reshape(total[key].shape)
        moved[key] = (current[key] + (total[key] + noise) / sites).astype(current[key].dtype)
    return moved


def site_epsilon(privacy: Privacy, releases: int) -> float:
    """Return the epsilon of one site after `releases` noisy means, by Opacus' Renyi accountant with nobody drawn at random.

    Examples
    --------
    >>> round(site_epsilon(Privacy(unit="site", noise_multiplier=1.5, delta=1e-3), 15), 1)
    11.8
    """
    import warnings

    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    accountant.history = [(privacy.noise_multiplier, 1.0, releases)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Opacus warns when its largest order is the best one: the bound holds all the same
        return float(accountant.get_epsilon(privacy.delta))


def spoken(privacy: Privacy, *, sites: int, releases: int) -> str:
    """Return what is said of a round: epsilon with all that it depends on."""
    return (
        f"epsilon {site_epsilon(privacy, releases):.2f} at delta {privacy.delta:g}; unit site (one site added or removed, of {sites}); "
        f"accountant rdp; sigma {privacy.noise_multiplier:g}; q 1; {releases} steps; clip {privacy.clip:g}; sampling everybody in every step"
    )
