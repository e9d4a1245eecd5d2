"""Lung segmenters: each takes a `Volume` in HU and returns a mask (0 elsewhere, 1 right lung, 2 left lung)."""

from client.segmentation.enfcm import enfcm
from client.segmentation.fgfcm import fgfcm
from client.segmentation.frfcm import frfcm
from client.segmentation.fuzzy_cmeans import fuzzy_cmeans
from client.segmentation.level_set import chan_vese, drlse
from client.segmentation.network import network
from client.segmentation.region_growing import region_growing
from client.segmentation.threshold import threshold
from client.segmentation.whole_lung import whole_lung

SEGMENTERS = {
    "threshold": threshold,
    "whole_lung": whole_lung,
    "region_growing": region_growing,
    "chan_vese": chan_vese,
    "drlse": drlse,
    "fuzzy_cmeans": fuzzy_cmeans,
    "enfcm": enfcm,
    "fgfcm": fgfcm,
    "frfcm": frfcm,
    "network": network,
}
"""Name in the experiment TOML to segmenter."""
