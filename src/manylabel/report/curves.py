"""Points of curves, bins and histograms, from one label's targets and scores; drawn by charts.py.

K annotated rows of one label, or cells of all labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.report.numbers import wilson
from manylabel.values import BoolArray, FloatArray

MAX_POINTS = 96
RELIABILITY_BINS = 10
SCORE_BINS = 20
Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows with scores in one of ten equal ranges: their mean score and the share of them that is positive."""

    rows: int
    mean_score: float
    share: float
    low: float
    high: float


def ranking_curves(positive_K: BoolArray, scores_K: FloatArray) -> tuple[Points, Points] | None:
    """Points [P, 2] of the precision-recall curve (recall, precision) and the ROC curve (false, true positive rate).

    One point a distinct score, thinned to about 100; None where one class is missing.
    """
    positives = int(positive_K.sum())
    negatives = len(positive_K) - positives
    if not positives or not negatives:
        return None
    order = np.argsort(-scores_K, kind="stable")
    sorted_K = scores_K[order]
    last = np.append(np.flatnonzero(sorted_K[1:] != sorted_K[:-1]), len(sorted_K) - 1)
    hits, decided = np.cumsum(positive_K[order])[last], last + 1
    recall, precision = hits / positives, hits / decided
    false_rate = (decided - hits) / negatives
    of_precision = np.column_stack([np.append(0.0, recall), np.append(precision[0], precision)])
    of_rates = np.column_stack([np.append(0.0, false_rate), np.append(0.0, recall)])
    return thinned(of_precision), thinned(of_rates)


def thinned(points: Points) -> Points:
    """At most about 100 points: half evenly along the first axis, half evenly along the curve's length."""
    if len(points) <= MAX_POINTS:
        return points
    steps = np.abs(np.diff(points, axis=0))
    wanted = np.linspace(0.0, 1.0, MAX_POINTS // 2)
    kept = [np.array([0, len(points) - 1])]
    for moved in (steps[:, 0], steps.sum(axis=1)):
        along = np.append(0.0, np.cumsum(moved))
        kept.append(np.searchsorted(along, wanted * along[-1]).clip(0, len(points) - 1))
    few: Points = points[np.unique(np.concatenate(kept))]
    return few


def reliability(positive_K: BoolArray, scores_K: FloatArray) -> list[ReliabilityBin]:
    """The bins that hold rows, of ten equal ranges of the score, with Wilson's 95 % interval of the share."""
    index_K = np.minimum((scores_K * RELIABILITY_BINS).astype(np.int64), RELIABILITY_BINS - 1)
    rows = np.bincount(index_K, minlength=RELIABILITY_BINS)
    hits = np.bincount(index_K, weights=positive_K, minlength=RELIABILITY_BINS).astype(np.int64)
    sums = np.bincount(index_K, weights=scores_K, minlength=RELIABILITY_BINS)
    bins = []
    for held, found, total in zip(rows.tolist(), hits.tolist(), sums.tolist(), strict=True):
        interval = wilson(found, held)
        if interval is not None:
            bins.append(ReliabilityBin(held, total / held, found / held, *interval))
    return bins


def score_counts(positive_K: BoolArray, scores_K: FloatArray) -> tuple[list[int], list[int]]:
    """How many positive and how many negative rows have scores in each of 20 equal ranges."""
    index_K = np.minimum((scores_K * SCORE_BINS).astype(np.int64), SCORE_BINS - 1)
    return (
        np.bincount(index_K[positive_K], minlength=SCORE_BINS).tolist(),
        np.bincount(index_K[~positive_K], minlength=SCORE_BINS).tolist(),
    )
