"""CPI: the composite physiologic index, which lung function would fit the extent of fibrosis if there were no emphysema."""

from __future__ import annotations

from shared_models.scores.spec import Scored, ScoreSpec, Values, number_of


def cpi(values: Values) -> Scored:
    """Return ``91 - 0.65 DLCO % - 0.53 FVC % + 0.34 FEV1 %``, all in percent of predicted.

    Examples
    --------
    >>> round(cpi({"dlco_percent": 50, "fvc_percent": 70, "fev1_percent": 75}).value, 6)
    46.9
    """
    dlco, fvc, fev1 = (number_of(values, name) for name in CPI_SPEC.needs)
    return Scored(91 - 0.65 * dlco - 0.53 * fvc + 0.34 * fev1)


CPI_SPEC = ScoreSpec(
    function=cpi,
    needs=("dlco_percent", "fvc_percent", "fev1_percent"),
    title="CPI",
    means="Extent of fibrosis that lung function tells, in percent, corrected for emphysema; higher is worse.",
    source="Wells et al., Am J Respir Crit Care Med 2003;167:962",
)
