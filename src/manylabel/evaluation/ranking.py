"""How well a row's labels are ranked by their probabilities, row by row; called by `evaluate` and by resampling.

Every function takes R fully annotated rows (targets 1 and 0, no -1) of L labels and gives one float64 a row, so
that a mean over any choice of rows costs no second ranking. Labels of equal probability are tied exactly and
the order of the columns never matters:

- coverage, ranking loss and LRAP count a tied label as ranked above, as scikit-learn does;
- precision, recall and nDCG at k are expectations over all orders of tied labels, as scikit-learn's
  `ndcg_score` takes them: a label with g labels strictly above it, in a tie of t, is among the first k with
  chance (k - g) / t, cut to [0, 1].

A row without a label has coverage 0, ranking loss 0 and LRAP 1, and one with all labels loss 0 and LRAP 1
(scikit-learn's values, which its means include). Such a row has no precision, recall or nDCG at k: nothing
could be found, so it is NaN and left out of the mean, as retrieval leaves out queries without an answer.

Letters: C rows of one chunk, R rows, L labels, P labels that a row carries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel.evaluation.metrics import (
    NO_COMPLETE_ROW,
    NO_POSITIVES,
    ONE_LABEL,
    Measured,
    row_chunks,
)
from manylabel.values import FloatArray, IntArray

Rows = npt.NDArray[np.float64]
CUTS = (1, 3, 5)
"""The k of precision, recall and nDCG at k; those above the number of labels are left out."""


@dataclass(frozen=True, eq=False)
class _Ranked:
    """C rows with their labels in falling order of probability; C x L each, `num_positives_C` one a row.

    `above_CL` counts labels of strictly higher probability, `reached_CL` those at least as high (the label
    itself among them), `reached_positives_CL` the row's own labels among these.
    """

    positives_CL: npt.NDArray[np.bool_]
    above_CL: npt.NDArray[np.int64]
    reached_CL: npt.NDArray[np.int64]
    reached_positives_CL: npt.NDArray[np.int64]
    num_positives_C: npt.NDArray[np.int64]


Score = Callable[[_Ranked], Rows]


def per_row_coverage(targets_RL: IntArray, probabilities_RL: FloatArray) -> Rows:
    """How many labels, from the highest probability down, must be taken to have all of the row's, in [0, L]."""
    return _each(targets_RL, probabilities_RL, _coverage)


def per_row_ranking_loss(targets_RL: IntArray, probabilities_RL: FloatArray) -> Rows:
    """Share of a row's (label, non-label) pairs in the wrong order or tied, in [0, 1], 0 is best."""
    return _each(targets_RL, probabilities_RL, _ranking_loss)


def per_row_lrap(targets_RL: IntArray, probabilities_RL: FloatArray) -> Rows:
    """Mean over a row's labels of the share of right ones among the labels ranked as high, in (0, 1]."""
    return _each(targets_RL, probabilities_RL, _lrap)


def per_row_precision_at(targets_RL: IntArray, probabilities_RL: FloatArray, k: int) -> Rows:
    """Share of the k highest labels that the row carries, in [0, 1]; NaN for a row without a label.

    Raises:
        ValueError: k is not in 1 to L, for this and the other functions at k.

    """
    return _each(targets_RL, probabilities_RL, partial(_precision_at, k=_cut(k, targets_RL)))


def per_row_recall_at(targets_RL: IntArray, probabilities_RL: FloatArray, k: int) -> Rows:
    """Share of the row's labels among the k highest, in [0, 1]; NaN for a row without a label."""
    return _each(targets_RL, probabilities_RL, partial(_recall_at, k=_cut(k, targets_RL)))


def per_row_ndcg_at(targets_RL: IntArray, probabilities_RL: FloatArray, k: int) -> Rows:
    """Normalised discounted cumulative gain of the k highest, in [0, 1]; NaN for a row without a label.

    A label of the row at rank r gains 1 / log2(r + 1); divided by the most that the row could have
    (Jarvelin and Kekalainen 2002, with gains 0 and 1).
    """
    return _each(targets_RL, probabilities_RL, partial(_ndcg_at, k=_cut(k, targets_RL)))


def per_row_rankings(targets_RL: IntArray, probabilities_RL: FloatArray) -> dict[str, Rows]:
    """All of the above by metric name, from one ranking of each row; the cuts are those of `CUTS` up to L."""
    return _per_row(targets_RL, probabilities_RL, _scores(targets_RL.shape[1]))


def mean_of_rows(values_R: Rows) -> Measured:
    """Mean over the rows that have a value (are not NaN)."""
    if not len(values_R):
        return Measured(None, NO_COMPLETE_ROW)
    defined_R = ~np.isnan(values_R)
    if not defined_R.any():
        return Measured(None, NO_POSITIVES)
    return Measured(float(values_R[defined_R].mean()))


def ranking_means(targets_RL: IntArray, probabilities_RL: FloatArray) -> dict[str, Measured]:
    """The mean of each metric of `per_row_rankings`; undefined without rows and with fewer than two labels."""
    num_labels = targets_RL.shape[1]
    if num_labels < 2:
        return dict.fromkeys(_scores(num_labels), Measured(None, ONE_LABEL))
    return {
        name: mean_of_rows(values_R)
        for name, values_R in per_row_rankings(targets_RL, probabilities_RL).items()
    }


def _scores(num_labels: int) -> dict[str, Score]:
    scores: dict[str, Score] = {
        "ranking_loss": _ranking_loss,
        "lrap": _lrap,
        "coverage_error": _coverage,
    }
    for name, at in (("precision", _precision_at), ("recall", _recall_at), ("ndcg", _ndcg_at)):
        scores |= {f"{name}_at_{k}": partial(at, k=k) for k in CUTS if k <= num_labels}
    return scores


def _cut(k: int, targets_RL: IntArray) -> int:
    if not 1 <= k <= targets_RL.shape[1]:
        raise ValueError(f"k is {k}, allowed are 1 to {targets_RL.shape[1]}, the number of labels")
    return k


def _each(targets_RL: IntArray, probabilities_RL: FloatArray, score: Score) -> Rows:
    return _per_row(targets_RL, probabilities_RL, {"": score})[""]


def _per_row(
    targets_RL: IntArray, probabilities_RL: FloatArray, scores: Mapping[str, Score]
) -> dict[str, Rows]:
    """Chunks of rows bound the memory beyond the result to about ten numbers a cell of one chunk."""
    if targets_RL.shape != probabilities_RL.shape:
        raise ValueError(f"targets {targets_RL.shape} and probabilities {probabilities_RL.shape} disagree")
    result = {name: np.empty(len(targets_RL), dtype=np.float64) for name in scores}
    for rows in row_chunks(*targets_RL.shape):
        ranked = _rank(targets_RL[rows], probabilities_RL[rows])
        for name, score in scores.items():
            result[name][rows] = score(ranked)
    return result


def _rank(targets_CL: IntArray, probabilities_CL: FloatArray) -> _Ranked:
    num_rows, num_labels = targets_CL.shape
    order_CL = np.argsort(-probabilities_CL, axis=1)
    sorted_CL = np.take_along_axis(probabilities_CL, order_CL, axis=1)
    positives_CL = np.take_along_axis(targets_CL, order_CL, axis=1) == 1
    begins_CL = np.ones((num_rows, num_labels + 1), dtype=np.bool_)
    begins_CL[:, 1:-1] = sorted_CL[:, 1:] != sorted_CL[:, :-1]
    position_L = np.arange(num_labels)
    above_CL = np.maximum.accumulate(np.where(begins_CL[:, :-1], position_L, 0), axis=1)
    ends_CL = np.where(begins_CL[:, 1:], position_L + 1, num_labels)
    reached_CL = np.minimum.accumulate(ends_CL[:, ::-1], axis=1)[:, ::-1]
    so_far_CL = np.cumsum(positives_CL, axis=1, dtype=np.int64)
    return _Ranked(
        positives_CL=positives_CL,
        above_CL=above_CL,
        reached_CL=reached_CL,
        reached_positives_CL=np.take_along_axis(so_far_CL, reached_CL - 1, axis=1),
        num_positives_C=so_far_CL[:, -1] if num_labels else np.zeros(num_rows, dtype=np.int64),
    )


def _coverage(ranked: _Ranked) -> Rows:
    reached_C: Rows = np.max(ranked.reached_CL * ranked.positives_CL, axis=1, initial=0).astype(np.float64)
    return reached_C


def _ranking_loss(ranked: _Ranked) -> Rows:
    num_labels = ranked.positives_CL.shape[1]
    wrong_CL = ranked.reached_CL - ranked.reached_positives_CL
    wrong_C = np.sum(wrong_CL * ranked.positives_CL, axis=1)
    pairs_C = ranked.num_positives_C * (num_labels - ranked.num_positives_C)
    return _quotient(wrong_C, pairs_C, otherwise=0.0)


def _lrap(ranked: _Ranked) -> Rows:
    share_CL = ranked.reached_positives_CL / ranked.reached_CL
    sum_C = np.sum(share_CL * ranked.positives_CL, axis=1)
    return _quotient(sum_C, ranked.num_positives_C, otherwise=1.0)


def _hits(ranked: _Ranked, k: int) -> Rows:
    """Expected number of the row's labels among the first k."""
    chance_CL = np.clip((k - ranked.above_CL) / (ranked.reached_CL - ranked.above_CL), 0.0, 1.0)
    hits_C: Rows = np.sum(chance_CL * ranked.positives_CL, axis=1)
    return hits_C


def _precision_at(ranked: _Ranked, k: int) -> Rows:
    precision_C: Rows = np.where(ranked.num_positives_C > 0, _hits(ranked, k) / k, np.nan)
    return precision_C


def _recall_at(ranked: _Ranked, k: int) -> Rows:
    return _quotient(_hits(ranked, k), ranked.num_positives_C, otherwise=np.nan)


def _ndcg_at(ranked: _Ranked, k: int) -> Rows:
    # gained_K1[r] is what the first r ranks may gain; a tie gains the mean over the ranks that it fills.
    gained_K1 = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))])
    to_CL, from_CL = np.minimum(ranked.reached_CL, k), np.minimum(ranked.above_CL, k)
    gain_CL = (gained_K1[to_CL] - gained_K1[from_CL]) / (ranked.reached_CL - ranked.above_CL)
    gain_C = np.sum(gain_CL * ranked.positives_CL, axis=1)
    most_C = gained_K1[np.minimum(ranked.num_positives_C, k)]
    # A perfect ranking may exceed 1 by a rounding error.
    return np.minimum(_quotient(gain_C, most_C, otherwise=np.nan), 1.0)


def _quotient(parts_C: npt.NDArray[Any], wholes_C: npt.NDArray[Any], *, otherwise: float) -> Rows:
    """Parts by wholes, `otherwise` where the whole is 0."""
    quotient_C: Rows = np.full(len(parts_C), otherwise, dtype=np.float64)
    np.divide(parts_C, wholes_C, out=quotient_C, where=wholes_C > 0)
    return quotient_C
