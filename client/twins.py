"""The same scan at two hospitals, found without showing it: keyed hashes of what each site prepared.

A tag is an HMAC-SHA-256 under a word that the sites agree on, of the digest of a study's voxels, geometry and preparation. Who does not hold
the very same scan learns nothing from its tag; who does learns that somebody else holds it, which is the question. A copy that was resampled or
changed by one voxel has another tag.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from client.cases.cohort import Cohort
from shared_models.core.errors import BadInput


def content_tags(workspace: Path, word: str) -> dict[str, list[str]]:
    """Return by pseudonym the tags of a patient's prepared studies. Only the tags may leave; the pseudonyms are the site's own.

    Raises
    ------
    BadInput
        The agreed word is short, or nothing was prepared.
    """
    if len(word) < 16:
        raise BadInput("tags are made under a word of 16 or more characters that the sites agree on", value=f"{len(word)} characters")
    if not (workspace / "cohort.json").exists():
        raise BadInput("tags are made of prepared studies", remedy="run `fedild site prepare` first")
    found: dict[str, list[str]] = {}
    for case in Cohort.load(workspace / "cohort.json").cases:
        stems = [Path(visit.prepared).stem for visit in case.visits if visit.prepared]
        found[case.pseudonym] = [hmac.new(word.encode(), stem.encode(), hashlib.sha256).hexdigest() for stem in stems]
    return found


def twins(tags: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Return the tags that more than one site has, with the sites.

    Examples
    --------
    >>> twins({"a": ["1", "2"], "b": ["2", "3"], "c": ["2"]})
    [{'tag': '2', 'sites': ['a', 'b', 'c']}]
    """
    places: dict[str, set[str]] = {}
    for site, of_site in tags.items():
        for tag in of_site:
            places.setdefault(tag, set()).add(site)
    return [{"tag": tag, "sites": sorted(sites)} for tag, sites in sorted(places.items()) if len(sites) > 1]
