"""Thresholds with a guarantee on new rows, or the reason why there is none; called by abstain and recipes.

Three guarantees. All of them hold for new rows that are exchangeable with the calibration rows (the last one: drawn
independently from the same source), for a model that did not learn from the calibration rows, whatever the quality of
its probabilities. None holds for rows of another source, another time, or a subgroup.

`control_misses`, one label: P(a new positive row is missed) <= alpha.
    Split conformal prediction on the positive rows, which is conformal risk control with the 0-1 loss. The threshold
    is the k-th lowest score of the n positives, k = floor(alpha (n + 1)); fewer than 1 / alpha - 1 positives allow
    nothing. The probability is over both the draw of the calibration rows and the new row: with one calibration set
    the share missed may lie above alpha, in the mean over sets it does not. It is about positive rows as they are
    annotated, and says nothing of false alarms.
`control_missed_share`, one threshold for all labels: E[share of a new row's labels that is missed] <= alpha.
    Conformal risk control (Angelopoulos, Bates, Fisch, Lei, Schuster 2022, arXiv 2208.02814, theorem 1) with a loss
    in [0, 1]: the highest threshold whose losses satisfy (sum + 1) / (n + 1) <= alpha. A row without any label has
    nothing to miss: its loss is 0, and it counts as a row. Where most rows carry no label this makes the mean small
    at any threshold; `labelled_only` takes the mean over rows with a label instead, and is then about such rows.
`certify_precision`, one label: with probability 1 - delta, precision on new rows >= p at the threshold.
    Learn then Test (Angelopoulos, Bates, Candès, Jordan, Lei 2021, arXiv 2110.01052). Thresholds of a grid that is
    fixed in advance are tested from high to low, each with the exact binomial p-value of 'the precision is below p'
    on the rows it decides. The error budget delta is shared evenly by NUM_STARTS places of the sequence, and a
    rejection hands its level on to the next threshold (the fallback procedure of Wiens 2003), so the chance that any
    of the rejections is wrong is at most delta. The lowest rejected threshold is returned. The probability is over
    the draw of the calibration rows: of 100 calibration sets at most 100 delta give a threshold that breaks the
    promise. It holds for each label by itself; for all of L labels at once ask for delta / L.

Cells that are not annotated (-1) are left out: the guarantees are about annotated ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.decisions.binomial import chance_of_at_least
from manylabel.values import BoolArray, FloatArray, IntArray

GRID_STEP = 0.05
"""Of the log-odds, in which the grid is even: 21 thresholds between 0.73 and 0.5."""
GRID_ABOVE, GRID_BELOW = 3.0, 9.0
"""The grid reaches from this far above the log-odds of p to this far below: for p = 0.9 from 0.994 to 0.001."""
NUM_STARTS = 7
"""A start at each whole unit of log-odds from 2 above p to 4 below.

Calibrated probabilities have precision p at a threshold below p; starts above are for a model too sure of itself,
those far below for rare labels, whose probabilities are low.
"""
ROUNDING = 1e-9
"""Slack of the comparison with alpha (n + 1), so that alpha = 0.1 and n = 9 are not undone by the last bit."""


@dataclass(frozen=True)
class Controlled:
    """A threshold with its guarantee, or None and the reason; `risk` is what it risks on the calibration rows.

    `rows` counts the calibration rows that the guarantee rests on. `risk` is the share missed, or 1 - precision.
    """

    threshold: float | None
    reason: str | None
    rows: int
    risk: float | None

    def __post_init__(self) -> None:
        if (self.threshold is None) != (self.reason is not None):
            raise ValueError("there is either a threshold or a reason")


def control_misses(targets_N: IntArray, probabilities_N: FloatArray, *, alpha: float) -> Controlled:
    """The highest threshold at which a new positive row of this label is missed with probability at most `alpha`.

    `targets_N` holds 1, 0 and -1, `probabilities_N` numbers in [0, 1], alpha is between 0 and 1; see the module.
    """
    scores_P = probabilities_N[targets_N == 1].astype(np.float64)
    return _highest_threshold(scores_P, np.ones(len(scores_P)), len(scores_P), alpha, "positive row")


def control_missed_share(
    targets_NL: IntArray, probabilities_NL: FloatArray, *, alpha: float, labelled_only: bool = False
) -> Controlled:
    """The highest threshold for all labels at which a new row's share of missed labels is at most `alpha` in the mean.

    Rows with nothing annotated are left out; rows without any label count with loss 0, unless `labelled_only`.
    """
    positive_NL = targets_NL == 1
    labels_N = positive_NL.sum(axis=1)
    counted_N = labels_N > 0 if labelled_only else (targets_NL >= 0).any(axis=1)
    shares_NL = np.broadcast_to(1.0 / np.maximum(labels_N, 1)[:, None], targets_NL.shape)
    kind = "row with a label" if labelled_only else "row"
    scores_P = probabilities_NL[positive_NL].astype(np.float64)
    return _highest_threshold(scores_P, shares_NL[positive_NL], int(counted_N.sum()), alpha, kind)


def _highest_threshold(
    scores_P: npt.NDArray[np.float64],
    losses_P: npt.NDArray[np.float64],
    rows: int,
    alpha: float,
    kind: str,
) -> Controlled:
    """Conformal risk control where missing positive cell p costs `losses_P[p]` of its row's loss, at most 1 a row.

    Losses rise with the threshold and jump just above scores, so the highest threshold is a score, or 1 where even
    missing every score below 1 is within the budget.
    """
    _check_probability("alpha", alpha)
    budget = alpha * (rows + 1) - 1.0 + ROUNDING
    if budget < 0.0 or not len(scores_P):
        needed = max(math.ceil(1.0 / alpha - 1.0 - ROUNDING), 1)
        found = rows if len(scores_P) else 0
        return Controlled(
            None, f"{found} {_several(kind)}, at least {needed} needed for {alpha:g}", found, None
        )
    order = np.argsort(scores_P, kind="stable")
    rising_P = np.append(scores_P[order], 1.0)
    lost_P = np.concatenate([[0.0], np.cumsum(losses_P[order])])
    # A threshold at a score misses all lower ones, and none of its equals.
    lost_P = lost_P[np.searchsorted(rising_P, rising_P, side="left")]
    within = np.flatnonzero(lost_P <= budget)[-1]
    return Controlled(float(rising_P[within]), None, rows, float(lost_P[within] / rows))


def _several(kind: str) -> str:
    return kind.replace("row", "rows", 1)


def certify_precision(
    targets_N: IntArray, probabilities_N: FloatArray, *, precision: float, delta: float
) -> Controlled:
    """The lowest threshold whose precision on new rows is at least `precision` with confidence 1 - `delta`.

    `targets_N` holds 1, 0 and -1, `probabilities_N` numbers in [0, 1]; both settings are between 0 and 1.
    """
    _check_probability("precision", precision)
    _check_probability("delta", delta)
    annotated_N = targets_N >= 0
    positives_K = targets_N[annotated_N] == 1
    scores_K = probabilities_N[annotated_N].astype(np.float64)
    thresholds_C, starts_C = _grid(precision)
    decided_C, hits_C = _counts(positives_K, scores_K, thresholds_C)
    p_values_C = chance_of_at_least(hits_C, decided_C, precision)
    certified = _last_rejected(p_values_C, starts_C, delta)
    if certified is None:
        return Controlled(None, _why_not(decided_C, precision, delta), len(scores_K), None)
    risk = 1.0 - float(hits_C[certified] / decided_C[certified])
    return Controlled(float(thresholds_C[certified]), None, len(scores_K), risk)


def _grid(precision: float) -> tuple[npt.NDArray[np.float64], BoolArray]:
    """Thresholds from high to low and which of them are starts; both depend on nothing but `precision`."""
    middle = math.log(precision / (1.0 - precision))
    steps = np.arange(round((GRID_ABOVE + GRID_BELOW) / GRID_STEP) + 1)
    log_odds_C = middle + GRID_ABOVE - GRID_STEP * steps
    per_unit = round(1.0 / GRID_STEP)
    starts_C = np.isin(steps, per_unit * (1 + np.arange(NUM_STARTS)))
    return 1.0 / (1.0 + np.exp(-log_odds_C)), starts_C


def _counts(
    positives_K: BoolArray, scores_K: npt.NDArray[np.float64], thresholds_C: npt.NDArray[np.float64]
) -> tuple[IntArray, IntArray]:
    """Rows at or above each threshold, and how many of them are positive."""
    order = np.argsort(scores_K, kind="stable")
    below_C = np.searchsorted(scores_K[order], thresholds_C, side="left")
    positives_below_K1 = np.concatenate([[0], np.cumsum(positives_K[order], dtype=np.int64)])
    return len(scores_K) - below_C, positives_below_K1[-1] - positives_below_K1[below_C]


def _last_rejected(p_values_C: npt.NDArray[np.float64], starts_C: BoolArray, delta: float) -> int | None:
    """The fallback procedure along the sequence; the last hypothesis it rejects."""
    share, level, last = delta / int(starts_C.sum()), 0.0, None
    for index, (p_value, is_start) in enumerate(zip(p_values_C, starts_C, strict=True)):
        level += share if is_start else 0.0
        if p_value <= level and level > 0.0:
            last = index
        else:
            level = 0.0
    return last


def _why_not(decided_C: IntArray, precision: float, delta: float) -> str:
    needed = math.ceil(math.log(delta / NUM_STARTS) / math.log(precision))
    most = int(decided_C.max())
    if most < needed:
        return (
            f"at most {most} rows are decided, at least {needed} without an error are needed "
            f"for {precision:g} with confidence {1.0 - delta:g}"
        )
    return f"no threshold has precision {precision:g} with confidence {1.0 - delta:g} on these rows"


def _check_probability(name: str, value: float) -> None:
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name} must be between 0 and 1")
