"""Fits of one calibration map to the targets and logits of one label; called by `calibration_fit`.

Temperature, Platt and beta minimise the log loss with Platt's targets: with P positive and Q negative rows they are
`(P + 1) / (P + 2)` for a positive and `1 / (Q + 2)` for a negative row instead of 1 and 0 (Platt 1999, sec. 2.2). The
optimum is then finite even where a threshold separates the classes perfectly.

Isotonic pools adjacent violators (rows with equal logits first) and puts a knot at each block: the mean logit and the
share of positives of its rows. Lines between the knots keep rows of one block apart, where steps would tie them. Only
the lowest block can have no positive row and only the highest no negative one; they count half a row of the absent
class among one row more (Krichevsky and Trofimov 1981), but stay below, or above, the next block. So no probability is
0 or 1 and the log loss of new rows stays finite.

A fit that would not rise is None: the order of the logits then says nothing that a rising map can use. Their size can
still be far from the truth; `flattest` mends that.

The log loss of one row grows with its logit without bound, so a single absurd logit can flatten a fit or turn it
around. Temperature, Platt and beta are therefore fitted to logits clipped to +-`ORDINARY`, or to `OUTLYING` times the
95th percentile of their sizes where that is more: of a normal distribution no row in 100 million is clipped.

Legend: N rows, F features of a fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

from manylabel.decisions.calibration import (
    Beta,
    Floats,
    Identity,
    Isotonic,
    LabelMap,
    Platt,
    Temperature,
    sigmoid,
    softplus,
    within_limit,
)
from manylabel.values import BoolArray, FloatArray

SLOPES = (1e-3, 1e6)
"""A slope outside is refused: the map would be flat, or its logits differ by rounding alone."""
FLAT_SLOPE = SLOPES[0]
"""Slope of an almost flat map: ten units of logit move the odds by 1 %, yet neighbouring logits stay apart."""
FLAT_REACH = 10.0
"""An almost flat isotonic map rises this far to both sides of the median logit."""
ORDINARY = 30.0
OUTLYING = 3.0
RIDGE = 1e-9
"""Weight of half the squared coefficients (features in standard units) beside the mean log loss.

It moves an estimate by about a billionth, and keeps Newton's equations solvable where features coincide.
"""
MAX_STEPS = 100
MAX_HALVINGS = 40
DECREMENT = 1e-14
"""Newton stops when another step would lower the mean log loss by less than half of this."""


def fit_temperature(positives_N: BoolArray, logits_N: FloatArray) -> Temperature | None:
    """The slope of least log loss through logit 0, or None where it does not rise."""
    logits = _without_outliers(logits_N)
    scale = _scale(logits)
    (slope,) = _least_log_loss((logits / scale)[None], platt_targets(positives_N)) / scale
    return Temperature(float(slope)) if _rises(slope) else None


def fit_platt(positives_N: BoolArray, logits_N: FloatArray) -> Platt | None:
    """The line of least log loss, or None where it does not rise."""
    (slope,), intercept, _ = _fit_affine(_without_outliers(logits_N)[None], platt_targets(positives_N))
    return Platt(float(slope), intercept) if _rises(slope) else None


def fit_beta(positives_N: BoolArray, logits_N: FloatArray) -> Beta | None:
    """The beta map of least log loss with rises at least 0, or None where neither rise is above 0.

    The loss is convex: where the free optimum breaks a bound, the best is on a bound, so with one rise alone.
    """
    logits, targets_N = _without_outliers(logits_N), platt_targets(positives_N)
    features_FN = np.stack([-softplus(-logits), softplus(logits)])
    (low, high), intercept, _ = _fit_affine(features_FN, targets_N)
    if low >= 0.0 and high >= 0.0:
        return Beta(float(low), float(high), intercept) if _rises(max(low, high)) else None
    found = []
    for kept in (0, 1):
        (rise,), intercept, loss = _fit_affine(features_FN[kept : kept + 1], targets_N)
        if _rises(rise):
            found.append((loss, (float(rise), 0.0) if kept == 0 else (0.0, float(rise)), intercept))
    if not found:
        return None
    _, rises, intercept = min(found)
    return Beta(*rises, intercept)


def fit_isotonic(positives_N: BoolArray, logits_N: FloatArray) -> Isotonic | None:
    """Rising straight lines between pooled blocks, or None where all rows fall into one block."""
    logits = within_limit(logits_N)
    order = np.argsort(logits, kind="stable")
    sorted_N = logits[order]
    starts = np.flatnonzero(np.append(True, sorted_N[1:] != sorted_N[:-1]))
    positives = np.add.reduceat(positives_N[order].astype(np.float64), starts)
    rows = np.diff(np.append(starts, len(sorted_N))).astype(np.float64)
    blocks = isotonic_regression(positives / rows, weights=rows).blocks[:-1]
    if len(blocks) < 2:
        return None
    positives, rows = np.add.reduceat(positives, blocks), np.add.reduceat(rows, blocks)
    first = starts[blocks]
    last = np.append(first[1:], len(sorted_N)) - 1
    # The mean of equal numbers can round to beside them; the order of the blocks must not hang on that.
    means = np.add.reduceat(sorted_N, first) / rows
    centres = np.clip(means, sorted_N[first], sorted_N[last])
    values = _away_from_certainty(positives, rows)
    return Isotonic(tuple(centres.tolist()), tuple(values.tolist()))


def _away_from_certainty(positives: Floats, rows: Floats) -> Floats:
    values = positives / rows
    if positives[0] == 0.0:
        values[0] = min(0.5 / (rows[0] + 1.0), values[1])
    if positives[-1] == rows[-1]:
        values[-1] = max(1.0 - 0.5 / (rows[-1] + 1.0), values[-2])
    return values


FITTERS: Mapping[str, Callable[[BoolArray, FloatArray], LabelMap | None]] = {
    "none": lambda positives_N, logits_N: Identity(),
    "temperature": fit_temperature,
    "platt": fit_platt,
    "beta": fit_beta,
    "isotonic": fit_isotonic,
}
"""Method -> fit of N positives (true or false) and logits; the simpler first. Needs both classes."""


def flattest(method: str, positives_N: BoolArray, logits_N: FloatArray) -> LabelMap:
    """The almost flat map of a method, for rows to which no map of it that rises can be fitted.

    At the median logit it gives `(P + 1/2) / (N + 1)` for P positive of N rows (Krichevsky and Trofimov 1981);
    temperature, which has no intercept, gives about 1/2 everywhere.
    """
    if method == "none":
        return Identity()
    if method == "temperature":
        return Temperature(FLAT_SLOPE)
    positives = np.count_nonzero(positives_N) + 0.5
    middle = float(np.median(within_limit(logits_N)))
    level = float(np.log(positives / (len(positives_N) + 1.0 - positives)))
    line = Platt(FLAT_SLOPE, level - FLAT_SLOPE * middle)
    if method == "beta":
        return Beta(line.slope, line.slope, line.intercept)
    if method == "isotonic":
        knots = np.array([middle - FLAT_REACH, middle + FLAT_REACH])
        return Isotonic(tuple(knots.tolist()), tuple(line.apply(knots).tolist()))
    return line


def platt_targets(positives_N: BoolArray) -> Floats:
    """Targets a little inside 0 and 1, by Platt's formula in the module's docstring."""
    num_positives = int(np.count_nonzero(positives_N))
    num_negatives = len(positives_N) - num_positives
    return np.where(positives_N, (num_positives + 1) / (num_positives + 2), 1 / (num_negatives + 2))


def _rises(slope: float) -> bool:
    return bool(SLOPES[0] <= slope <= SLOPES[1])


def _without_outliers(logits_N: FloatArray) -> Floats:
    logits = within_limit(logits_N)
    # An order statistic, not an interpolated one, which a single outlier among few rows would move.
    common = float(np.quantile(np.abs(logits), 0.95, method="lower"))
    limit = max(ORDINARY, OUTLYING * common)
    return np.clip(logits, -limit, limit)


def _scale(values: Floats) -> float:
    """Root mean square, or 1 where that is nothing."""
    root = float(np.sqrt(np.mean(values**2)))
    return root if root > 1e-100 else 1.0


def _fit_affine(features_FN: Floats, targets_N: Floats) -> tuple[Floats, float, float]:
    """Coefficients F, intercept and mean log loss at the optimum, found in standard units."""
    means_F = features_FN.mean(axis=1)
    centred_FN = features_FN - means_F[:, None]
    scales_F = np.array([_scale(row) for row in centred_FN])
    design = np.concatenate([centred_FN / scales_F[:, None], np.ones((1, len(targets_N)))])
    weights = _least_log_loss(design, targets_N)
    coefficients_F = weights[:-1] / scales_F
    loss, _ = _log_loss(weights @ design, targets_N)
    return coefficients_F, float(weights[-1] - coefficients_F @ means_F), loss


def _least_log_loss(design_FN: Floats, targets_N: Floats) -> Floats:
    """Newton's method with halved steps on a convex loss; starts from 0."""
    weights_F = np.zeros(len(design_FN))
    ridge_FF = RIDGE * np.eye(len(design_FN))
    loss, probabilities_N = _log_loss(weights_F @ design_FN, targets_N)
    for _ in range(MAX_STEPS):
        gradient_F = design_FN @ (probabilities_N - targets_N) / len(targets_N) + ridge_FF @ weights_F
        spread_N = probabilities_N * (1.0 - probabilities_N)
        curvature_FF = (design_FN * spread_N) @ design_FN.T / len(targets_N) + ridge_FF
        step_F = np.linalg.solve(curvature_FF, gradient_F)
        if gradient_F @ step_F < DECREMENT:
            break
        for _ in range(MAX_HALVINGS):
            trial_F = weights_F - step_F
            trial_loss, trial_N = _log_loss(trial_F @ design_FN, targets_N)
            if trial_loss <= loss:
                break
            step_F = step_F / 2.0
        else:
            break
        weights_F, loss, probabilities_N = trial_F, trial_loss, trial_N
    return weights_F


def _log_loss(scores_N: Floats, targets_N: Floats) -> tuple[float, npt.NDArray[np.float64]]:
    """Mean log loss of scores before the logistic function, and their probabilities."""
    return float(np.mean(softplus(scores_N) - targets_N * scores_N)), sigmoid(scores_N)
