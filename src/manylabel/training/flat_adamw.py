"""AdamW over parts of one flat vector; called by weights.

A step moves some 30 bytes of memory for every weight, and memory is what a small step waits for on a CPU. So
the vector is updated in pieces: what is done to a piece (scaling the gradient, update, bf16 copy) finds it in the
cache.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from manylabel.training.optimizer import ADAM_BETAS, ADAM_EPSILON

PIECE = 1 << 19
"""Values of a piece: with gradient and two moments 8 MB in fp32."""


class FlatAdamW:
    """The two moments of every value and the number of steps each group of them has made."""

    def __init__(self, values: Tensor, num_groups: int) -> None:
        """Begin with moments of zero."""
        self._values = values
        self._exp_avg, self._exp_avg_sq = torch.zeros_like(values), torch.zeros_like(values)
        self._steps_G = torch.zeros(num_groups, device=values.device)

    def begin(self, group: int) -> None:
        """A step of this group begins: all its pieces follow."""
        self._steps_G[group] += 1

    def update(
        self, start: int, stop: int, gradient: Tensor, *, group: int, rate: float, weight_decay: float
    ) -> None:
        """Update the values from `start` to `stop` with their gradient (fp32, flat).

        The fused implementation took 42 ms a step for 22M parameters on 2 cores, foreach 256 ms, the loop 297 ms.
        """
        adamw(
            [self._values[start:stop]],
            [gradient],
            [self._exp_avg[start:stop]],
            [self._exp_avg_sq[start:stop]],
            [],
            [self._steps_G[group] - 1],  # Counted up inside, once for every call.
            fused=True,
            amsgrad=False,
            beta1=ADAM_BETAS[0],
            beta2=ADAM_BETAS[1],
            lr=rate,
            weight_decay=weight_decay,
            eps=ADAM_EPSILON,
            maximize=False,
        )

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint needs, not copied."""
        return {"exp_avg": self._exp_avg, "exp_avg_sq": self._exp_avg_sq, "steps": self._steps_G}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state()`."""
        self._exp_avg.copy_(state["exp_avg"])
        self._exp_avg_sq.copy_(state["exp_avg_sq"])
        self._steps_G.copy_(state["steps"])
