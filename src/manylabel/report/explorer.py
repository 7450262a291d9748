"""The numbers behind the threshold explorer: exact counts at a few hundred cuts of each label's scores.

The page's script only looks them up and divides, by the same formulas as `Reading`, so what it shows is what is
computed here. Called by contents.py and render.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.report.inputs import ReportInputs
from manylabel.report.numbers import grouped, percent, threshold_text, whole

CUTS_IN_ALL = 6000
"""Bound of the cuts of all labels together, about 20 bytes each on the page."""
MOST_CUTS, FEWEST_CUTS = 200, 24
PER_ROWS = 10_000


@dataclass(frozen=True, eq=False)
class CutTable:
    """One label: at the rising thresholds `cuts_K` the rows decided positive and the true positives among them."""

    name: str
    annotated: int
    positives: int
    cuts_K: npt.NDArray[np.float64]
    decided_K: npt.NDArray[np.int64]
    hits_K: npt.NDArray[np.int64]
    start: int

    def at(self, index: int) -> Reading:
        """The counts at one cut."""
        decided, hits = int(self.decided_K[index]), int(self.hits_K[index])
        return Reading(
            threshold=float(self.cuts_K[index]),
            true_positives=hits,
            false_positives=decided - hits,
            false_negatives=self.positives - hits,
            true_negatives=self.annotated - self.positives - decided + hits,
        )

    def to_json(self) -> dict[str, object]:
        """What the page's script reads."""
        return {
            "name": self.name,
            "annotated": self.annotated,
            "positives": self.positives,
            "start": self.start,
            "cuts": [float(cut) for cut in self.cuts_K],
            "decided": self.decided_K.tolist(),
            "hits": self.hits_K.tolist(),
        }


@dataclass(frozen=True)
class Reading:
    """Confusion counts of one label at one threshold, and what follows from them."""

    threshold: float
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    def shown(self, cost_of_miss: float = 1.0, cost_of_false_alarm: float = 1.0) -> Mapping[str, str]:
        """Every number as the page shows it, by the name of its place there."""
        rows = sum((self.true_positives, self.false_positives, self.false_negatives, self.true_negatives))
        decided = self.true_positives + self.false_positives
        positives = self.true_positives + self.false_negatives
        cost = self.false_negatives * cost_of_miss + self.false_positives * cost_of_false_alarm
        return {
            "threshold": threshold_text(self.threshold),
            "tp": whole(self.true_positives),
            "fp": whole(self.false_positives),
            "fn": whole(self.false_negatives),
            "tn": whole(self.true_negatives),
            "precision": _ratio(self.true_positives, decided),
            "recall": _ratio(self.true_positives, positives),
            "f1": _ratio(2 * self.true_positives, decided + positives, needs=positives),
            "alerts": grouped(decided * PER_ROWS / rows, 1) if rows else "undefined",
            "cost": grouped(cost * PER_ROWS / rows, 1) if rows else "undefined",
        }


def _ratio(part: int, of: int, needs: int = 1) -> str:
    return percent(part / of) if of and needs else "undefined"


def cut_tables(inputs: ReportInputs, columns: list[int]) -> list[CutTable]:
    """The tables of the labels at `columns`; together at most about 6,000 cuts."""
    most = int(np.clip(CUTS_IN_ALL // max(len(columns), 1), FEWEST_CUTS, MOST_CUTS))
    return [_cut_table(inputs, column, most) for column in columns]


def _cut_table(inputs: ReportInputs, column: int, most: int) -> CutTable:
    """Exact counts: a row counts as decided where its score reaches the cut, as `Thresholds.decide` compares."""
    annotated_N = inputs.annotated_NL[:, column]
    scores_K = inputs.probabilities_NL[annotated_N, column].astype(np.float64)
    positive_K = inputs.targets_NL[annotated_N, column] == 1
    own = float(inputs.thresholds.values_L[column])
    cuts = _cuts(scores_K[positive_K], own, most)
    return CutTable(
        name=inputs.labels[column],
        annotated=len(scores_K),
        positives=int(positive_K.sum()),
        cuts_K=cuts,
        decided_K=_reaching(scores_K, cuts),
        hits_K=_reaching(scores_K[positive_K], cuts),
        start=int(np.searchsorted(cuts, own)),
    )


def _cuts(positive_scores_K: npt.NDArray[np.float64], own: float, most: int) -> npt.NDArray[np.float64]:
    """An even grid, the model's own threshold, and the scores of positive rows, where recall changes.

    Scores are rounded to four significant digits, so that what is copied from the page is short and still exact:
    the counts are those of the rounded cut.
    """
    even = np.round(np.linspace(0.0, 1.0, most // 2 + 1), 4)
    wanted = np.linspace(0.0, 1.0, most - len(even) - 1)
    quantiles = np.quantile(positive_scores_K, wanted) if len(positive_scores_K) else np.zeros(0)
    rounded = [float(f"{quantile:.4g}") for quantile in quantiles]
    return np.unique(np.concatenate([even, [own], rounded]))


def _reaching(scores_K: npt.NDArray[np.float64], cuts: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """How many scores are at or above each cut."""
    counts: npt.NDArray[np.int64] = len(scores_K) - np.searchsorted(np.sort(scores_K), cuts, side="left")
    return counts
