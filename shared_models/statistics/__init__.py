"""STATISTICS: what the sites of a federation may sum before training. Adding one is a file beside this one and a line here."""

from shared_models.statistics import combat, fuzzy_centres, landmarks, life_table, masked_scaler, pca, scaler
from shared_models.statistics.spec import StatisticSpec

STATISTICS: dict[str, StatisticSpec] = {
    "scaler": scaler.SPEC,
    "masked_scaler": masked_scaler.SPEC,
    "pca": pca.SPEC,
    "combat": combat.SPEC,
    "landmarks": landmarks.SPEC,
    "fuzzy_centres": fuzzy_centres.SPEC,
    "life_table": life_table.SPEC,
}
