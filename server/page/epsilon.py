"""What the server knows of a run's epsilon: of the privacy of sites all of it, of that of patients only what was asked for."""

from __future__ import annotations

import math

from shared_models.experiment import Privacy

RDP_ORDERS = (*(1 + tenth / 10 for tenth in range(1, 100)), *range(12, 64))


def epsilon_words(privacy: Privacy, releases: int) -> tuple[str, str]:
    """Return what the server knows of a run's epsilon, and on what it rests.

    Examples
    --------
    >>> epsilon_words(Privacy(), 3)[0]
    'none'
    >>> epsilon_words(Privacy(unit="site", noise_multiplier=1.5, delta=1e-3), 15)[0]
    '11.8'
    """
    if privacy.unit == "none":
        return "none", "the experiment asks for no differential privacy"
    noise = f"unit {privacy.unit}, noise {privacy.noise_multiplier:g}, clip {privacy.clip:g}, delta {privacy.delta:g}"
    if privacy.at_sites:
        return "at the sites", f"each site keeps its own ledger and tells nobody; {noise}"
    return f"{site_epsilon(privacy, releases):.1f}", f"spent in {releases} rounds by Renyi accounting; {noise}"


def site_epsilon(privacy: Privacy, releases: int) -> float:
    """Return the epsilon of one site after `releases` noisy means, of which everybody was a part.

    The same number as the strategy's, which asks Opacus for it and needs torch.

    Source
    ------
    Mironov, Renyi Differential Privacy, CSF 2017, proposition 7 (Gaussian mechanism); the conversion is theorem 21 of Balle et al., AISTATS 2020.
    """
    if releases == 0 or privacy.noise_multiplier is None:
        return 0.0
    spent = releases / (2 * privacy.noise_multiplier**2)
    return max(0.0, min(a * spent - (math.log(privacy.delta) + math.log(a)) / (a - 1) + math.log((a - 1) / a) for a in RDP_ORDERS))
