"""Lung segmenters: each takes a `Volume` in HU and returns a mask (0 elsewhere, 1 right lung, 2 left lung)."""

from client.segmentation.threshold import threshold

SEGMENTERS = {
    "threshold": threshold,
}
"""Name in the experiment TOML to segmenter."""
