"""No tracker: ``rounds.jsonl`` and the report say everything."""

from __future__ import annotations

from pathlib import Path

from server.runs.tracking.spec import Facts


class Nothing:
    """Keeps nothing."""

    def __call__(self, home: Path, facts: Facts) -> Nothing:
        """Return itself."""
        return self

    def ready(self) -> None:
        """Need nothing."""

    def tell(self, step: int, figures: dict[str, float]) -> None:
        """Forget."""

    def close(self) -> None:
        """Do nothing."""


nothing = Nothing()
