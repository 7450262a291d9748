"""What a language model minimises, and one way through it; called by the loop and by recipes/adapt.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from manylabel.modeling.packed import PackedBatch
from manylabel.modeling.pretraining import PretrainingLogits
from manylabel.text.segments import NO_PAIR
from manylabel.training.objectives import Objective
from manylabel.training.passes import no_autocast
from manylabel.training.pretraining_examples import PretrainingTargets


@dataclass(frozen=True)
class PretrainingCounts:
    """Masked tokens and pairs of a batch."""

    masked: int
    pairs: int


class PretrainingObjective:
    """Mean cross-entropy over masked tokens plus mean cross-entropy over pairs, in nats, as Devlin et al. 2019.

    A batch without masked tokens, or without pairs, has 0 in that part.
    """

    def counts(self, targets: PretrainingTargets) -> PretrainingCounts:
        """Masked tokens and pairs."""
        return PretrainingCounts(len(targets.words_M), int((targets.next_B != NO_PAIR).sum()))

    def loss(
        self, outputs: PretrainingLogits, targets: PretrainingTargets, counts: PretrainingCounts
    ) -> Tensor:
        """The share (0-d, fp32) of these logits in the loss of the batch that has `counts`."""
        total = functional.cross_entropy(outputs.masked_MV.float(), targets.words_M, reduction="sum")
        loss = total / max(counts.masked, 1)
        if outputs.next_B2 is not None:
            logits, labels = outputs.next_B2.float(), targets.next_B
            loss = loss + functional.cross_entropy(
                logits, labels, ignore_index=NO_PAIR, reduction="sum"
            ) / max(counts.pairs, 1)
        return loss


class PretrainingPass:
    """Once forward, with the decoder at masked places only, and once back."""

    def backward(
        self,
        model: nn.Module,
        batch: PackedBatch,
        targets: PretrainingTargets,
        *,
        objective: Objective,
        counts: Any,  # noqa: ANN401 - only the objective looks inside
    ) -> tuple[Tensor, Tensor]:
        """As `passes.Pass` says; the outputs are the next-sentence logits [B, 2], or nothing where none are learned."""
        outputs: PretrainingLogits = model(batch, targets.places_M)
        with no_autocast(outputs.masked_MV.device):
            loss = objective.loss(outputs, targets, counts)
            loss.backward()  # type: ignore[no-untyped-call]
        rows = outputs.next_B2
        if rows is None:  # Not a view of the logits, which would keep them.
            rows = outputs.masked_MV.new_empty(0, outputs.masked_MV.shape[1])
        return loss.detach(), rows.detach()
