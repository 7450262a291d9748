"""Which texts go through the encoder together: plans by tokens, never by texts.

Called by the training loop and the predictor. Numpy only; no loop over single texts.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


def plan_batches(lengths_N: Indices, token_budget: int) -> list[Indices]:
    """Indices of all texts, longest first, in batches of at most `token_budget` tokens.

    A text longer than the budget gets a batch of its own. Texts of similar length meet, so attention has
    next to nothing to pad. The plan depends on the lengths alone.
    """
    order = np.argsort(-lengths_N, kind="stable").astype(np.int64)
    ends_N = np.cumsum(lengths_N[order])
    batches: list[Indices] = []
    start = 0
    while start < len(order):
        consumed = ends_N[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends_N, consumed + token_budget, side="right")), start + 1)
        batches.append(order[start:stop])
        start = stop
    return batches


def epoch_order(num_texts: int, *, seed: int, epoch: int) -> Indices:
    """The order in which epoch `epoch` (from 0) visits the texts: each exactly once, a function of both numbers."""
    return np.random.default_rng([seed, epoch]).permutation(num_texts).astype(np.int64)


def epoch_batches(num_texts: int, *, batch_size: int, seed: int, epoch: int) -> list[Indices]:
    """The texts of an epoch in batches of `batch_size`; the last may be smaller."""
    order = epoch_order(num_texts, seed=seed, epoch=epoch)
    return [order[start : start + batch_size] for start in range(0, num_texts, batch_size)]


def split_batch(indices: Indices, lengths_N: Indices, token_budget: int) -> list[Indices]:
    """One optimizer batch as micro-batches of at most `token_budget` tokens each."""
    return [indices[part] for part in plan_batches(lengths_N[indices], token_budget)]
