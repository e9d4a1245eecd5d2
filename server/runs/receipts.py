"""What each site last said of its privacy ledger: kept here and brought back with every job, so that a site whose ledger was put back notices.

A receipt is number, hash and the site's own signature of its last entry; it names no patient and no epsilon. It stands in ``receipts.json``
of the server folder, across runs.
"""

from __future__ import annotations

from pathlib import Path

from shared_models.core.errors import BadInput
from shared_models.core.files import read_json, write_json


class Receipts:
    """The receipts of all sites.

    Parameters
    ----------
    path : Path
        ``receipts.json``.

    Raises
    ------
    BadInput
        The file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._known = {str(site): str(receipt) for site, receipt in read_json(path).items()} if path.exists() else {}
        except (ValueError, AttributeError):
            raise BadInput("receipts.json must hold the sites' receipts", remedy="restore it, or remove it: sites then send new ones") from None

    def of(self, sites: list[str]) -> dict[str, str]:
        """Return the receipts of `sites`; a site that never gave one is left out."""
        return {site: self._known[site] for site in sorted(sites) if site in self._known}

    def keep(self, site: str, receipt: str) -> None:
        """Keep a site's receipt, from an update whose signature was checked; an older one than the known is not taken."""
        if receipt and _number(receipt) >= _number(self._known.get(site, "")) and receipt != self._known.get(site):
            self._known[site] = receipt
            write_json(self.path, self._known, mode=0o600)


def _number(receipt: str) -> int:
    return int(receipt.partition("-")[0] or 0)
