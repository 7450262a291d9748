"""The loss of every cell, as pure functions of logits, targets and weights; called by `training.objectives`.

Every function takes `logits_BL` in any float format and `targets_BL` with 1 (carries the label), 0 (does not) and -1
(not annotated), as floats also with soft targets from 0 to 1, and returns [B, L] in fp32 and nats, computed in fp32. A
cell with target -1 is exactly 0 in loss and gradient, whatever its logit. Logits of any finite size give finite losses
and gradients. All tensors of a call are on one device. Below, z is a logit, p = 1 / (1 + exp(-z)), and each loss is
given as what a positive (y = 1) and what a negative (y = 0) costs; a soft target costs y times the one and 1 - y times
the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from manylabel.values import NOT_ANNOTATED

# Distribution-balanced loss: the authors' configuration for COCO-MLT, their data set of 80 labels
# (github.com/wutong16/DistributionBalancedLoss, configs/coco/LT_resnet50_pfc_DB.py).
REBALANCE_FLOOR = 0.1
"""alpha: smallest re-balancing weight; the largest is alpha + 1."""
REBALANCE_STEEPNESS = 10.0
"""beta: how sharply the re-balancing weight rises around mu."""
REBALANCE_CENTER = 0.2
"""mu: ratio r at which the re-balancing weight is alpha + 1/2."""
NEGATIVE_SCALE = 2.0
"""lambda: how much sooner a negative counts as settled."""
BIAS_SCALE = 0.05
"""kappa: share of a label's prior log-odds that its logits are shifted by."""

SMALLEST_MARGIN = torch.finfo(torch.float32).tiny
"""A smaller margin is 0 in fp32."""


@dataclass(frozen=True, eq=False)
class LabelCounts:
    """How often each label is 1, and 0 or 1, in the training rows: `positives_L` and `annotated_L`, float64 [L]."""

    positives_L: Tensor
    annotated_L: Tensor

    @property
    def zeros_L(self) -> Tensor:
        """How often each label is 0."""
        return self.annotated_L - self.positives_L

    def to(self, device: torch.device) -> LabelCounts:
        """The same counts on `device`."""
        return LabelCounts(self.positives_L.to(device), self.annotated_L.to(device))


@dataclass(frozen=True, eq=False)
class Weighting:
    """What is common to all losses: factors of a label's positives, of all its cells, and how soft targets are.

    `positive_L` and `label_L` are fp32 [L], at least 0; None is 1 throughout. With `smoothing` e in [0, 0.5) a
    target becomes 1 - e instead of 1 and e instead of 0: a cell then costs y times what a positive costs plus
    1 - y times what a negative costs. (Szegedy et al. 2016, "Rethinking the Inception Architecture for Computer
    Vision", section 7, for two classes and their epsilon = 2e.)
    """

    positive_L: Tensor | None = None
    label_L: Tensor | None = None
    smoothing: float = 0.0

    def to(self, device: torch.device) -> Weighting:
        """The same factors on `device`."""
        positive_L = None if self.positive_L is None else self.positive_L.to(device)
        label_L = None if self.label_L is None else self.label_L.to(device)
        return Weighting(positive_L, label_L, self.smoothing)


PLAIN = Weighting()


def binary_cross_entropy(logits_BL: Tensor, targets_BL: Tensor, *, weighting: Weighting = PLAIN) -> Tensor:
    """Binary cross-entropy with logits: -log p for a positive, -log(1 - p) for a negative.

    At least 0. The log-likelihood of one independent Bernoulli variable a label; without weights and smoothing the
    probabilities it leads to are calibrated in the large.
    """
    z_BL = _annotated_logits(logits_BL, targets_BL)
    if weighting.positive_L is not None:
        # torch's own `pos_weight` rounds the gradient of a settled positive to the wrong side of 0.
        return _mixed(-functional.logsigmoid(z_BL), -functional.logsigmoid(-z_BL), targets_BL, weighting)
    soft_BL = _soft_targets(targets_BL, weighting.smoothing)
    losses_BL = functional.binary_cross_entropy_with_logits(z_BL, soft_BL, reduction="none")
    return _finished(losses_BL, targets_BL, weighting)


def focal(logits_BL: Tensor, targets_BL: Tensor, *, gamma: float, weighting: Weighting = PLAIN) -> Tensor:
    """Focal loss: -(1 - p)^gamma log p for a positive, -p^gamma log(1 - p) for a negative.

    At least 0; gamma 0 is binary cross-entropy. The gradient passes through the focusing factor. The paper's alpha
    is left to `weighting`. (Lin et al. 2017, "Focal Loss for Dense Object Detection", equation 4, per label.)
    """
    z_BL = _annotated_logits(logits_BL, targets_BL)
    return _mixed(_focused(z_BL, gamma), _focused(-z_BL, gamma), targets_BL, weighting)


def asymmetric(
    logits_BL: Tensor,
    targets_BL: Tensor,
    *,
    gamma_positive: float,
    gamma_negative: float,
    margin: float,
    weighting: Weighting = PLAIN,
) -> Tensor:
    """Asymmetric loss: -(1 - p)^gamma_positive log p, and -q^gamma_negative log(1 - q) with q = max(p - margin, 0).

    At least 0; a negative with p <= margin costs nothing and has no gradient. The gradient passes through the
    focusing factors, as in the paper's gradient analysis; the authors' code can also hold the factors constant, which
    is not offered here. (Ridnik et al. 2021, "Asymmetric Loss For Multi-Label Classification", section 2.)
    """
    z_BL = _annotated_logits(logits_BL, targets_BL)
    negative_BL = _focused_beyond(z_BL, gamma_negative, margin)
    return _mixed(_focused(z_BL, gamma_positive), negative_BL, targets_BL, weighting)


def distribution_balanced(
    logits_BL: Tensor, targets_BL: Tensor, *, counts: LabelCounts, weighting: Weighting = PLAIN
) -> Tensor:
    """Distribution-balanced loss: w log(1 + exp(-(z - v))), and w / lambda log(1 + exp(lambda (z - v))).

    At least 0. With n the positives of a label and P its share of ones among the annotated training cells:
    w = alpha + s(beta (r - mu)), s the logistic function, r = (1 / n) / (sum of 1 / n over the text's labels),
    v = kappa log(1 / P - 1). The constants alpha, beta, mu, lambda and kappa are those of this module.
    The paper leaves three cases open: a text without positives has r at its limit, w = alpha + 1; a label without
    positives counts as n = 1 in r; ones and zeros in P count as at least 1/2 each, so v is finite, and 0 for a
    label without annotated cells.

    Wu et al. 2020, "Distribution-Balanced Loss for Multi-Label Classification in Long-Tailed Datasets"
    (arXiv 2007.09654), without the focal factor they can add. Their code divides v by lambda too, which they have
    acknowledged to be a mistake; this is the paper's v. They draw texts by label; here they are drawn evenly.
    """
    margins_L = BIAS_SCALE * (counts.zeros_L.clamp(min=0.5) / counts.positives_L.clamp(min=0.5)).log()
    z_BL = _annotated_logits(logits_BL, targets_BL) - margins_L.float()
    weights_BL = _rebalancing(targets_BL, counts.positives_L)
    positive_BL = -weights_BL * functional.logsigmoid(z_BL)
    negative_BL = -weights_BL * functional.logsigmoid(-NEGATIVE_SCALE * z_BL) / NEGATIVE_SCALE
    return _mixed(positive_BL, negative_BL, targets_BL, weighting)


def positive_weights(counts: LabelCounts, *, cap: float) -> Tensor:
    """min(zeros / ones, cap) for each label, fp32 [L]: ones and zeros of a label then weigh the same, up to the cap.

    1 for a label that has no ones or no zeros: no factor can balance it. (King and Zeng 2001, "Logistic Regression
    in Rare Events Data", weighting to equal shares; `pos_weight` in torch's BCEWithLogitsLoss.)
    """
    ones_L, zeros_L = counts.positives_L, counts.zeros_L
    weights_L = (zeros_L / ones_L.clamp(min=1)).clamp(max=cap)
    return torch.where((ones_L > 0) & (zeros_L > 0), weights_L, 1.0).float()


def class_balanced_weights(counts: LabelCounts, *, beta: float) -> Tensor:
    """(1 - beta) / (1 - beta^n) for a label with n positives, scaled to a mean of 1, fp32 [L].

    beta in [0, 1); 0 weighs all labels the same, towards 1 a label weighs as 1 / n. A label without positives has
    weight 1 and takes no part in the scaling. (Cui et al. 2019, "Class-Balanced Loss Based on Effective Number of
    Samples", section 4; there for the class of a sample, here for all cells of a label.)
    """
    present_L = counts.positives_L > 0
    weights_L = (1 - beta) / (1 - beta ** counts.positives_L.clamp(min=1))
    if not present_L.any():
        return torch.ones_like(weights_L, dtype=torch.float32)
    return torch.where(present_L, weights_L / weights_L[present_L].mean(), 1.0).float()


def _annotated_logits(logits_BL: Tensor, targets_BL: Tensor) -> Tensor:
    """Logits in fp32, 0 where not annotated: not even an infinite one there can reach the gradient."""
    return torch.where(targets_BL != NOT_ANNOTATED, logits_BL.float(), 0.0)


def _soft_targets(targets_BL: Tensor, smoothing: float) -> Tensor:
    """1 - smoothing for a positive, smoothing for a negative, in between for what is in between, in fp32."""
    return targets_BL.clamp(min=0).float() * (1 - 2 * smoothing) + smoothing


def _mixed(positive_BL: Tensor, negative_BL: Tensor, targets_BL: Tensor, weighting: Weighting) -> Tensor:
    """What the cells cost, from what they would cost as positives and as negatives."""
    if weighting.positive_L is not None:
        positive_BL = positive_BL * weighting.positive_L
    soft_BL = _soft_targets(targets_BL, weighting.smoothing)
    return _finished(soft_BL * positive_BL + (1 - soft_BL) * negative_BL, targets_BL, weighting)


def _finished(losses_BL: Tensor, targets_BL: Tensor, weighting: Weighting) -> Tensor:
    """With the labels' weights, and 0 where not annotated."""
    if weighting.label_L is not None:
        losses_BL = losses_BL * weighting.label_L
    return torch.where(targets_BL != NOT_ANNOTATED, losses_BL, 0.0)


def _focused(z_BL: Tensor, gamma: float) -> Tensor:
    """-(1 - p)^gamma log p, through logarithms: p^gamma by `pow` has no finite derivative at 0 for gamma < 1."""
    return -(gamma * functional.logsigmoid(-z_BL)).exp() * functional.logsigmoid(z_BL)


def _focused_beyond(z_BL: Tensor, gamma: float, margin: float) -> Tensor:
    """-q^gamma log(1 - q) with q = max(p - margin, 0)."""
    if margin < SMALLEST_MARGIN:
        return _focused(-z_BL, gamma)
    # 1 - q as a sum keeps its digits where p is near 1; cells that cost nothing get a value without a gradient.
    rest_BL = torch.sigmoid(-z_BL) + margin
    costs_BL = rest_BL < 1
    rest_BL = torch.where(costs_BL, rest_BL, 0.5)
    return torch.where(costs_BL, -((1 - rest_BL) ** gamma) * rest_BL.log(), 0.0)


def _rebalancing(targets_BL: Tensor, positives_L: Tensor) -> Tensor:
    """The factors w = alpha + s(beta (r - mu)), fp32 [B, L]."""
    inverse_L = 1 / positives_L.clamp(min=1).float()
    total_B1 = (targets_BL.clamp(min=0) * inverse_L).sum(dim=1, keepdim=True)
    # Without positives total_B1 is 0 and the ratio infinite, which is the limit that is wanted.
    ratio_BL = inverse_L / total_B1
    return REBALANCE_FLOOR + torch.sigmoid(REBALANCE_STEEPNESS * (ratio_BL - REBALANCE_CENTER))
