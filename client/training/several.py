"""Several findings at once: each is a question of its own, and what nobody has answered teaches nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from shared_models.blocks.spec import ModelSpec
from shared_models.core.errors import BadCohort
from shared_models.experiment import Experiment


def objective_of(spec: ModelSpec, experiment: Experiment, targets: np.ndarray | None) -> ModelSpec:
    """Return the spec of a network with the loss of the experiment's findings as its objective; as it is where it learns no findings.

    Parameters
    ----------
    spec : ModelSpec
        Of a network that says one number a finding.
    experiment : Experiment
        Its `target` and ``train.class_weights``.
    targets : ndarray, shape (n, findings)
        1 present, 0 absent, NaN not known: of the site's training records, whose counts are balanced.

    Raises
    ------
    BadCohort
        Findings are to be learnt, and the records have none.
    """
    if experiment.data.target != "findings":
        return spec
    if targets is None:
        raise BadCohort("findings are learnt from records that say which are there", remedy="give the clinical table columns finding_NAME")
    weights = torch.from_numpy(answer_weights(targets, experiment.train.class_weights))
    return replace(spec, objective=lambda logits, batch, truth: finding_losses(logits, truth, weights.to(logits.device)))


def answer_weights(targets: np.ndarray, how: str) -> np.ndarray:
    """Return the factor on the loss of each answer (absent, present) to each question, float32 (2, findings).

    With ``balanced`` it is half the number of known answers over the number of this answer, so that both answers to a question weigh the same
    (King & Zeng, Political Analysis 2001); an answer that nobody gave has 0. Anything else: 1 each.

    Examples
    --------
    >>> answer_weights(np.array([[1, np.nan], [0, 0], [0, 0], [0, 0]]), "balanced").astype(float).round(2).tolist()
    [[0.67, 0.5], [2.0, 0.0]]
    """
    if how != "balanced":
        return np.ones((2, targets.shape[1]), np.float32)
    counts = np.stack([(targets == answer).sum(0) for answer in (0, 1)]).astype(np.float64)
    return np.where(counts > 0, counts.sum(0) / (2 * np.maximum(counts, 1)), 0).astype(np.float32)


def finding_losses(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted binary cross-entropy of each record, summed over what is known of it and divided by the number of findings, shape (n,).

    Parameters
    ----------
    logits, targets : Tensor, shape (n, findings)
        A target of NaN gives neither loss nor gradient.
    weights : Tensor, shape (2, findings)
        `answer_weights`.

    Examples
    --------
    >>> finding_losses(torch.zeros(1, 2), torch.tensor([[1.0, torch.nan]]), torch.ones(2, 2)).item()  # ln 2 / 2
    0.3465735912322998
    """
    known = torch.isfinite(targets)
    wanted = torch.where(known, targets, 0.0)
    weight = known * torch.where(wanted > 0.5, weights[1], weights[0])
    losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return (weight * losses).sum(1) / logits.shape[1]
