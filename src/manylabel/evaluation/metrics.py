"""Metrics as pure functions of targets, probabilities and decisions; called by `evaluate`.

Targets are 1, 0 and -1 (not annotated); a cell with -1 counts nowhere. scikit-learn computes ROC-AUC and average
precision; precision, recall, F1 and the shares of cells and rows are quotients of exact counts. The macro mean
of average precision is what is elsewhere called mean average precision (mAP). Rankings of a row's labels are in
`ranking`, calibration and cost in `proper`.

A metric without a meaning on the given rows has no value and a reason instead, never 0 and never NaN:

- ROC-AUC and average precision need a positive and a negative row (with one class nothing is ranked);
- recall and F1 need a positive row; F1 is 0 where positives exist and none is decided;
- precision needs a positive row and a row decided positive;
- metrics over whole rows need a row with all labels annotated; the ranking metrics also need two labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

from manylabel.values import BoolArray, FloatArray, IntArray

NOTHING_ANNOTATED = "nothing is annotated"
NO_POSITIVES = "no positive rows"
NO_NEGATIVES = "no negative rows"
NOTHING_DECIDED = "nothing is decided positive"
NO_COMPLETE_ROW = "no row has all labels annotated"
ONE_LABEL = "one label cannot be ranked against others"
CELLS_PER_CHUNK = 2**20


@dataclass(frozen=True)
class Measured:
    """A value, or None and the reason why there is none."""

    value: float | None
    reason: str | None = None

    def __post_init__(self) -> None:
        if (self.value is None) != (self.reason is not None):
            raise ValueError("a measurement has either a value or a reason")


@dataclass(frozen=True)
class Counts:
    """Annotated cells, and how many of them are positive, decided positive, and both."""

    annotated: int
    positives: int
    decided: int
    true_positives: int

    @property
    def wrong(self) -> int:
        """Positive cells not decided plus decided cells not positive."""
        return self.positives + self.decided - 2 * self.true_positives


def count(targets_K: IntArray, decisions_K: BoolArray) -> Counts:
    """Counts of targets of any shape (-1 left out) with decisions of the same shape."""
    positive_K = targets_K == 1
    return Counts(
        annotated=int(np.count_nonzero(targets_K >= 0)),
        positives=int(np.count_nonzero(positive_K)),
        decided=int(np.count_nonzero(decisions_K & (targets_K >= 0))),
        true_positives=int(np.count_nonzero(decisions_K & positive_K)),
    )


def precision(counts: Counts) -> Measured:
    """Share of the cells decided positive that are positive, in [0, 1]."""
    missing = _why_no_positives(counts) or (None if counts.decided else NOTHING_DECIDED)
    return Measured(None, missing) if missing else Measured(counts.true_positives / counts.decided)


def recall(counts: Counts) -> Measured:
    """Share of the positive cells that are decided positive, in [0, 1]."""
    missing = _why_no_positives(counts)
    return Measured(None, missing) if missing else Measured(counts.true_positives / counts.positives)


def f1(counts: Counts) -> Measured:
    """2 TP / (positives + decided), in [0, 1]: the harmonic mean of precision and recall."""
    missing = _why_no_positives(counts)
    if missing:
        return Measured(None, missing)
    return Measured(2 * counts.true_positives / (counts.positives + counts.decided))


def _why_no_positives(counts: Counts) -> str | None:
    if not counts.annotated:
        return NOTHING_ANNOTATED
    return None if counts.positives else NO_POSITIVES


def roc_auc(targets_K: IntArray, probabilities_K: FloatArray) -> Measured:
    """Chance that a positive cell scores above a negative one (ties count half); targets hold no -1."""
    missing = _why_no_ranking(targets_K)
    return Measured(None, missing) if missing else Measured(float(roc_auc_score(targets_K, probabilities_K)))


def average_precision(targets_K: IntArray, probabilities_K: FloatArray) -> Measured:
    """Sum over score cuts of precision x gain in recall, in (0, 1]; targets hold no -1."""
    missing = _why_no_ranking(targets_K)
    if missing:
        return Measured(None, missing)
    return Measured(float(average_precision_score(targets_K, probabilities_K)))


def _why_no_ranking(targets_K: IntArray) -> str | None:
    if not targets_K.size:
        return NOTHING_ANNOTATED
    if targets_K.max() == 0:
        return NO_POSITIVES
    return NO_NEGATIVES if targets_K.min() == 1 else None


def mean_of_defined(measured: Sequence[Measured], weights: Sequence[int] | None = None) -> Measured:
    """Mean over the values that exist, weighted where `weights` are given; the others are left out."""
    pairs = [
        (each.value, weight)
        for each, weight in zip(measured, weights or [1] * len(measured), strict=True)
        if each.value is not None and weight > 0
    ]
    if not pairs:
        return Measured(None, "undefined for every label")
    values, kept_weights = zip(*pairs, strict=True)
    return Measured(float(np.average(values, weights=kept_weights)))


@dataclass(frozen=True)
class SampleAverages:
    """Means over fully annotated rows, and how many of these rows each mean leaves out."""

    precision: Measured
    recall: Measured
    f1: Measured
    undefined_precision: int
    undefined_recall: int
    undefined_f1: int


def sample_averages(targets_RL: IntArray, decisions_RL: BoolArray) -> SampleAverages:
    """Precision, recall and F1 of each row's label set, averaged over the rows where they have a meaning.

    R fully annotated rows. A row has no precision when nothing is decided, no recall when it carries no
    label, and no F1 when both hold: scikit-learn's `average="samples"` with `zero_division=nan`.
    """
    positives_R = np.count_nonzero(targets_RL == 1, axis=1)
    decided_R = np.count_nonzero(decisions_RL, axis=1)
    true_positives_R = np.count_nonzero(decisions_RL & (targets_RL == 1), axis=1)
    precision_mean, precision_left_out = _mean_quotient(true_positives_R, decided_R, NOTHING_DECIDED)
    recall_mean, recall_left_out = _mean_quotient(true_positives_R, positives_R, NO_POSITIVES)
    f1_mean, f1_left_out = _mean_quotient(
        2 * true_positives_R, positives_R + decided_R, f"{NO_POSITIVES} and {NOTHING_DECIDED}"
    )
    return SampleAverages(
        precision_mean, recall_mean, f1_mean, precision_left_out, recall_left_out, f1_left_out
    )


def _mean_quotient(
    numerators_R: npt.NDArray[np.integer], denominators_R: npt.NDArray[np.integer], reason: str
) -> tuple[Measured, int]:
    defined_R = denominators_R > 0
    left_out = int(np.count_nonzero(~defined_R))
    if left_out == len(denominators_R):
        return Measured(None, reason if left_out else NO_COMPLETE_ROW), left_out
    quotients = numerators_R[defined_R] / denominators_R[defined_R]
    return Measured(float(quotients.mean())), left_out


def accuracy(targets_NL: IntArray, decisions_NL: BoolArray) -> Measured:
    """Share of annotated text-label cells that are decided rightly, in [0, 1]; 1 minus the Hamming loss."""
    counts = count(targets_NL, decisions_NL)
    if not counts.annotated:
        return Measured(None, NOTHING_ANNOTATED)
    return Measured((counts.annotated - counts.wrong) / counts.annotated)


def hamming_loss(targets_NL: IntArray, decisions_NL: BoolArray) -> Measured:
    """Share of annotated text-label cells that are decided wrongly, in [0, 1]."""
    counts = count(targets_NL, decisions_NL)
    if not counts.annotated:
        return Measured(None, NOTHING_ANNOTATED)
    return Measured(counts.wrong / counts.annotated)


def subset_accuracy(targets_RL: IntArray, decisions_RL: BoolArray) -> Measured:
    """Share of fully annotated rows with every label decided rightly, in [0, 1]."""
    if not len(targets_RL):
        return Measured(None, NO_COMPLETE_ROW)
    return Measured(float(((targets_RL == 1) == decisions_RL).all(axis=1).mean()))


def row_chunks(num_rows: int, num_labels: int) -> Iterator[slice]:
    """Slices that cover all rows, each of at most `CELLS_PER_CHUNK` cells or one row."""
    step = max(CELLS_PER_CHUNK // max(num_labels, 1), 1)
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))
