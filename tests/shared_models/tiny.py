"""TINY: every model small enough for a test, and the shape of one of its records. A new line of NETWORKS needs a line here."""

from __future__ import annotations

from typing import Any

from shared_models.catalogue import MODELS

TINY: dict[str, dict[str, Any]] = {
    "mil_cnn": {"widths": [8, 8], "features": 8, "dropout": 0.0},
    "mufinet": {"width": 4, "features": 8, "dropout": 0.0},
    "pmff_net": {"widths": [8, 8], "blocks": 1, "features": 8, "dropout": 0.0},
    "densenet169_vit": {"layers": [1, 1], "growth_rate": 8, "first_features": 16, "width": 16, "depth": 1, "heads": 2, "grid": 2, "dropout": 0.0},
    "vit": {"patch": 8, "width": 16, "depth": 2, "heads": 2, "grid": 2, "dropout": 0.0},
    "attention_cnn": {"width": 4, "features": 8, "dropout": 0.0},
    "vgg16": {"width": 4, "features": 8, "dropout": 0.0},
    "vgg19": {"width": 4, "features": 8, "dropout": 0.0},
    "compact_vgg": {"width": 8, "features": 8, "dropout": 0.0},
    "alexnet": {"width": 4, "features": 8, "dropout": 0.0},
    "googlenet": {"width": 4, "features": 8, "dropout": 0.0},
    "inception_resnet_v2": {"width": 4, "blocks": [1, 1, 1], "features": 8, "dropout": 0.0},
    "resnet50": {"width": 8, "blocks": [1, 1, 1, 1], "features": 8, "dropout": 0.0},
    "densenet169": {"layers": [2, 2], "growth_rate": 8, "first_features": 16, "features": 8, "dropout": 0.0},
    "mobile_unet_v3": {"width": 4, "pyramid": 8, "features": 8, "dropout": 0.0},
    "dcgan": {"size": 16, "width": 4, "noise": 4, "bins": 8},
    "mufinet_dcgan": {"width": 4, "features": 8, "dropout": 0.0, "size": 16, "gan_width": 4, "noise": 4, "bins": 8, "generated": 0.25},
    "mufinet_enhanced": {"width": 4, "features": 8, "dropout": 0.0, "widths": [4, 8]},
    "cgan_lung_svm": {
        "lung_widths": [4, 8],
        "judge_widths": [4, 8],
        "size": 32,
        "width": 4,
        "blocks": [1, 1, 1, 1],
        "features": 8,
        "dropout": 0.0,
        "lung_dropout": 0.0,
        "waves": 64,
    },
    "rapnet_pipeline": {"lung_widths": [4, 8], "size": 32, "width": 4, "pyramid": 8, "features": 8, "dropout": 0.0},
    "densenet121": {"growth_rate": 4, "first_features": 8},
    "resnet18": {"width": 4},
    "swin_unetr": {"width": 6, "patch": 4, "window": 2, "depths": [1, 1, 1, 1]},
    "patch_cnn": {"width": 4, "bins": 8, "hidden": 8, "dropout": 0.0},
    "ild_cnn": {"k": 1, "dropout": 0.0},
    "linear": {},
    "unet": {"widths": [4, 8]},
    "unet_plus_plus": {"widths": [4, 8, 8]},
    "hrnet": {"widths": [4, 8]},
    "mean_teacher": {"network": {"name": "hrnet", "widths": [4, 8]}, "ramp": 20, "decay": 0.8},
    "multimodal": {"groups": {"ct": ["c1", "c2"], "pft": ["c3", "c4"]}, "width": 8, "hidden": 8, "dropout": 0.0, "modality_dropout": 0.0},
    "graph_sage": {"width": 8, "dropout": 0.0},
    "visit_transformer": {"visits": 2, "width": 16, "depth": 1, "heads": 2, "hidden": 16, "dropout": 0.0},
    "forest": {"trees": 15, "min_leaf": 1},
    "logistic": {"ridge": 0.1},
    "boosting": {"trees": 6, "depth": 1, "bins": 8, "min_leaf": 1},
    "kmeans": {"clusters": 4, "steps": 5},
    "rbf": {"centres": 4, "steps": 4},
    "rbf_pso": {"particles": 4, "generations": 2, "most_units": 4, "steps": 1},
    "weighted_ensemble": {
        "members": [{"name": "logistic"}, {"name": "kmeans", "clusters": 4, "steps": 3}],
        "folds": 2,
        "fit_rounds": 5,
        "choices": 2,
    },
    "svm": {"features": 64},
    "texture_kernel": {"features": 16},
}
"""Knobs that make a model small enough for a test, without dropout."""
SHAPES = {"slices": (2, 24, 24), "volume": (1, 32, 32, 32), "patch": (1, 15, 15), "table": (4,)}
COLUMNS = {"graph_sage": 72, "visit_transformer": 8}
"""Columns of a table model that takes no 4."""


def shape_of(name: str) -> tuple[int, ...]:
    """Of one record: small, but no smaller than the model takes."""
    spec = MODELS[name]
    shape = SHAPES[spec.takes]
    return (COLUMNS.get(name, 4),) if spec.takes == "table" else (*shape[:-2], *(max(side, spec.least_px) for side in shape[-2:]))
