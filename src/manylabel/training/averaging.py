"""Exponential moving average of the weights; driven by `weights` after every optimizer step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

NUM_UPDATES = "num_updates"


class WeightAverage:
    """Averages of some flat fp32 tensors, which begin as copies of them.

    `values` holds the averages, in the order of the tensors; `num_updates` counts the updates.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        """Watch `tensors`, which must stay the same objects; raises ValueError unless they are fp32.

        In a narrower format an update of a thousandth would round to nothing.
        """
        if any(tensor.dtype != torch.float32 for tensor in tensors):
            raise ValueError("only fp32 weights can be averaged")
        self._tensors = tuple(tensors)
        self.values = tuple(tensor.detach().clone() for tensor in tensors)
        self.num_updates = 0

    @torch.no_grad()
    def update(self, decay: float, skip: Tensor | None = None) -> None:
        """Set each average to d average + (1 - d) weight, in place, with d the `warmed_up` decay of this update.

        Where `skip` (0-d fp32) is 1 the averages stay as they are.
        """
        weight: float | Tensor = 1.0 - warmed_up(decay, self.num_updates)
        if skip is not None:
            weight = weight * (1.0 - skip)
        for average, tensor in zip(self.values, self._tensors, strict=True):
            average.lerp_(tensor, weight)
        self.num_updates += 1

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint needs, not copied: the averages by number, and the number of updates (0-d int64)."""
        averages = {str(index): value for index, value in enumerate(self.values)}
        return {**averages, NUM_UPDATES: torch.tensor(self.num_updates)}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state()`; raises KeyError or ValueError, and changes nothing, when it is of other tensors."""
        kept = [state[str(index)] for index in range(len(self.values))]
        num_updates = int(state[NUM_UPDATES])
        if [value.shape for value in kept] != [value.shape for value in self.values]:
            raise ValueError("the averages have other shapes than the weights")
        for value, replacement in zip(self.values, kept, strict=True):
            value.copy_(replacement)
        self.num_updates = num_updates


def warmed_up(decay: float, num_updates: int) -> float:
    """min(decay, (1 + n) / (10 + n)) after n updates: 0.1 at first, so that the start is soon forgotten.

    As TensorFlow's `tf.train.ExponentialMovingAverage` does when it is told the number of updates.
    """
    return min(decay, (1 + num_updates) / (10 + num_updates))
