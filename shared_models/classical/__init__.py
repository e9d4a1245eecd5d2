"""CLASSICAL: every model without gradients by name. Adding one is a file beside this one and a line here."""

from shared_models.blocks.spec import ModelSpec
from shared_models.classical import forest, logistic, texture_kernel

CLASSICAL: dict[str, ModelSpec] = {
    "forest": forest.SPEC,
    "logistic": logistic.SPEC,
    "texture_kernel": texture_kernel.SPEC,
}
