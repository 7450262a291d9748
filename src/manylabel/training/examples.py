"""What the loop learns from, as it sees it: examples that are the same or drawn anew each epoch; called by the loop.

`LabelledTexts` are texts with labels, the same every epoch; `pretraining_examples` masks tokens anew. Whatever an epoch
changes is a function of its number, so a run that goes on from a checkpoint meets the same batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from manylabel.text.pack import pack
from manylabel.values import Batch, Encodings, FloatArray, IntArray

Indices = npt.NDArray[np.int64]


class Epoch(Protocol):
    """The N examples as one epoch shows them."""

    @property
    def lengths_N(self) -> npt.NDArray[np.int64]:
        """Tokens of each example, special tokens included."""
        ...

    def batch(self, indices: Indices) -> Batch:
        """The examples at `indices`, packed in that order."""
        ...

    def targets(self, indices: Indices) -> Any:  # noqa: ANN401 - only the objective looks inside
        """What the objective wants to know of them, on the CPU, with a method `to(device)` as a tensor has."""
        ...


class Examples(Protocol):
    """N examples, of which every epoch visits each once; `ids` name them in messages."""

    @property
    def ids(self) -> tuple[str, ...]:
        """One name an example."""
        ...

    def __len__(self) -> int:
        """N, the same in every epoch."""
        ...

    def epoch(self, epoch: int) -> Epoch:
        """The examples of an epoch (from 0): a function of its number."""
        ...


@dataclass(frozen=True, eq=False)
class LabelledTexts:
    """Encodings of N texts, their targets and ids: the same every epoch.

    `targets_NL` is an integer array with 1, 0 and -1 (not annotated), or float32 with soft targets from 0 to 1 and -1.
    """

    encodings: Encodings
    targets_NL: IntArray | FloatArray
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.encodings)

    @property
    def lengths_N(self) -> npt.NDArray[np.int64]:
        """Tokens of each text, special tokens included."""
        return self.encodings.lengths_N

    def epoch(self, epoch: int) -> LabelledTexts:
        """Itself."""
        return self

    def batch(self, indices: Indices) -> Batch:
        """The texts at `indices`, packed in that order."""
        return pack(self.encodings, indices)

    def targets(self, indices: Indices) -> Tensor:
        """targets_BL."""
        return torch.from_numpy(self.targets_NL[indices])
