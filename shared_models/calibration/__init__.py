"""CALIBRATIONS: what sites sum after training, so that a release says how sure it may be. Adding one is a file beside this one and a line here."""

from shared_models.calibration import conformal, operating_point, score_histograms, temperature, unfamiliar
from shared_models.calibration.spec import CalibrationSpec

CALIBRATIONS: dict[str, CalibrationSpec] = {
    "temperature": temperature.SPEC,
    "conformal": conformal.SPEC,
    "unfamiliar": unfamiliar.SPEC,
    "operating_point": operating_point.SPEC,
    "score_histograms": score_histograms.SPEC,
}
