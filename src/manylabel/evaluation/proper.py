"""Whether probabilities mean what they say, and what decisions cost; called by `evaluate` and by the report.

Targets are 1 and 0 (rows with -1 are left out before) of any one label; probabilities lie in [0, 1] and are
computed with in float64. Brier score, log loss and calibration error need an annotated row, not two classes:
a model that gives 0.01 to a label that never occurs is a calibrated one.

The bins of the calibration error hold equally many rows (adaptive bins: Nixon et al. 2019, "Measuring
Calibration in Deep Learning"), and the error is the mean gap weighted by rows (Naeini, Cooper and Hauskrecht
2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning", there with bins of equal width). Bins of
equal width would put nearly all rows of a rare label into the first.

The rule, exact and free of the order of rows: of K rows in rising order, row i (from 0) belongs to bin
`floor(B i / K)`. Rows of equal probability stay together, in the bin of their mean position, so that bins may
differ in size and some may be missing. B is the number asked for, and less where a bin would have fewer than
`MIN_ROWS_PER_BIN` rows. Like every binned estimate it is biased upwards on few rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.evaluation.metrics import NOTHING_ANNOTATED, Counts, Measured
from manylabel.values import FloatArray, IntArray

NUM_BINS = 15
"""As usual since Guo et al. 2017, "On Calibration of Modern Neural Networks"."""
MIN_ROWS_PER_BIN = 5
LOG_LOSS_MARGIN = float(np.finfo(np.float64).eps)
"""2.2e-16, as scikit-learn for float64: log loss takes probabilities as at least this far from 0 and 1."""


def brier(targets_K: IntArray, probabilities_K: FloatArray) -> Measured:
    """Mean squared difference of probability and outcome, in [0, 1], 0 is best."""
    if not targets_K.size:
        return Measured(None, NOTHING_ANNOTATED)
    return Measured(float(np.mean(np.square(probabilities_K.astype(np.float64) - targets_K))))


def log_loss(targets_K: IntArray, probabilities_K: FloatArray) -> Measured:
    """Mean of -ln of the probability given to what happened, in [0, 36.05], 0 is best.

    Probabilities are clipped to [eps, 1 - eps] with eps = `LOG_LOSS_MARGIN`, so a certain error costs 36.04.
    """
    if not targets_K.size:
        return Measured(None, NOTHING_ANNOTATED)
    clipped_K = np.clip(probabilities_K.astype(np.float64), LOG_LOSS_MARGIN, 1.0 - LOG_LOSS_MARGIN)
    logarithms_K = np.where(targets_K == 1, np.log(clipped_K), np.log1p(-clipped_K))
    return Measured(float(-np.mean(logarithms_K)))


@dataclass(frozen=True, eq=False)
class Reliability:
    """The bins of a reliability diagram in rising order of probability; B bins, none of them empty.

    `probability_B` and `positive_share_B` are means over the bin's rows, in [0, 1]; `rows_B` counts them.
    """

    probability_B: npt.NDArray[np.float64]
    positive_share_B: npt.NDArray[np.float64]
    rows_B: npt.NDArray[np.int64]


def reliability(targets_K: IntArray, probabilities_K: FloatArray, *, num_bins: int = NUM_BINS) -> Reliability:
    """Mean probability and share of positives in bins of equally many rows; no bins without rows.

    Raises:
        ValueError: `num_bins` is below 1.

    """
    order_K = np.argsort(probabilities_K)
    sorted_K = probabilities_K[order_K].astype(np.float64)
    bins_K = _bins_of_sorted(sorted_K, num_bins)
    starts_B = np.flatnonzero(np.diff(bins_K, prepend=-1))
    if not len(starts_B):
        return Reliability(np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int64))
    rows_B = np.diff(starts_B, append=len(sorted_K))
    positives_B = np.add.reduceat((targets_K[order_K] == 1).astype(np.int64), starts_B)
    probability_B = np.add.reduceat(sorted_K, starts_B) / rows_B
    return Reliability(probability_B, positives_B / rows_B, rows_B)


def equal_mass_bins(probabilities_K: FloatArray, num_bins: int = NUM_BINS) -> npt.NDArray[np.int64]:
    """The bin of each row by the module's rule, rising with probability from 0; some numbers may not occur.

    Raises:
        ValueError: `num_bins` is below 1.

    """
    order_K = np.argsort(probabilities_K)
    bins_K = np.empty(len(order_K), dtype=np.int64)
    bins_K[order_K] = _bins_of_sorted(probabilities_K[order_K], num_bins)
    return bins_K


def _bins_of_sorted(sorted_K: FloatArray, num_bins: int) -> npt.NDArray[np.int64]:
    if num_bins < 1:
        raise ValueError(f"the number of bins is {num_bins}, allowed are 1 and more")
    num_rows = len(sorted_K)
    used = max(1, min(num_bins, num_rows // MIN_ROWS_PER_BIN))
    first_K = np.searchsorted(sorted_K, sorted_K, side="left")
    last_K = np.searchsorted(sorted_K, sorted_K, side="right") - 1
    # Twice the mean position of equal rows, so that all numbers are whole and the floor is exact.
    bins_K: npt.NDArray[np.int64] = used * (first_K + last_K) // (2 * max(num_rows, 1))
    return bins_K


def expected_calibration_error(
    targets_K: IntArray, probabilities_K: FloatArray, *, num_bins: int = NUM_BINS
) -> Measured:
    """Mean over rows of the gap between mean probability and share of positives in the row's bin, in [0, 1]."""
    if not targets_K.size:
        return Measured(None, NOTHING_ANNOTATED)
    bins = reliability(targets_K, probabilities_K, num_bins=num_bins)
    gap_B = np.abs(bins.probability_B - bins.positive_share_B)
    return Measured(float(np.sum(gap_B * bins.rows_B) / targets_K.size))


def expected_cost(counts: Counts, cost_false_negative: float, cost_false_positive: float) -> Measured:
    """Cost of the wrong decisions per annotated cell, in the costs' unit; with costs of 1 the Hamming loss."""
    if not counts.annotated:
        return Measured(None, NOTHING_ANNOTATED)
    missed = counts.positives - counts.true_positives
    false_alarms = counts.decided - counts.true_positives
    return Measured((cost_false_negative * missed + cost_false_positive * false_alarms) / counts.annotated)
