"""From memory to the device without waiting for it; used for batches, their attention plan and their targets."""

from __future__ import annotations

from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor


class Movable(Protocol):
    """A tensor, or what moves its tensors as one."""

    def to(self, device: torch.device) -> Self:
        """The same on `device`."""
        ...


AnyMovable = TypeVar("AnyMovable", Tensor, Movable)


def send(value: AnyMovable, device: torch.device) -> AnyMovable:
    """The value on `device`; where that is a GPU, the copy of a tensor is queued like a kernel.

    A copy from memory that the system may move is finished before the call returns, after all that was queued before.
    """
    if isinstance(value, Tensor) and device.type == "cuda" and value.device.type == "cpu":
        return value.pin_memory().to(device, non_blocking=True)
    return value.to(device)
