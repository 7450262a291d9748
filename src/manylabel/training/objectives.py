"""What training minimises; called by the loop through the three-method `Objective` protocol."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from manylabel.values import NOT_ANNOTATED


class Objective(Protocol):
    """A loss as a sum and the count it is to be divided by, so that micro-batches add up exactly."""

    def count(self, targets_BL: Tensor) -> int:
        """By how much the summed loss of these targets is divided."""
        ...

    def summed_loss(self, logits_BL: Tensor, targets_BL: Tensor) -> Tensor:
        """The loss of the batch as a sum (0-d)."""
        ...


class MultiLabelObjective:
    """Binary cross-entropy with logits, one independent decision a label, over annotated cells.

    Per cell `-y log s(z) - (1 - y) log(1 - s(z))` with s the logistic function, in nats, at least 0. A cell
    with target -1 contributes neither loss nor count; a label without annotated cells has no gradient.
    """

    def count(self, targets_BL: Tensor) -> int:
        """Annotated cells."""
        return int((targets_BL != NOT_ANNOTATED).sum())

    def summed_loss(self, logits_BL: Tensor, targets_BL: Tensor) -> Tensor:
        """Sum over annotated cells, computed in fp32 whatever the precision of the logits."""
        losses_BL = functional.binary_cross_entropy_with_logits(
            logits_BL.float(), targets_BL.clamp(min=0).float(), reduction="none"
        )
        return torch.where(targets_BL != NOT_ANNOTATED, losses_BL, losses_BL.new_zeros(())).sum()
