"""Loss and gradient norm of a step on their way to the CPU, and what becomes of a step when they are not finite.

Used by the loop. On a GPU a step is queued, not made, when its last call returns; reading its loss at once would let
the GPU wait for the next batch. So there the loss of a step is read when the next one is queued, and the GPU itself
leaves the weights alone from the first loss or gradient that is not finite (`Guard`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from manylabel.training.observers import Step

Indices = npt.NDArray[np.int64]

SMALLEST_NORM = 1e-6
"""Keeps the scale of a gradient of zero finite."""


class Reading:
    """Two numbers of one step, copied to the CPU without holding up the device."""

    def __init__(self, loss: Tensor, norm: Tensor) -> None:
        """Begin the copy; both are 0-d and on one device."""
        both = torch.stack([loss.double(), norm.double()])
        self._arrived: torch.cuda.Event | None = None
        self._both = both
        if both.device.type == "cuda":
            self._both = torch.empty(2, dtype=torch.float64, pin_memory=True)
            self._both.copy_(both, non_blocking=True)
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record(torch.cuda.current_stream(both.device))

    def wait(self) -> tuple[float, float]:
        """Loss and norm, as soon as the device has come so far."""
        if self._arrived is not None:
            self._arrived.synchronize()
        loss, norm = self._both.tolist()
        return loss, norm


class MadeStep(NamedTuple):
    """A step that was made, on a GPU only queued; `told` has loss, norm and seconds still to come.

    `began` is when, by `time.monotonic`. `indices` are the texts of the whole batch, `parts` those of each micro-batch
    of this process and `outputs` what the network said of them.
    """

    told: Step
    began: float
    indices: Indices
    parts: Sequence[Indices]
    outputs: Sequence[Tensor]
    reading: Reading

    def with_figures(self, *, seconds: float) -> Step:
        """What there is to tell, complete."""
        loss, norm = self.reading.wait()
        return replace(self.told, loss=loss, gradient_norm=norm, seconds=seconds)

    def texts_at_fault(self, sum_: Callable[[Tensor], Tensor]) -> Indices:
        """The texts whose row of outputs is not finite, over all processes; the whole batch where that cannot be told.

        Every process must ask; `sum_` adds up over them.
        """
        is_bad_B = torch.zeros(len(self.indices))
        for part, rows in zip(self.parts, self.outputs, strict=True):
            if len(rows) == len(part):
                bad = part[~torch.isfinite(rows).flatten(1).all(dim=1).cpu().numpy()]
                is_bad_B[torch.from_numpy(np.isin(self.indices, bad))] = 1
        found = self.indices[sum_(is_bad_B).numpy() > 0]
        return found if len(found) else self.indices


@dataclass(frozen=True, eq=False)
class Scale:
    """What AdamW multiplies a gradient by, to clip it; where `skip` (0-d fp32) is 1 it leaves the weights alone."""

    factor: float | Tensor
    skip: Tensor | None = None

    @property
    def is_one(self) -> bool:
        """Whether nothing needs multiplying, as far as this can be known without waiting for a device."""
        return isinstance(self.factor, float) and self.factor == 1.0


def clipped(norm: float, limit: float) -> Scale:
    """The scale of a gradient of this norm, so that its norm is at most `limit`."""
    return Scale(min(limit / max(norm, SMALLEST_NORM), 1.0))


class Guard:
    """The same on the device, which looks itself whether a step may be made: after one that may not, none is."""

    def __init__(self, device: torch.device) -> None:
        """No step was bad yet."""
        self._is_bad = torch.zeros((), device=device)

    def clipped(self, loss: Tensor, norm: Tensor, limit: float) -> Scale:
        """`clipped` without reading loss and norm (0-d, on the device)."""
        is_bad = ~torch.isfinite(loss + norm)
        self._is_bad = torch.maximum(self._is_bad, is_bad.to(self._is_bad))
        factor = (limit / norm.double().clamp_min(SMALLEST_NORM)).clamp_max(1.0)
        return Scale(factor, self._is_bad)
