"""Mixup of pooled features: the head also learns from points between two texts. Chosen by recipes/augment.py.

Zhang et al. 2018 ("mixup: Beyond Empirical Risk Minimization") mix inputs; for texts Guo et al. 2019 ("Augmenting Data
with Mixup for Sentence Classification", sentMixup) mix what the classifier reads, as is done here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from manylabel.modeling.classifier import Classifier
from manylabel.modeling.packed import PackedBatch
from manylabel.training.objectives import Objective
from manylabel.training.passes import no_autocast
from manylabel.values import NOT_ANNOTATED


class MixupPass:
    """Once through the network, the pooled features and the targets of some texts mixed with those of others.

    A text's partner comes from the same micro-batch, so what is mixed depends on how a batch is divided. A loss is
    divided by the annotated cells of the batch as they were before mixing.
    """

    def __init__(self, alpha: float, *, share: float = 1.0) -> None:
        """A text keeps a share drawn from Beta(alpha, alpha); each is mixed with probability `share`, in [0, 1]."""
        self._alpha, self._share = alpha, share

    def backward(
        self,
        model: nn.Module,
        batch: PackedBatch,
        targets: Any,  # noqa: ANN401 - a tensor here
        *,
        objective: Objective,
        counts: Any,  # noqa: ANN401 - only the objective looks inside
    ) -> tuple[Tensor, Tensor]:
        """As `Pass` says; the outputs are the logits of the mixed features."""
        assert isinstance(model, Classifier)
        own_B, partners_B = self.draw(batch.num_texts)
        own_B1 = own_B[:, None].to(targets.device)
        partners_B = partners_B.to(targets.device)
        features_BD = model.pooled(batch)
        logits_BL = model.classify(own_B1 * features_BD + (1 - own_B1) * features_BD[partners_B])
        with no_autocast(logits_BL.device):
            loss = objective.loss(logits_BL, mixed_targets(targets, own_B1, partners_B), counts)
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach(), logits_BL.detach()

    def draw(self, num_texts: int) -> tuple[Tensor, Tensor]:
        """What each text keeps of itself, from 0 to 1, and its partner; by torch's generator, on the CPU."""
        drawn_B = torch.distributions.Beta(self._alpha, self._alpha).sample((num_texts,))
        own_B = torch.where(torch.rand(num_texts) < self._share, drawn_B, 1.0)
        return own_B, torch.randperm(num_texts)


def mixed_targets(targets_BL: Tensor, own_B1: Tensor, partners_B: Tensor) -> Tensor:
    """Targets own y + (1 - own) y' in fp32, from 0 to 1; -1 where one of both is, unless the text is all its own."""
    first_BL = targets_BL.float()
    second_BL = first_BL[partners_B]
    # Equal targets stay what they are, whatever the rounding of the two shares.
    mixed_BL = torch.where(first_BL == second_BL, first_BL, own_B1 * first_BL + (1 - own_B1) * second_BL)
    is_known_BL = (first_BL != NOT_ANNOTATED) & (second_BL != NOT_ANNOTATED)
    mixed_BL = torch.where(is_known_BL, mixed_BL, float(NOT_ANNOTATED))
    return torch.where(own_B1 == 1, first_BL, mixed_BL)
