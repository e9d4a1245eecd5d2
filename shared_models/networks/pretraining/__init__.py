"""PRETRAINING: networks that learn from images without labels, by name. Adding one is a file beside this one and a line here."""

from shared_models.blocks.spec import ModelSpec
from shared_models.networks.pretraining import masked_autoencoder

PRETRAINING: dict[str, ModelSpec] = {
    "masked_autoencoder": masked_autoencoder.SPEC,
}
