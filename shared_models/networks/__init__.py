"""NETWORKS: every network by name. Adding one is a file beside this one and a line here."""

from shared_models.blocks.spec import ModelSpec
from shared_models.networks import (
    alexnet,
    attention_cnn,
    compact_vgg,
    dcgan,
    densenet,
    densenet169,
    densenet169_vit,
    googlenet,
    graph_sage,
    ild_cnn,
    inception_resnet_v2,
    linear,
    mil_cnn,
    mobile_unet_v3,
    mufinet,
    mufinet_dcgan,
    mufinet_enhanced,
    multimodal,
    patch_cnn,
    pmff_net,
    resnet,
    resnet50,
    swin_unetr,
    vgg16,
    vgg19,
    vit,
)

NETWORKS: dict[str, ModelSpec] = {
    # bags of slices
    "mil_cnn": mil_cnn.SPEC,
    "mufinet": mufinet.SPEC,
    "pmff_net": pmff_net.SPEC,
    "densenet169_vit": densenet169_vit.SPEC,
    "vit": vit.SPEC,
    "attention_cnn": attention_cnn.SPEC,
    "vgg16": vgg16.SPEC,
    "vgg19": vgg19.SPEC,
    "compact_vgg": compact_vgg.SPEC,
    "alexnet": alexnet.SPEC,
    "googlenet": googlenet.SPEC,
    "inception_resnet_v2": inception_resnet_v2.SPEC,
    "resnet50": resnet50.SPEC,
    "densenet169": densenet169.SPEC,
    "mobile_unet_v3": mobile_unet_v3.SPEC,
    "dcgan": dcgan.SPEC,
    "mufinet_dcgan": mufinet_dcgan.SPEC,
    "mufinet_enhanced": mufinet_enhanced.SPEC,
    # volumes
    "densenet121": densenet.SPEC,
    "resnet18": resnet.SPEC,
    "swin_unetr": swin_unetr.SPEC,
    # patches
    "patch_cnn": patch_cnn.SPEC,
    "ild_cnn": ild_cnn.SPEC,
    # tables
    "linear": linear.SPEC,
    "multimodal": multimodal.SPEC,
    "graph_sage": graph_sage.SPEC,
}
