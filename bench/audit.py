"""The canary audit at full size: every trainer that claims privacy on five seeds, and every seeded bug in each. `make audit`."""

from __future__ import annotations

import sys

from bench.timing import heading, table
from client.privacy.canaries import judge
from client.training.canaries import CANARIES
from tests.client.privacy.mutants import MUTANTS, SEEDED

CANARY_COUNT, SEEDS = 2000, (0, 1, 2, 3, 4)


def main() -> int:
    heading(f"Canary audit: {CANARY_COUNT} canaries, each in with chance one half; seeds {', '.join(map(str, SEEDS))}")
    rows, wrong = [], 0
    for trainer, watch in CANARIES.items():
        for seed in SEEDS:
            one = judge([watch(CANARY_COUNT, seed=seed)])
            wrong += bool(one.faults())
            rows.append((trainer, f"as it is, seed {seed}", *_figures(one), "; ".join(one.faults()) or "holds"))
    for trainer, bug in SEEDED:
        with MUTANTS[bug]() as book:
            seen = []
            for seed in SEEDS:
                book.clear()
                seen.append(CANARIES[trainer](CANARY_COUNT, seed=seed, book=book))
        one = judge(seen)
        wrong += not one.faults()
        rows.append((trainer, bug, *_figures(one), "caught" if one.faults() else "MISSED"))
    table(("trainer", "what", "AUC", "expected", "epsilon >=", "claimed", "noise", "verdict"), rows)
    return 1 if wrong else 0


def _figures(one):
    return f"{one.auc:.3f}", f"{one.expected_auc:.3f}", f"{one.epsilon_at_least:.2f}", f"{one.epsilon_claimed:.2f}", f"{one.noise:.3f}"


if __name__ == "__main__":
    sys.exit(main())
