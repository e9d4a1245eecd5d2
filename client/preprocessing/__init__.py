"""Preprocessing steps: each takes a `Prepared` study and returns another."""

from client.preprocessing.anisotropic_diffusion import anisotropic_diffusion
from client.preprocessing.bilateral import bilateral
from client.preprocessing.calibrate_air import calibrate_air
from client.preprocessing.clahe import clahe
from client.preprocessing.clip import clip
from client.preprocessing.crop_lung import crop_lung
from client.preprocessing.harmonise import harmonise
from client.preprocessing.median import median
from client.preprocessing.non_local_means import non_local_means
from client.preprocessing.resample import resample
from client.preprocessing.standardise import standardise
from client.preprocessing.switching_median import switching_median
from client.preprocessing.wiener import wiener
from client.preprocessing.window import window

STEPS = {
    "anisotropic_diffusion": anisotropic_diffusion,
    "bilateral": bilateral,
    "calibrate_air": calibrate_air,
    "clahe": clahe,
    "clip": clip,
    "crop_lung": crop_lung,
    "harmonise": harmonise,
    "median": median,
    "non_local_means": non_local_means,
    "resample": resample,
    "standardise": standardise,
    "switching_median": switching_median,
    "wiener": wiener,
    "window": window,
}
"""Name in the experiment TOML to step."""
