"""Cox over sites: rounds to convergence and seconds, against lifelines on all patients in one place; each site a stratum.

python -m bench.survival [--repeats N] [--sites 10] [--patients 1000] [--columns 20] [--smoke]

All sites take turns in this process, so `ours` is the work of all of them and of the server together, without messages. Both start from the same
arrays in memory; lifelines gets its data frame ready made. Converged: no coefficient moves by more than 1e-9 standard errors in a round.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from bench.timing import heading, ratios, spread, table
from shared_models.classical.cox import Cox, cox, hazard_table, proportionality
from shared_models.core.arrays import State
from shared_models.core.state import size_bytes

Site = tuple[np.ndarray, np.ndarray]


def sites_of(sites: int, patients: int, columns: int, seed: int = 0) -> list[Site]:
    """Draw patients of sites with baselines of their own, a third of them last seen without an event, days with ties."""
    rng = np.random.default_rng(seed)
    log_ratio = rng.normal(0, 0.3, columns)
    drawn = []
    for number in range(sites):
        x = rng.normal(0, 1, (patients, columns)) + rng.normal(0, 0.5, columns)
        days = np.ceil(900 * rng.exponential(np.exp(-(x @ log_ratio)) * rng.uniform(0.5, 2)))
        left = np.ceil(rng.uniform(1, 2500, patients))
        drawn.append((x, np.column_stack([np.minimum(days, left), days <= left, np.full(patients, number)]).astype(float)))
    return drawn


def federate(sites: list[Site], columns: int) -> tuple[State, int, int]:
    """Return the converged state, the rounds that took, and the bytes of one site's answer."""
    model: Cox = cox(columns, 2)
    state, rounds, size = model.start(seed=0), 0, 0
    while rounds < 30:
        answers = [model.contribution(state, x, y * [1, 1, 0], seed=0) for x, y in sites]
        before, size = state, size_bytes(answers[0])
        state, rounds = model.combine(state, answers, [1.0] * len(answers)), rounds + 1
        if before["ready"][0] > 1:
            errors = hazard_table(state)["standard_error"] * state["scale"]
            if np.abs(state["coefficients"] - before["coefficients"]).max() <= 1e-9 * errors.min():
                break
    return state, rounds, size


def main() -> None:
    import pandas as pd
    from lifelines import CoxPHFitter

    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--sites", type=int, default=10)
    arguments.add_argument("--patients", type=int, default=1000)
    arguments.add_argument("--columns", type=int, default=20)
    arguments.add_argument("--smoke", action="store_true", help="three small sites, once: shows only that everything runs")
    options = arguments.parse_args()
    if options.smoke:
        options.repeats, options.sites, options.patients, options.columns = 1, 3, 60, 3
    sites = sites_of(options.sites, options.patients, options.columns)
    names = [f"x{number}" for number in range(options.columns)]
    rows = np.concatenate([np.column_stack([x, y]) for x, y in sites])
    frame = pd.DataFrame(rows, columns=[*names, "time", "event", "site"])
    seconds: dict[str, list[float]] = {"ours": [], "lifelines": []}
    for _ in range(options.repeats):
        began = time.perf_counter()
        state, rounds, size = federate(sites, options.columns)
        seconds["ours"].append(time.perf_counter() - began)
        began = time.perf_counter()
        pooled = CoxPHFitter().fit(frame, "time", "event", strata=["site"], fit_options={"precision": 1e-12})
        seconds["lifelines"].append(time.perf_counter() - began)
    found = hazard_table(state)
    gap = float(np.abs(found["coefficient"] - pooled.params_.to_numpy()).max())
    error_gap = float(np.abs(found["standard_error"] - pooled.standard_errors_.to_numpy()).max())
    if not max(gap, error_gap) <= 1e-6:
        raise SystemExit(f"the federated and the pooled fit differ: coefficients by {gap:.1e}, errors by {error_gap:.1e}")
    heading(f"Cox, {options.columns} columns, {options.sites} sites of {options.patients} patients; {options.repeats} turns; median (range)")
    table(
        ["arm", "seconds", "lifelines / it", "rounds", "kB a site and round", "largest gap"],
        [
            ["ours", spread(seconds["ours"]), spread(ratios(seconds["lifelines"], seconds["ours"])), rounds, f"{size / 1e3:.1f}", f"{gap:.1e}"],
            ["lifelines, pooled", spread(seconds["lifelines"]), "", "", "", ""],
        ],
    )
    print(f"ours also tests proportional hazards in the same rounds: all columns together p = {proportionality(state)['all_p'][0]:.3f}")


if __name__ == "__main__":
    main()
