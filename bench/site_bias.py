"""Whose software reads ten points more: hazard ratio of 10 % fibrosis with and without strata by site, against the planted one.

python -m bench.site_bias [--repeats 60] [--patients 1200] [--smoke]

Two of four sites add 10 points to every extent, all measure with an error of 2. Stratified: each site has a baseline hazard of its own (what the
federation fits). Unstratified: all patients in one risk set. `confounded`: the two sites also have sicker patients, which can hide the bias.
"""

from __future__ import annotations

import argparse

import numpy as np

from bench.timing import heading, table
from shared_models.classical.cox import cox, hazard_table
from shared_models.core.arrays import State
from sim.phantom.cohort import COLUMNS, draw_cohort

TRUTH, BIAS = 1.9, (0.0, 0.0, 10.0, 10.0)
HAZARDS = {"unconfounded": (1.0, 1.0, 1.0, 1.0), "confounded": (1.0, 1.0, 1.6, 1.6)}


def fitted(sites: list[tuple[np.ndarray, np.ndarray]], rounds: int = 8) -> State:
    """Return Cox over sites after `rounds`."""
    model = cox(len(COLUMNS), 2)
    state = model.start(seed=0)
    for _ in range(rounds):
        state = model.combine(state, [model.contribution(state, x, y, seed=0) for x, y in sites], [1.0] * len(sites))
    return state


def ratio_of(state: State) -> tuple[float, float, float]:
    """Return the hazard ratio of 10 % fibrosis with its 95 % interval (Wald)."""
    found = hazard_table(state)
    value, error = 10 * found["coefficient"][0], 10 * found["standard_error"][0]
    return float(np.exp(value)), float(np.exp(value - 1.96 * error)), float(np.exp(value + 1.96 * error))


def both(patients: int, seed: int, hazards: tuple[float, ...]) -> dict[str, tuple[float, float, float]]:
    """Return the ratio and its interval with strata by site, and with all patients in one."""
    sites = draw_cohort(patients, seed, hazard_ratio=TRUTH, site_bias_percent=BIAS, site_hazards=hazards, noise_percent=2.0).sites()
    whole = [(np.concatenate([x for x, _ in sites]), np.concatenate([y for _, y in sites]))]
    return {"stratified": ratio_of(fitted(sites)), "unstratified": ratio_of(fitted(whole))}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=60)
    arguments.add_argument("--patients", type=int, default=1200)
    arguments.add_argument("--smoke", action="store_true", help="two small repeats: shows only that everything runs")
    options = arguments.parse_args()
    if options.smoke:
        options.repeats, options.patients = 2, 120
    heading(f"hazard ratio of 10 % fibrosis, planted {TRUTH}; {options.patients} patients at 4 sites, {options.repeats} repeats")
    rows = []
    for name, hazards in HAZARDS.items():
        found = [both(options.patients, seed, hazards) for seed in range(options.repeats)]
        for arm in ("stratified", "unstratified"):
            ratios, lows, highs = np.array([one[arm] for one in found]).T
            held = int(((lows <= TRUTH) & (highs >= TRUTH)).sum())
            mean = float(np.exp(np.log(ratios).mean()))
            rows.append([name, arm, f"{mean:.3f}", f"{np.quantile(ratios, 0.05):.3f} to {np.quantile(ratios, 0.95):.3f}", f"{held} of {len(found)}"])
    table(["hazards of the sites", "arm", "ratio, mean", "5 % to 95 % of repeats", "interval holds the truth"], rows)


if __name__ == "__main__":
    main()
