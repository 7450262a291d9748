"""Dropout whose random numbers are cheap on a CPU; used by the encoder, its attention and the heads.

PyTorch draws one Bernoulli variable an element, one after the other: 1.4 ms for 640 tokens of width 384 on one core,
a tenth of a training step. One 64-bit draw gives four elements here: 0.26 ms for the same mask.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

DRAWS_PER_WORD = 4
STEPS = 1 << 16


def dropout(values: Tensor, probability: float) -> Tensor:
    """Zero each value with `probability` (in [0, 1), rounded to 1 / 65,536) and scale the others to the same mean."""
    if values.device.type != "cpu":
        return functional.dropout(values, probability)
    dropped = round(probability * STEPS)
    if dropped == 0:
        return values
    words = torch.empty(-(-values.numel() // DRAWS_PER_WORD), dtype=torch.int64).random_(-(2**63), None)
    kept = words.view(torch.int16)[: values.numel()].view(values.shape) >= dropped - STEPS // 2
    return values * kept.to(values.dtype).mul_(STEPS / (STEPS - dropped))


class Dropout(nn.Module):
    """`dropout` while training, nothing otherwise."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, values: Tensor) -> Tensor:
        """The values, some of them zeroed; same shape."""
        return dropout(values, self.probability) if self.training else values

    def extra_repr(self) -> str:
        """The probability, for `print(model)`."""
        return str(self.probability)
