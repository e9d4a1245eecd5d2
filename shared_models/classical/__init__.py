"""CLASSICAL: every model without gradients by name. Adding one is a file beside this one and a line here."""

from shared_models.blocks.spec import ModelSpec
from shared_models.classical import (
    boosting,
    cox,
    forest,
    kmeans,
    lda,
    logistic,
    random_survival_forest,
    rbf,
    rbf_pso,
    ridge,
    survival_boosting,
    svm,
    texture_forest,
    texture_kernel,
    weighted_ensemble,
)

CLASSICAL: dict[str, ModelSpec] = {
    "boosting": boosting.SPEC,
    "cox": cox.SPEC,
    "forest": forest.SPEC,
    "kmeans": kmeans.SPEC,
    "lda": lda.SPEC,
    "logistic": logistic.SPEC,
    "random_survival_forest": random_survival_forest.SPEC,
    "rbf": rbf.SPEC,
    "rbf_pso": rbf_pso.SPEC,
    "ridge": ridge.SPEC,
    "survival_boosting": survival_boosting.SPEC,
    "svm": svm.SPEC,
    "texture_forest": texture_forest.SPEC,
    "texture_kernel": texture_kernel.SPEC,
    "weighted_ensemble": weighted_ensemble.SPEC,
}
