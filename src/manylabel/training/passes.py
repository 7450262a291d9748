"""How one micro-batch becomes a gradient; called by the loop, chosen by recipes.

A pass may change what the network sees (mixed or shifted features) or go through it twice; the loop only wants the
gradient to be left where `backward` leaves it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from manylabel.modeling.packed import PackedBatch
from manylabel.training.objectives import Objective


class Pass(Protocol):
    """One way through the network and back."""

    def backward(
        self,
        model: nn.Module,
        batch: PackedBatch,
        targets: Any,  # noqa: ANN401 - only the objective looks inside
        *,
        objective: Objective,
        counts: Any,  # noqa: ANN401 - likewise
    ) -> tuple[Tensor, Tensor]:
        """Add the gradient of one micro-batch; its share of the batch's mean loss (0-d) and the outputs, both detached.

        Called under autocast, with torch's generator set by seed, step and process. `counts` are those of the whole
        batch. Outputs with one row a text let the loop say which text is at fault when a loss is not finite.
        """
        ...


class PlainPass:
    """Once forward, once back."""

    def backward(
        self,
        model: nn.Module,
        batch: PackedBatch,
        targets: Any,  # noqa: ANN401 - only the objective looks inside
        *,
        objective: Objective,
        counts: Any,  # noqa: ANN401 - likewise
    ) -> tuple[Tensor, Tensor]:
        """As `Pass` says."""
        outputs = model(batch)
        with no_autocast(outputs.device):
            loss = objective.loss(outputs, targets, counts)
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach(), outputs.detach()


def no_autocast(device: torch.device) -> AbstractContextManager[None]:
    """For losses and the way back: each operation there runs in the number format its inputs have."""
    return torch.autocast(device.type, enabled=False)
