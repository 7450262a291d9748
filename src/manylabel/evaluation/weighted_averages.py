"""Macro figures and micro F1 under row weights, and how they change from one judgement of the rows to another.

For many judgements of the same rows, as in recipes/robustness.py: `evaluation.weighted` computes every figure, this a
few of them for a fraction of the time. The judgements are paired: all are computed under the same weights.

Letters: N rows, L labels, R weight vectors, M metrics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from manylabel.config.schema import EvaluationSettings
from manylabel.evaluation.intervals import Interval, intervals_from, why_none
from manylabel.evaluation.resampling import make_resampler
from manylabel.evaluation.spread import sample, spread_of
from manylabel.evaluation.weighted import (
    Doubles,
    Judged,
    MapTasks,
    Path,
    Ranking,
    decision_figures,
    mean_over_labels,
)
from manylabel.values import NOT_ANNOTATED

METRICS = ("roc_auc", "average_precision", "f1")
NOT_DRAWN = "no resamples were drawn"


class WeightedAverages:
    """ROC-AUC, average precision and F1 of each label, their macro averages, and micro F1; see `weighted.Figures`."""

    def __init__(self, judged: Judged) -> None:
        self._num_rows, num_labels = judged.targets_NL.shape
        self._labels = [_label(judged, column) for column in range(num_labels)]
        self.paths: tuple[Path, ...] = (
            *(("labels", name, metric) for name in judged.labels for metric in METRICS),
            *(("macro", metric) for metric in METRICS),
            ("micro", "f1"),
        )

    @property
    def widest(self) -> int:
        """N: no array of a weight vector is longer."""
        rows: int = self._num_rows
        return rows

    def compute(self, weights_NR: Doubles, map_tasks: MapTasks = map) -> Doubles:
        """Figures x R; `weights_NR` holds whole numbers from 0 as doubles and is contiguous."""

        def measure(column: int) -> Doubles:
            ranking, cells_3N = self._labels[column]
            sums_3R = cells_3N @ weights_NR
            return np.stack([*ranking.measure(weights_NR), decision_figures(sums_3R)[2], *sums_3R])

        both_LMR = np.stack([*map_tasks(measure, range(len(self._labels)))])
        metrics_LMR, sums_LMR = both_LMR[:, : len(METRICS)], both_LMR[:, len(METRICS) :]
        return np.concatenate(
            [
                metrics_LMR.reshape(-1, weights_NR.shape[1]),
                mean_over_labels(metrics_LMR, np.ones_like(sums_LMR[:, 0])),
                decision_figures(sums_LMR.sum(axis=0))[2:],
            ]
        )


def _label(judged: Judged, column: int) -> tuple[Ranking, Doubles]:
    """What one label's figures are made from; the cells are positive, decided, and both, 3 x N."""
    targets_N, decisions_N = judged.targets_NL[:, column], judged.decisions_NL[:, column]
    rows = np.flatnonzero(targets_N != NOT_ANNOTATED)
    ranking = Ranking(targets_N[rows], judged.probabilities_NL[rows, column], rows, len(targets_N))
    positive_N = targets_N == 1
    cells = [positive_N, decisions_N & (targets_N != NOT_ANNOTATED), decisions_N & positive_N]
    return ranking, np.stack(cells).astype(np.float64)


def changes_from(
    first: Judged, others: Sequence[Judged], *, groups_N: Sequence[str] | None, settings: EvaluationSettings
) -> list[dict[Path, Interval]]:
    """The difference of each other judgement's macro figures and micro F1 to the first one's, by path, with intervals.

    All are of the same rows and labels. `groups_N` are drawn as a whole where they are given. `Interval.value` is the
    difference, None where one of the two is undefined.
    """
    resampler = make_resampler(first.targets_NL, groups_N, seed=settings.seed)
    models = [WeightedAverages(each) for each in (first, *others)]
    of_first, *of_others = sample(models, resampler, settings.resamples)
    found = []
    for each in of_others:
        change = each.minus(of_first)
        if settings.resamples:
            spread = spread_of(change, resampler)
            intervals = intervals_from(spread, why_none(spread, resampler), settings.confidence)
        else:
            values = zip(change.paths, change.value_F.tolist(), strict=True)
            intervals = {
                path: Interval(None if math.isnan(value) else value, None, None, None, 0, NOT_DRAWN)
                for path, value in values
            }
        found.append({path: interval for path, interval in intervals.items() if path[0] != "labels"})
    return found
