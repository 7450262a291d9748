"""What training minimises; called by passes through the `Objective` protocol, built by recipes from settings."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from manylabel.config.schema import LossSettings
from manylabel.modeling.losses import (
    LabelCounts,
    Weighting,
    asymmetric,
    binary_cross_entropy,
    class_balanced_weights,
    distribution_balanced,
    focal,
    positive_weights,
)
from manylabel.values import NOT_ANNOTATED, FloatArray, IntArray


class Objective(Protocol):
    """A mean loss over a batch, in shares that add up exactly over micro-batches and processes."""

    def counts(self, targets: Any) -> Any:  # noqa: ANN401 - opaque to the loop
        """What the loss of a whole batch with these targets is divided by; opaque to the loop."""
        ...

    def loss(self, outputs: Any, targets: Any, counts: Any) -> Tensor:  # noqa: ANN401 - opaque to the loop
        """The share (0-d, fp32) of these outputs in the mean loss of the batch that has `counts`."""
        ...


class MultiLabelObjective:
    """One independent decision a label, over annotated cells; without arguments plain binary cross-entropy.

    A cell with target -1 contributes neither loss nor count; a label without annotated cells has no gradient.
    Weights change the sum, never the count: the loss stays a sum over annotated cells divided by their number, so
    weights that do not average 1 act on the learning rate as well, and micro-batches add up exactly.
    """

    def __init__(self, settings: LossSettings | None = None, counts: LabelCounts | None = None) -> None:
        """Weights of the labels from `counts`, which weighted losses and the distribution-balanced one need."""
        self._settings = LossSettings() if settings is None else settings
        weighted = self._settings.label_weights != "none" or self._settings.kind == "distribution_balanced"
        if weighted and counts is None:
            raise ValueError("this loss needs the counts of the training targets: use build_objective")
        # Plain losses need no counts; none at all makes the types and the moves between devices one case.
        self._counts = LabelCounts(torch.zeros(0), torch.zeros(0)) if counts is None else counts
        self._weighting = _weighting(self._settings, self._counts)

    def counts(self, targets: Tensor) -> int:
        """Annotated cells of targets_BL, at least 1."""
        return max(int((targets != NOT_ANNOTATED).sum()), 1)

    def loss(self, outputs: Tensor, targets: Tensor, counts: int) -> Tensor:
        """`summed_loss` of logits_BL and targets_BL, divided by the annotated cells of the whole batch."""
        return self.summed_loss(outputs, targets) / counts

    def summed_loss(self, logits_BL: Tensor, targets_BL: Tensor) -> Tensor:
        """Sum over annotated cells (0-d), computed in fp32 whatever the precision of the logits."""
        self._move(logits_BL.device)
        return self._cell_losses(logits_BL, targets_BL).sum()

    def _move(self, device: torch.device) -> None:
        """Bring counts and weights to the logits once: a copy at every step would hold up a GPU's queue."""
        if self._counts.positives_L.device != device:
            self._counts, self._weighting = self._counts.to(device), self._weighting.to(device)

    def _cell_losses(self, logits_BL: Tensor, targets_BL: Tensor) -> Tensor:
        settings, weighting = self._settings, self._weighting
        match settings.kind:
            case "bce":
                return binary_cross_entropy(logits_BL, targets_BL, weighting=weighting)
            case "focal":
                return focal(logits_BL, targets_BL, gamma=settings.focal_gamma, weighting=weighting)
            case "asymmetric":
                return asymmetric(
                    logits_BL,
                    targets_BL,
                    gamma_positive=settings.gamma_positive,
                    gamma_negative=settings.gamma_negative,
                    margin=settings.margin,
                    weighting=weighting,
                )
            case "distribution_balanced":
                return distribution_balanced(logits_BL, targets_BL, counts=self._counts, weighting=weighting)


def build_objective(settings: LossSettings, targets_NL: IntArray | FloatArray) -> MultiLabelObjective:
    """The objective of the settings, its weights from all training targets, [N, L] with 1, 0 and -1, or soft ones.

    In a run of several processes each must be given the targets of the whole training set, not of its share.
    """
    positives_L = torch.from_numpy(np.maximum(targets_NL, 0).sum(axis=0, dtype=np.float64))
    annotated_L = torch.from_numpy((targets_NL != NOT_ANNOTATED).sum(axis=0)).double()
    return MultiLabelObjective(settings, LabelCounts(positives_L, annotated_L))


def _weighting(settings: LossSettings, counts: LabelCounts) -> Weighting:
    match settings.label_weights:
        case "none":
            return Weighting(smoothing=settings.label_smoothing)
        case "positive":
            weights_L = positive_weights(counts, cap=settings.positive_weight_cap)
            return Weighting(positive_L=weights_L, smoothing=settings.label_smoothing)
        case "class_balanced":
            weights_L = class_balanced_weights(counts, beta=settings.class_balanced_beta)
            return Weighting(label_L=weights_L, smoothing=settings.label_smoothing)
