"""NETWORKS: every network by name. Adding one is a file beside this one and a line here."""

from shared_models.blocks.spec import ModelSpec
from shared_models.networks import densenet, linear, mil_cnn, patch_cnn, resnet

NETWORKS: dict[str, ModelSpec] = {
    "mil_cnn": mil_cnn.SPEC,
    "densenet121": densenet.SPEC,
    "resnet18": resnet.SPEC,
    "linear": linear.SPEC,
    "patch_cnn": patch_cnn.SPEC,
}
