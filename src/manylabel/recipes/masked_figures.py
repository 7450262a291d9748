"""How well a language model guesses masked tokens of texts it does not learn from; called by recipes/adapt.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from manylabel.modeling.packed import to_device
from manylabel.modeling.precision import autocast
from manylabel.modeling.pretraining import PretrainingLogits, PretrainingModel
from manylabel.text.buckets import plan_batches
from manylabel.text.segments import NO_PAIR
from manylabel.training.pretraining_examples import PretrainingEpoch, PretrainingTargets
from manylabel.training.processes import Processes


@dataclass(frozen=True)
class MaskedFigures:
    """What was found on `masked` tokens and `pairs` of segments.

    `loss` is the mean cross-entropy of the masked tokens in nats, `accuracy` the share of them whose likeliest token is
    the true one, `next_accuracy` the share of pairs told right (None without pairs). Where a logit is NaN so is the
    loss; the shares then mean nothing.
    """

    loss: float
    accuracy: float
    masked: int
    next_accuracy: float | None
    pairs: int

    @property
    def perplexity(self) -> float:
        """exp(loss): as unsure as a choice among so many equally likely tokens."""
        return math.exp(min(self.loss, 700.0))

    def to_json(self) -> dict[str, float | int | None]:
        """The figures as plain values."""
        return {
            "masked_loss": self.loss,
            "masked_accuracy": self.accuracy,
            "perplexity": self.perplexity,
            "masked_tokens": self.masked,
            "next_sentence_accuracy": self.next_accuracy,
            "pairs": self.pairs,
        }


def measure(
    model: PretrainingModel,
    epoch: PretrainingEpoch,
    *,
    token_budget: int,
    dtype: torch.dtype,
    processes: Processes,
    on_batch: Callable[[], None] = lambda: None,
) -> MaskedFigures:
    """The figures of all examples of `epoch`, divided over the processes; `on_batch` is called before each batch."""
    rows_n = processes.share_rows(len(epoch.lengths_N))
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    sums = np.zeros(5)
    try:
        for part in plan_batches(epoch.lengths_N[rows_n], token_budget):
            on_batch()
            indices = rows_n[part]
            targets = epoch.targets(indices).to(device)
            with torch.inference_mode(), autocast(dtype, device):
                logits: PretrainingLogits = model(to_device(epoch.batch(indices), device), targets.places_M)
            sums += _sums(logits, targets)
    finally:
        model.train(was_training)
    loss, right, masked, next_right, pairs = (processes.sum_float(float(value)) for value in sums)
    return MaskedFigures(
        loss=loss / max(masked, 1),
        accuracy=right / max(masked, 1),
        masked=int(masked),
        next_accuracy=next_right / pairs if pairs else None,
        pairs=int(pairs),
    )


def _sums(logits: PretrainingLogits, targets: PretrainingTargets) -> np.ndarray:
    """Of one batch: summed loss, right guesses, masked tokens, pairs told right, pairs."""
    scores_MV = logits.masked_MV.float()
    loss = functional.cross_entropy(scores_MV, targets.words_M, reduction="sum")
    right = _count(scores_MV.argmax(dim=1) == targets.words_M)
    next_right = pairs = 0
    if logits.next_B2 is not None:
        is_pair_B = targets.next_B != NO_PAIR
        next_right = _count((logits.next_B2.argmax(dim=1) == targets.next_B) & is_pair_B)
        pairs = _count(is_pair_B)
    return np.array([float(loss), right, len(targets.words_M), next_right, pairs])


def _count(flags: Tensor) -> int:
    return int(flags.sum())
