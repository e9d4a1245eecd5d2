"""EXPLANATIONS: ways to say what in a record moved a model. Adding one is a file beside this one and a line here.

The first line that applies to a model is its default.
"""

from shared_models.explanations import attention, attention_relevance, grad_cam, integrated_gradients, occlusion, shapley
from shared_models.explanations.subject import ExplanationSpec, Subject

EXPLANATIONS: dict[str, ExplanationSpec] = {
    "grad_cam": grad_cam.SPEC,
    "attention": attention.SPEC,
    "attention_relevance": attention_relevance.SPEC,
    "shapley": shapley.SPEC,
    "integrated_gradients": integrated_gradients.SPEC,
    "occlusion": occlusion.SPEC,
}


def applicable(subject: Subject) -> list[str]:
    """Return the names of the explanations that apply to a subject, the default first."""
    return [name for name, spec in EXPLANATIONS.items() if subject.takes in spec.takes and spec.applies(subject)]
