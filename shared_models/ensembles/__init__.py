"""ENSEMBLES: ways to make one prediction of several models'. Adding one is a file beside this one and a line here."""

from shared_models.ensembles import caruana, mean, nnls, stacking
from shared_models.ensembles.spec import EnsembleSpec

ENSEMBLES: dict[str, EnsembleSpec] = {
    "mean": mean.SPEC,
    "nnls": nnls.SPEC,
    "stacking": stacking.SPEC,
    "caruana": caruana.SPEC,
}
