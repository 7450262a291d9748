"""A batch of packed texts as tensors, with its attention plan; made from `values.Batch` by training and inference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from manylabel.modeling.attention import AttentionPlan, plan_attention
from manylabel.modeling.transfer import send
from manylabel.values import Batch


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """B texts as T tokens without padding, all int64 on one device.

    `positions_T` counts from 0 in every text, `texts_T` is the text each token belongs to, `starts_B1[b]` is where
    text b begins and the last entry is T.
    """

    ids_T: Tensor
    segments_T: Tensor
    positions_T: Tensor
    texts_T: Tensor
    starts_B1: Tensor
    plan: AttentionPlan

    @property
    def num_texts(self) -> int:
        """B."""
        return len(self.starts_B1) - 1

    @property
    def num_tokens(self) -> int:
        """T."""
        return len(self.ids_T)

    @property
    def firsts_B(self) -> Tensor:
        """Row of the first token of each text."""
        return self.starts_B1[:-1]

    @property
    def lengths_B(self) -> Tensor:
        """Tokens of each text."""
        return self.starts_B1.diff()


def to_device(batch: Batch, device: torch.device | str) -> PackedBatch:
    """The batch on `device`; raises ValueError for a batch without texts or with a text without tokens."""
    target = torch.device(device)
    lengths_B = batch.lengths_B
    if not len(lengths_B) or lengths_B.min() < 1:
        raise ValueError("a batch needs at least one text and every text at least one token")
    texts_T = np.repeat(np.arange(batch.num_texts), lengths_B)

    def move(array: np.typing.NDArray[np.int64]) -> Tensor:
        return send(torch.tensor(array, dtype=torch.int64), target)

    return PackedBatch(
        ids_T=move(batch.ids_T),
        segments_T=move(batch.segments_T),
        positions_T=move(batch.positions_T),
        texts_T=move(texts_T),
        starts_B1=move(batch.starts_B1),
        plan=plan_attention(lengths_B, target),
    )
