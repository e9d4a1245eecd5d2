"""SYSTEMS: what *works when* asks of each system. To add one: its recipe in `sim/experiments`, with a size for one GPU, and a line here.

A recipe without a line is asked what every system is asked (`FEDERATED`). The authors' figures are never the bound: they are of other patients.
"""

from __future__ import annotations

from dataclasses import dataclass

from sim.experiments import shipped
from sim.prognosis import PLANTED_FIBROSIS
from sim.zoo.ablations import own_parts, place_matters, pretraining_helps, without
from sim.zoo.attenuation import over_attenuation
from sim.zoo.criteria import Criterion, beside, learnt, metric, on_disease, over, over_density, points, told
from sim.zoo.generated import DRAWN, cleaner
from sim.zoo.lungs import FIRST_HEAD, OVER_THRESHOLD, TAUGHT_BY, lungs_found
from sim.zoo.prognosis import near_planted, planted_ratio
from sim.zoo.quantities import bins_agree, lung_function, planted_extent
from sim.zoo.sparse_labels import SPARSE
from sim.zoo.uip import UIP
from sim.zoo.visits import history_helps, order_is_free, time_counts


@dataclass(frozen=True)
class System:
    """A system of the survey.

    Parameters
    ----------
    task : str
        What it tells apart, from what.
    asked : tuple of Criterion
        Beside `FEDERATED`.
    after : str, optional
        Recipe whose release it starts from: the zoo runs it first.
    """

    task: str
    asked: tuple[Criterion, ...] = ()
    after: str = ""


SMOOTHING = (
    without("train.label_smoothing", "0.0", "ece", seeds=3, says="calibration error without label smoothing minus with, 3 seeds", least=0.0),
    without("train.label_smoothing", "0.0", "auroc_macro", seeds=3, says="AUROC with label smoothing minus without, 3 seeds", least=-0.01),
)
"""S14: smoothing lowers the calibration error and costs less than 0.01 of AUROC."""

CAM = (on_disease("grad_cam"), learnt("grad_cam"), *points("grad_cam"))
"""S14: an activation map, for which its recipe keeps a last map of 4 x 4 x 4 places."""

STAGES = (
    without("model.cut", "false", "macro_f1", seeds=1, says="macro F1 with the lungs cut out minus without", least=None),
    without("model.refined", "false", "macro_f1", seeds=1, says="macro F1 with the attention pyramid minus without", least=None),
    without("model.scales", "false", "macro_f1", seeds=1, says="macro F1 with several scales in the U-Net++ minus without", least=None),
)
"""S16: its table of stages, each taken away."""
DEPTHWISE = ("encoder.features.1.block.0.1.*", "encoder.features.*.block.1.1.*")
"""Normalisation behind the filters of MobileNetV3 that see one channel alone; the first of its blocks does not widen before them."""
NORMS = tuple(
    own_parts(parts, seeds=1, says=f"AUROC at the hospitals that trained: each with its own {what} minus all shared", least=None)
    for parts, what in ((("normalisation",), "normalisation (FedBN)"), (DEPTHWISE, "normalisation behind depthwise filters"))
)
"""S16: its filters of one channel depend most on a scanner's kernel; FedBN is compared with FedAvg, and the difference is told."""
ADVERSARY = without("model.fooling", "0.0", "macro_f1", seeds=1, says="macro F1 with the discriminator minus without", least=None)
"""S11: both are run, and the difference is told."""
FINDINGS = (over("subset_accuracy", "subset_accuracy_all_absent", least=0.0), told("right_answers"), told("right_answers_all_absent"))
"""S18: more patients told rightly in every finding than by calling everything absent; the share of right answers is only told, beside that one's."""

ATTENTION = (on_disease("attention"), learnt("attention"), on_disease("attention_relevance"), learnt("attention_relevance"))
"""S04: rollout, as its specification says, and the attention that speaks for the class."""

SEEN_RISK = (near_planted("auc_at_3", -0.03, arm=PLANTED_FIBROSIS), near_planted("auc_at_3"))
"""S24: near the best that an image allows; how far from the planted risk, which knows age and sex, is told."""

VISITS = (history_helps(least=0.08), near_planted("auc_at_3", -0.03), order_is_free(), time_counts())
"""S10, where the truth is planted: later visits help, and the risk comes near the best that the planted one allows."""

HISTOGRAM = ("mld_hu", "haa_percent", "sd_hu", "skewness", "kurtosis", "perc5_hu", "perc15_hu", "perc50_hu", "perc85_hu", "perc95_hu")
PLACES = (
    metric("auroc_macro", 0.9),
    beside(
        "AUROC of histograms of whole lungs, the same ensemble",
        {"inputs": {"columns": [f"whole_{name}" for name in HISTOGRAM]}, "statistics": None},
        "auroc_macro",
        most=0.7,
    ),
)
"""S13: one amount of one disease, here or there: a graph tells it and a histogram does not."""

SYSTEMS: dict[str, System] = {
    "mufinet": System("4 patterns, slices", (over_density(0.0),)),
    "pmff_net": System("4 patterns, slices", (metric("auroc_macro", 0.95), metric("accuracy", 0.85), *CAM)),
    "vit_ild": System("4 diseases, slices", (place_matters(), *ATTENTION)),
    "attention_cnn": System("4 patterns, slices", (over_density(0.0),)),
    "vgg": System("3 patterns, slices", (metric("accuracy", 0.85),)),
    "iim_ild": System("4 patterns, volume", (metric("auroc_macro", 0.9), *SMOOTHING, *CAM, on_disease("integrated_gradients"))),
    "compact_vgg": System("6 findings at once, slices", (metric("auroc_macro", 0.8), metric("mean_average_precision", 0.6), *FINDINGS)),
    "mobile_unet": System("5 patterns, slices", (metric("macro_f1", 0.8), *NORMS)),
    "transfer_zoo": System("4 patterns, slices", (over_density(0.0),)),
    "texture_quantification": System("5 patterns, windows of lung", (*planted_extent(), bins_agree("fibrosis"), bins_agree("ggo"), lung_function())),
    "fibrosis_prognosis": System("survival, extents", (planted_ratio("whole_haa_percent"), near_planted("harrell_c"))),
    "ssc_mortality": System("survival, volume", (metric("harrell_c", 0.55), *SEEN_RISK)),
    "ssc_mortality_densenet": System("survival, volume", (told("harrell_c"), *SEEN_RISK)),
    "ssc_mortality_swin": System("survival, volume", (told("harrell_c"), *SEEN_RISK)),
    "ssc_mortality_radiomics": System("survival, radiomics", (told("harrell_c"), *SEEN_RISK)),
    "longitudinal_planted": System("survival and 5 diseases, visits", VISITS),
    "longitudinal_ild": System("survival and 5 diseases, CT visits", (told("harrell_c"), near_planted("auc_at_3"), history_helps(least=0.08))),
    "esseg_ild": System("5 patterns, pixels", SPARSE),
    "cgan_lung_svm": System("5 patterns, lungs first", (metric("macro_f1", 0.8), lungs_found(0.95), TAUGHT_BY, OVER_THRESHOLD, ADVERSARY)),
    "rapnet_pipeline": System("5 patterns, lungs first", (metric("macro_f1", 0.8), lungs_found(0.97), TAUGHT_BY, FIRST_HEAD, *STAGES)),
    "dcgan": System("4 patterns, slices", (over_density(0.0), *DRAWN)),
    "mufinet_dcgan": System("4 patterns, slices", (over_density(0.0), *DRAWN)),
    "mufinet_enhanced": System("4 patterns, slices", (over_density(0.0), cleaner())),
    "vit_ild_lora": System("4 diseases, slices", (over_density(0.0),)),
    "uip_detector": System("UIP or not, slices", UIP),
    "multimodal_ild": System("5 patterns, CT and table", (told("accuracy"),)),
    "lung_unet": System("lung, whole slices", (metric("dice", 0.97),)),
    "patterns_unet_plus_plus": System("5 patterns, pixels", (over_attenuation(), told("dice"))),
    "patterns_hrnet": System("5 patterns, pixels", (over_attenuation(), told("dice"))),
    "qct_forest": System("ILD or not, table", (metric("auroc_macro", 0.95),)),
    "handcrafted_svm": System("4 patterns, table", (metric("auroc_macro", 0.8),)),
    "handcrafted_forest": System("4 patterns, table", (metric("auroc_macro", 0.8),)),
    "radiomics_rbf": System("4 patterns, table", (metric("auroc_macro", 0.8),)),
    "lung_graph": System("fibrotic or not, table", (metric("auroc_macro", 0.95),)),
    "lung_graph_twins": System("2 places of one disease, graph", PLACES),
    "lung_graph_gnn": System("fibrotic or not, table", (metric("auroc_macro", 0.9),)),
    "ct_fm_head": System("UIP or normal, embedding", (told("accuracy"),)),
    "masked_pretraining": System("hidden squares, slices", (metric("explained_variance", 0.0),)),
    "masked_finetuned": System("4 patterns, slices", (pretraining_helps(),), after="masked_pretraining"),
}


def recipes() -> list[str]:
    """Return the recipes of systems: those with a line here, or with a size for one GPU beside the tiny one."""
    names = shipped()
    return [name for name in names if not name.endswith("_base") and (name in SYSTEMS or f"{name}_base" in names)]


def system_of(name: str) -> System:
    """Return the line of a recipe, or an empty one."""
    return SYSTEMS.get(name, System(""))
