"""Every way to cut the scores of one label into yes and no; called by thresholds, goals and abstain.

A *cut* decides the k highest scores positive; rows with equal scores are never separated. Its threshold is the
midpoint between the lowest score decided positive and the next lower distinct score (0 below the lowest, 1 above the
highest). Where no number lies between the two it is the higher score itself, so the threshold always decides exactly
the rows of its cut. C counts cuts, K the annotated cells of a label.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.errors import counted
from manylabel.values import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Cuts:
    """C cuts, highest threshold first; cut c decides `decided_C[c]` rows, `true_positives_C[c]` of them positive.

    The first one decides nothing, unless a score is 1: no threshold up to 1 leaves that out.
    """

    thresholds_C: npt.NDArray[np.float64]
    decided_C: npt.NDArray[np.int64]
    true_positives_C: npt.NDArray[np.int64]
    rows: int
    positives: int

    @property
    def precision_C(self) -> npt.NDArray[np.float64]:
        """Share of the decided rows that are positive; 0 where nothing is decided."""
        return self.true_positives_C / np.maximum(self.decided_C, 1)

    @property
    def false_positives_C(self) -> npt.NDArray[np.int64]:
        """Decided rows that are not positive."""
        return self.decided_C - self.true_positives_C

    @property
    def missed_C(self) -> npt.NDArray[np.int64]:
        """Positive rows that are not decided."""
        return self.positives - self.true_positives_C

    def f_beta_C(self, beta: float) -> npt.NDArray[np.float64]:
        """(1 + b²) TP / (b² positives + decided): precision and recall, recall counting b times as much.

        Needs a positive row. Equal fractions of integers give equal quotients in IEEE arithmetic, so cuts of equal F1
        are found exactly.
        """
        square = beta * beta
        quotients: npt.NDArray[np.float64] = (
            (1.0 + square) * self.true_positives_C / (square * self.positives + self.decided_C)
        )
        return quotients

    def nearest(self, best_C: BoolArray, default: float) -> int:
        """Of the marked cuts the one whose threshold is nearest to `default`, then the higher threshold."""
        marked = np.flatnonzero(best_C)
        return int(marked[np.abs(self.thresholds_C[marked] - default).argmin()])


def all_cuts(positives_K: BoolArray, scores_K: npt.NDArray[np.float64]) -> Cuts:
    """The cuts of K rows, at least one row, with scores in [0, 1]."""
    order = np.argsort(-scores_K, kind="stable")
    thresholds_C, decided_C = cut_points(scores_K[order])
    running_K1 = np.concatenate([[0], np.cumsum(positives_K[order], dtype=np.int64)])
    return Cuts(thresholds_C, decided_C, running_K1[decided_C], len(scores_K), int(running_K1[-1]))


def cut_points(
    falling_K: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Thresholds and numbers of decided rows of the cuts of scores in falling order."""
    last_of_ties = np.append(np.flatnonzero(falling_K[1:] != falling_K[:-1]), len(falling_K) - 1)
    distinct = falling_K[last_of_ties]
    decided_C = np.concatenate([[0], last_of_ties + 1]).astype(np.int64)
    thresholds_C = between(np.append(distinct, 0.0), np.concatenate([[1.0], distinct]))
    first = 1 if distinct[0] == 1.0 else 0
    return thresholds_C[first:], decided_C[first:]


def between(lower: npt.NDArray[np.float64], higher: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The midpoints; the higher number where rounding leaves nothing between the two."""
    middle = lower + (higher - lower) / 2.0
    return np.where(middle > lower, middle, higher)


def check_rows(targets_NL: IntArray, probabilities_NL: FloatArray, labels: Sequence[str]) -> None:
    """Raise ValueError when the shapes disagree, or a probability of an annotated cell is outside [0, 1] or NaN."""
    if targets_NL.shape != probabilities_NL.shape or targets_NL.shape[1:] != (len(labels),):
        raise ValueError(f"targets {targets_NL.shape} and probabilities {probabilities_NL.shape} disagree")
    inside_NL = (probabilities_NL >= 0.0) & (probabilities_NL <= 1.0)
    if not (inside_NL | (targets_NL < 0)).all():
        raise ValueError("probabilities must be finite and in [0, 1]")


def annotated_columns(
    targets_NL: IntArray, probabilities_NL: FloatArray
) -> Iterator[tuple[BoolArray, npt.NDArray[np.float64]]]:
    """For each label its annotated cells: whether they are positive, and their scores in double precision."""
    for column in range(targets_NL.shape[1]):
        annotated_N = targets_NL[:, column] >= 0
        yield targets_NL[annotated_N, column] == 1, probabilities_NL[annotated_N, column].astype(np.float64)


def why_unjudged(num_positives: int, num_rows: int, min_positives: int) -> str | None:
    """Why a threshold cannot be chosen on these rows, or None where it can: it needs as many negatives as positives."""
    needed = max(min_positives, 1)
    if num_positives < needed:
        return f"{counted(num_positives, 'positive row')}, at least {needed} needed"
    num_negatives = num_rows - num_positives
    if num_negatives < needed:
        return f"{counted(num_negatives, 'negative row')}, at least {needed} needed"
    return None
