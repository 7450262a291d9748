"""Every figure of an evaluation for many row weights at once; called by `evaluation.intervals` and `.paired`.

A figure is named by a path: ("labels", NAME, METRIC), ("macro", METRIC), ("micro", METRIC), ("weighted", METRIC),
("samples", METRIC) or ("overall", METRIC). With weights of 1 each figure is that of `evaluation.evaluate`; with whole
numbers it is that of the table in which each row stands so often; scikit-learn calls such weights `sample_weight`.
What has no meaning under some weights is NaN there.

How: what is a sum over rows is one matrix product. ROC-AUC and average precision only change where a positive cell
stands, so cells are sorted once, negatives between two positive scores form one segment, and a sparse product gives
the weight of all segments under all weights; doubles hold these sums of whole numbers exactly.

Letters: N rows, L labels, R weight vectors, C cells of a list, K distinct scores of positives, M metrics, B bins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import scipy.sparse

from manylabel.evaluation.proper import LOG_LOSS_MARGIN, reliability
from manylabel.evaluation.ranking import per_row_rankings
from manylabel.values import NOT_ANNOTATED, BoolArray, FloatArray, IntArray

Path = tuple[str, ...]
Doubles = npt.NDArray[np.float64]
MapTasks = Callable[[Callable[[int], Doubles], Iterable[int]], Iterable[Doubles]]

OF_LABELS = ("roc_auc", "average_precision", "precision", "recall", "f1", "brier", "log_loss", "ece")
OF_MICRO = OF_LABELS[:7]
OF_CELLS = ("accuracy", "hamming_loss", "expected_cost")
NUM_SUMS = 6
"""What is summed over a label's cells: positives, decided, true positives, annotated, Brier score, log loss."""


class Figures(Protocol):
    """Any figures of one model under row weights, such as `WeightedFigures`; see there."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The figures' names, in the order of `compute`."""

    @property
    def widest(self) -> int:
        """The most numbers a weight vector takes in one array."""

    def compute(self, weights_NR: Doubles, map_tasks: MapTasks = map) -> Doubles:
        """Figures x R."""


class Ranking:
    """ROC-AUC and average precision of one list of cells, of which any number may belong to one row.

    `targets_C` holds 0 and 1, `scores_C` numbers of which higher is likelier, `rows_C` the row of each cell.
    Equal scores count as scikit-learn counts them: half in ROC-AUC, as one cut in average precision.
    """

    def __init__(self, targets_C: IntArray, scores_C: FloatArray, rows_C: IntArray, num_rows: int) -> None:
        order_C = np.argsort(-scores_C, kind="stable")
        positive_C, sorted_C = targets_C[order_C] == 1, scores_C[order_C]
        rows_C = rows_C[order_C].astype(np.int32)
        tie_C = np.cumsum(np.concatenate([np.zeros(1, np.int64), sorted_C[1:] != sorted_C[:-1]]))[
            : len(order_C)
        ]
        ties_K, cut_of_positive = np.unique(tie_C[positive_C], return_inverse=True)
        ties_of_negatives = tie_C[~positive_C]
        cut_of_negative = np.searchsorted(ties_K, ties_of_negatives)
        tied = np.isin(ties_of_negatives, ties_K)
        self.num_cuts: int = len(ties_K)
        # Negatives below the last positive form one more segment, which only their total needs.
        self._positives = _segments(cut_of_positive, rows_C[positive_C], self.num_cuts, num_rows)
        self._negatives = _segments(cut_of_negative, rows_C[~positive_C], self.num_cuts + 1, num_rows)
        self._tied = (
            _segments(cut_of_negative[tied], rows_C[~positive_C][tied], self.num_cuts, num_rows)
            if tied.any()
            else None
        )

    def measure(self, weights_NR: Doubles) -> tuple[Doubles, Doubles]:
        """ROC-AUC and average precision, R each; NaN where positives or negatives have no weight."""
        positives_KR: Doubles = self._positives @ weights_NR
        negatives_KR: Doubles = self._negatives @ weights_NR
        np.cumsum(negatives_KR, axis=0, out=negatives_KR)
        total_negatives_R, negatives_KR = negatives_KR[-1].copy(), negatives_KR[:-1]
        decided_KR = np.cumsum(positives_KR, axis=0)
        total_positives_R = decided_KR[-1].copy() if self.num_cuts else np.zeros_like(total_negatives_R)
        precision_KR = decided_KR
        with np.errstate(divide="ignore", invalid="ignore"):
            np.divide(decided_KR, decided_KR + negatives_KR, out=precision_KR)
            # Above the first row with weight there is nothing to divide, and nothing counts.
            precision_KR[positives_KR == 0.0] = 0.0
            average_precision_R = np.einsum("kr,kr->r", positives_KR, precision_KR) / total_positives_R
            if self._tied is not None:
                negatives_KR -= 0.5 * (self._tied @ weights_NR)
            above_R = np.einsum("kr,kr->r", positives_KR, negatives_KR)
            roc_auc_R = 1.0 - above_R / (total_positives_R * total_negatives_R)
        average_precision_R[total_negatives_R == 0.0] = np.nan
        return roc_auc_R, average_precision_R


def _segments(
    segment_C: IntArray, rows_C: IntArray, num_segments: int, num_rows: int
) -> scipy.sparse.csr_matrix:
    """The matrix that sums rows' weights segment by segment; `segment_C` never falls."""
    ends = np.cumsum(np.bincount(segment_C, minlength=num_segments))
    starts = np.concatenate([np.zeros(1, np.int64), ends]).astype(np.int32)
    return scipy.sparse.csr_matrix((np.ones(len(rows_C)), rows_C, starts), shape=(num_segments, num_rows))


@dataclass(frozen=True, eq=False)
class Judged:
    """What figures are made of: N rows and L labels, their truth, one model's probabilities and decisions.

    `targets_NL` holds 1, 0 and -1 (not annotated), `probabilities_NL` numbers in [0, 1]. `costs` are those of a
    positive cell that is not decided and of a decided one that is not positive.
    """

    labels: tuple[str, ...]
    targets_NL: IntArray
    probabilities_NL: FloatArray
    decisions_NL: BoolArray
    costs: tuple[float, float] = (1.0, 1.0)

    def select(self, rows: IntArray) -> Judged:
        """The same of some of the rows, in their order."""
        return replace(
            self,
            targets_NL=self.targets_NL[rows],
            probabilities_NL=self.probabilities_NL[rows],
            decisions_NL=self.decisions_NL[rows],
        )


class WeightedFigures:
    """All figures of one model under row weights; `paths` names them in the order of `compute`."""

    def __init__(self, judged: Judged) -> None:
        self._judged = judged
        self._num_rows, self._num_labels = judged.targets_NL.shape
        self._labels = [_Label(judged, column) for column in range(self._num_labels)]
        rows, columns = np.nonzero(judged.targets_NL != NOT_ANNOTATED)
        targets, probabilities = judged.targets_NL[rows, columns], judged.probabilities_NL[rows, columns]
        self._micro = Ranking(targets, probabilities, rows, self._num_rows)
        means = _row_values(judged)
        values_MN = np.stack(list(means.values()))
        self._defined_MN = (~np.isnan(values_MN)).astype(np.float64)
        self._values_MN = np.nan_to_num(values_MN, copy=False)
        self.paths: tuple[Path, ...] = (
            *(("labels", name, metric) for name in judged.labels for metric in OF_LABELS),
            *(("macro", metric) for metric in OF_LABELS),
            *(("weighted", metric) for metric in OF_LABELS),
            *(("micro", metric) for metric in OF_MICRO),
            *(("overall", metric) for metric in OF_CELLS),
            *means,
        )

    @property
    def widest(self) -> int:
        """The most numbers a weight vector takes in one array, for choosing how many to compute at once."""
        widest: int = max(self._num_rows, self._micro.num_cuts)
        return widest

    def compute(self, weights_NR: Doubles, map_tasks: MapTasks = map) -> Doubles:
        """Figures x R; `weights_NR` holds whole numbers from 0 as doubles and is contiguous.

        `map_tasks` may run the labels side by side, as a thread pool's `map` does.
        """
        num_weights = weights_NR.shape[1]
        # The micro average comes first: it takes as long as all labels together.
        micro_MR, *of_labels = map_tasks(
            lambda column: (
                np.stack(self._micro.measure(weights_NR))
                if column < 0
                else self._labels[column].measure(weights_NR)
            ),
            range(-1, self._num_labels),
        )
        both_LMR = np.stack([np.empty((len(OF_LABELS) + NUM_SUMS, num_weights)), *of_labels])[1:]
        metrics_LMR, sums_LMR = both_LMR[:, : len(OF_LABELS)], both_LMR[:, len(OF_LABELS) :]
        supports_LR = sums_LMR[:, 0]
        sums_MR = sums_LMR.sum(axis=0)
        means_MR = quotient(self._values_MN @ weights_NR, self._defined_MN @ weights_NR)
        return np.concatenate(
            [
                metrics_LMR.reshape(-1, num_weights),
                mean_over_labels(metrics_LMR, np.ones_like(supports_LR)),
                mean_over_labels(metrics_LMR, supports_LR),
                micro_MR,
                decision_figures(sums_MR),
                quotient(sums_MR[4:6], sums_MR[3]),
                _of_cells(sums_MR, self._judged.costs),
                means_MR,
            ]
        )


class _Label:
    """The figures of one label's annotated cells."""

    def __init__(self, judged: Judged, column: int) -> None:
        self._judged, self._column = judged, column
        num_rows = len(judged.targets_NL)
        rows = np.flatnonzero(judged.targets_NL[:, column] != NOT_ANNOTATED)
        targets = judged.targets_NL[rows, column]
        probabilities = judged.probabilities_NL[rows, column].astype(np.float64)
        self._ranking = Ranking(targets, probabilities, rows, num_rows)
        # The bins of the whole table: with bins of their own, resamples would differ in what they estimate.
        sizes_B = reliability(targets, probabilities).rows_B
        order = np.argsort(probabilities, kind="stable")
        bins = np.repeat(np.arange(len(sizes_B)), sizes_B)
        self._gaps = _segments(bins, rows[order].astype(np.int32), len(sizes_B), num_rows)
        self._gaps.data = (probabilities - targets)[order]

    def measure(self, weights_NR: Doubles) -> Doubles:
        """The metrics `OF_LABELS` and then the sums, (8 + 6) x R."""
        sums_MR = self._cells() @ weights_NR
        gap_R = np.abs(self._gaps @ weights_NR).sum(axis=0)
        return np.concatenate(
            [
                np.stack(self._ranking.measure(weights_NR)),
                decision_figures(sums_MR),
                quotient(np.stack([*sums_MR[4:6], gap_R]), sums_MR[3]),
                sums_MR,
            ]
        )

    def _cells(self) -> Doubles:
        """What the sums add up, 6 x N; made anew each time, since for all labels at once it is large."""
        judged, column = self._judged, self._column
        targets_N, decisions_N = judged.targets_NL[:, column], judged.decisions_NL[:, column]
        annotated_N, positive_N = targets_N != NOT_ANNOTATED, targets_N == 1
        probabilities_N = judged.probabilities_NL[:, column].astype(np.float64)
        clipped_N = np.clip(probabilities_N, LOG_LOSS_MARGIN, 1.0 - LOG_LOSS_MARGIN)
        losses_N = -np.where(positive_N, np.log(clipped_N), np.log1p(-clipped_N))
        return np.stack(
            [
                positive_N,
                decisions_N & annotated_N,
                decisions_N & positive_N,
                annotated_N,
                np.square(probabilities_N - positive_N) * annotated_N,
                losses_N * annotated_N,
            ]
        ).astype(np.float64, copy=False)


def decision_figures(sums_MR: Doubles) -> Doubles:
    """Precision, recall and F1 (3 x R) from weights of positives, decided and true positives, the first 3 x R.

    As in `evaluation.metrics`: none without positives, no precision where nothing is decided.
    """
    positives_R, decided_R, true_positives_R = sums_MR[:3]
    exists_R = np.where(positives_R > 0.0, 1.0, np.nan)
    return np.stack(
        [
            quotient(true_positives_R, decided_R) * exists_R,
            quotient(true_positives_R, positives_R),
            quotient(2.0 * true_positives_R, positives_R + decided_R) * exists_R,
        ]
    )


def _of_cells(sums_MR: Doubles, costs: tuple[float, float]) -> Doubles:
    """Accuracy, Hamming loss and expected cost."""
    positives_R, decided_R, true_positives_R, annotated_R = sums_MR[:4]
    missed_R, false_alarms_R = positives_R - true_positives_R, decided_R - true_positives_R
    wrong_R = missed_R + false_alarms_R
    cost_R = costs[0] * missed_R + costs[1] * false_alarms_R
    return quotient(np.stack([annotated_R - wrong_R, wrong_R, cost_R]), annotated_R)


def mean_over_labels(metrics_LMR: Doubles, weights_LR: Doubles) -> Doubles:
    """Weighted means over the labels that have a value, M x R."""
    weights_LMR = np.where(np.isnan(metrics_LMR), 0.0, weights_LR[:, None, :])
    return quotient((np.nan_to_num(metrics_LMR) * weights_LMR).sum(axis=0), weights_LMR.sum(axis=0))


def quotient(numerators: Doubles, denominators: Doubles) -> Doubles:
    """The quotient, NaN where the denominator is 0."""
    shape = np.broadcast_shapes(numerators.shape, denominators.shape)
    quotients: Doubles = np.full(shape, np.nan)
    np.divide(numerators, denominators, out=quotients, where=denominators > 0.0)
    return quotients


def _row_values(judged: Judged) -> dict[Path, Doubles]:
    """What is a mean over fully annotated rows, each N long; NaN in rows that a mean leaves out."""
    complete = np.flatnonzero((judged.targets_NL != NOT_ANNOTATED).all(axis=1))
    targets_RL, decisions_RL = judged.targets_NL[complete] == 1, judged.decisions_NL[complete]
    positives_R, decided_R = (table.sum(axis=1).astype(np.float64) for table in (targets_RL, decisions_RL))
    true_positives_R = (targets_RL & decisions_RL).sum(axis=1).astype(np.float64)
    means: dict[Path, Doubles] = {
        ("samples", "precision"): quotient(true_positives_R, decided_R),
        ("samples", "recall"): quotient(true_positives_R, positives_R),
        ("samples", "f1"): quotient(2.0 * true_positives_R, positives_R + decided_R),
        ("overall", "subset_accuracy"): (targets_RL == decisions_RL).all(axis=1).astype(np.float64),
    }
    for metric, values_R in per_row_rankings(
        judged.targets_NL[complete], judged.probabilities_NL[complete]
    ).items():
        # One label cannot be ranked against others.
        means["overall", metric] = values_R if targets_RL.shape[1] > 1 else np.full(len(complete), np.nan)
    return {path: _spread(values_R, complete, len(judged.targets_NL)) for path, values_R in means.items()}


def _spread(values_R: Doubles, rows_R: IntArray, num_rows: int) -> Doubles:
    values_N = np.full(num_rows, np.nan)
    values_N[rows_R] = values_R
    return values_N
