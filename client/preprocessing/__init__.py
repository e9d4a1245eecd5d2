"""Preprocessing steps: each takes a `Prepared` study and returns another."""

from client.preprocessing.clip import clip
from client.preprocessing.crop_lung import crop_lung
from client.preprocessing.resample import resample
from client.preprocessing.window import window

STEPS = {
    "clip": clip,
    "crop_lung": crop_lung,
    "resample": resample,
    "window": window,
}
"""Name in the experiment TOML to step."""
