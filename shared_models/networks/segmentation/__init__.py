"""SEGMENTATION_NETWORKS: networks that label every pixel of a slice, by name. Adding one is a file beside this one and a line here."""

from shared_models.blocks.segmentation import SegmentationSpec
from shared_models.blocks.spec import ModelSpec
from shared_models.networks.segmentation import hrnet, mean_teacher, pix2pix, unet, unet_plus_plus
from shared_models.networks.segmentation.slicewise import slicewise

SEGMENTATION_NETWORKS: dict[str, SegmentationSpec] = {
    "unet": unet.SPEC,
    "unet_plus_plus": unet_plus_plus.SPEC,
    "hrnet": hrnet.SPEC,
    "pix2pix": pix2pix.SPEC,
}

TRAINED_SEGMENTERS: dict[str, ModelSpec] = {name: slicewise(SEGMENTATION_NETWORKS[name]) for name in ("unet", "unet_plus_plus", "hrnet")} | {
    "mean_teacher": mean_teacher.SPEC,
}
"""Those that an experiment can train alone: lines of MODELS."""
