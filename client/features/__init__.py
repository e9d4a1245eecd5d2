"""Feature families: each takes a `Prepared` study and returns a flat dictionary of name to number; each says its names beforehand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from client.features.densitometry import densitometry, densitometry_names
from client.features.embedding import embedding, embedding_names, ready_embedding
from client.features.extents import extents, extents_names, ready_extents
from client.features.first_order import first_order, first_order_names
from client.features.gabor import gabor, gabor_names
from client.features.glcm import glcm, glcm_names
from client.features.gldm import gldm, gldm_names
from client.features.glrlm import glrlm, glrlm_names
from client.features.glszm import glszm, glszm_names
from client.features.hog import hog, hog_names
from client.features.lbp import lbp, lbp_names
from client.features.local_histogram import local_histogram, local_histogram_names
from client.features.lung_graph import lung_graph, lung_graph_names
from client.features.ngtdm import ngtdm, ngtdm_names
from client.features.regions import regions, regions_names
from client.features.shape import shape, shape_names
from client.features.sift import sift, sift_names
from client.features.vessels import vessels, vessels_names
from shared_models.core.choices import Choice, knobs_of, look_up

FEATURES = {
    "densitometry": densitometry,
    "embedding": embedding,
    "extents": extents,
    "first_order": first_order,
    "gabor": gabor,
    "glcm": glcm,
    "gldm": gldm,
    "glrlm": glrlm,
    "glszm": glszm,
    "hog": hog,
    "lbp": lbp,
    "local_histogram": local_histogram,
    "lung_graph": lung_graph,
    "ngtdm": ngtdm,
    "regions": regions,
    "shape": shape,
    "sift": sift,
    "vessels": vessels,
}
"""Name in the experiment TOML to feature family."""

FEATURE_NAMES = {
    "densitometry": densitometry_names,
    "embedding": embedding_names,
    "extents": extents_names,
    "first_order": first_order_names,
    "gabor": gabor_names,
    "glcm": glcm_names,
    "gldm": gldm_names,
    "glrlm": glrlm_names,
    "glszm": glszm_names,
    "hog": hog_names,
    "lbp": lbp_names,
    "local_histogram": local_histogram_names,
    "lung_graph": lung_graph_names,
    "ngtdm": ngtdm_names,
    "regions": regions_names,
    "shape": shape_names,
    "sift": sift_names,
    "vessels": vessels_names,
}
"""The same names to what returns the columns of that family; it takes those of the family's knobs that change them."""

READY = {"embedding": ready_embedding, "extents": ready_extents}
"""Families that read a file of the site: what makes sure, before the first study, that it is there and the one that was named."""


def feature_names(families: Iterable[Choice]) -> tuple[str, ...]:
    """Return the columns that `families` give together, in order.

    Examples
    --------
    >>> feature_names([Choice(name="densitometry")])[:2]
    ('whole_haa_percent', 'whole_laa950_percent')
    >>> feature_names([Choice(name="shape", side="left")])[0]
    'left_original_shape_Elongation'
    """
    return tuple(name for family in families for name in _names(family))


def doubled(families: Iterable[Choice]) -> tuple[str, ...]:
    """Return the columns that more than one of `families` would give, as when one is listed twice with other knobs: the last would win.

    Examples
    --------
    >>> doubled([Choice(name="shape"), Choice(name="shape", side="left")])
    ()
    >>> doubled([Choice(name="lbp"), Choice(name="densitometry"), Choice(name="densitometry")])[:1]
    ('whole_haa_percent',)
    """
    counts = Counter(feature_names(families))
    return tuple(name for name, count in counts.items() if count > 1)


def _names(family: Choice) -> tuple[str, ...]:
    names = look_up(FEATURE_NAMES, family.name, kind="feature family")
    return names(**{knob: value for knob, value in family.knobs.items() if knob in knobs_of(names)})
