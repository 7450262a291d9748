"""Fits and formulas of the four blends; called by `blend`, which says what each kind is.

Letters: C components, N rows, L labels, P knots of all rank curves together, S curves plus one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from manylabel.values import BoolArray, IntArray

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.floating]

LIMIT = 60.0
"""Largest size of a logit: a probability of 1e-26 is as good as none, and infinity times a weight of 0 is no number."""
MAX_KNOTS, MIN_KNOTS, MAX_NUMBERS = 1001, 101, 200_000
"""Knots of one curve at most; fewer where all curves together would have more than `MAX_NUMBERS`."""
CLOSEST_PLACE = 1e-12
MAX_SELECTIONS, PATIENCE = 40, 4
MIN_GAIN = 1e-7
OWN_WEIGHTS_FROM = 100
"""Positive and negative rows from which a label has greedy weights of its own; the others share one set, chosen by the
macro average precision, as a handful of positives can prefer any weights by chance."""
JUDGED_FROM = 5
STACKED_FROM = 20
"""Positive and negative rows from which a label's stacking weights are fitted; below, all components weigh the same."""
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
INNER_FOLDS = 5
MAX_STEPS, MAX_HALVINGS, DECREMENT = 50, 30, 1e-12
MOST_ROWS = 50_000
"""Rows of a label on which greedy weights and the penalty of stacking are chosen; see `_sampled`. With 8 components,
160,000 rows and 6 labels a greedy fit took 0.6 s on 20,000 rows and 8.9 s on all, a stacked one 1.5 s and 39.6 s."""


def mixed(logits_CNL: Numbers, weights_CL: Floats) -> Floats:
    """The logit of the weighted mean of probabilities, N x L; exact also where a probability rounds to 0 or 1."""
    yes_NL = np.full(logits_CNL.shape[1:], -np.inf)
    no_NL = yes_NL.copy()
    for logits_NL, weights_L in zip(logits_CNL, weights_CL, strict=True):
        with np.errstate(divide="ignore"):
            log_weights_L = np.log(weights_L)
        wide_NL = logits_NL.astype(np.float64)
        yes_NL = np.logaddexp(yes_NL, log_weights_L - np.logaddexp(0.0, -wide_NL))
        no_NL = np.logaddexp(no_NL, log_weights_L - np.logaddexp(0.0, wide_NL))
    return np.asarray(yes_NL - no_NL)


def rank_knots(logits_CNL: Numbers) -> tuple[npt.NDArray[np.float32], Floats, npt.NDArray[np.int64]]:
    """Knots, their places and where each curve starts: the distribution of each component's logits of each label.

    The place of a value is the share of rows below it plus half the share of rows equal to it. Of more distinct values
    than fit, half the knots are spread evenly and half towards both ends, where the few rows of a rare label lie.
    """
    num_components, _, num_labels = logits_CNL.shape
    most = max(MIN_KNOTS, min(MAX_KNOTS, MAX_NUMBERS // (num_components * num_labels)))
    knots: list[npt.NDArray[np.float32]] = []
    places: list[Floats] = []
    for logits_NL in logits_CNL:
        for logits_N in logits_NL.T.astype(np.float32):
            values, counts = np.unique(logits_N, return_counts=True)
            middles = (np.cumsum(counts) - counts / 2) / len(logits_N)
            kept = _spread(len(values), most)
            knots.append(values[kept])
            places.append(middles[kept])
    starts = np.cumsum([0, *map(len, knots)], dtype=np.int64)
    return np.concatenate(knots), np.concatenate(places), starts


def _spread(count: int, most: int) -> npt.NDArray[np.int64]:
    """Indices of at most `most` of `count` values in order, the first and the last among them."""
    if count <= most:
        return np.arange(count)
    even = np.linspace(0.0, 1.0, most // 2)
    to_the_ends = expit(np.linspace(-np.log(count), np.log(count), most - most // 2))
    return np.unique(np.rint(np.concatenate([even, to_the_ends]) * (count - 1)).astype(np.int64))


def placed(
    logits_CNL: Numbers, knots_P: Numbers, places_P: Floats, *, starts: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """The logit of the mean place, N x L. Lines join the knots; beyond the ends the odds go on as the logit does."""
    num_components, num_rows, num_labels = logits_CNL.shape
    mean_NL = np.zeros((num_rows, num_labels))
    for curve in range(num_components * num_labels):
        component, label = divmod(curve, num_labels)
        own = slice(starts[curve], starts[curve + 1])
        x_N = logits_CNL[component, :, label].astype(np.float64)
        knots, places = knots_P[own].astype(np.float64), places_P[own]
        place_N = np.interp(x_N, knots, places)
        below_N, above_N = x_N < knots[0], x_N > knots[-1]
        place_N[below_N] = places[0] * np.exp(x_N[below_N] - knots[0])
        place_N[above_N] = 1.0 - (1.0 - places[-1]) * np.exp(knots[-1] - x_N[above_N])
        mean_NL[:, label] += place_N / num_components
    blended_NL: npt.NDArray[np.float32] = logit(np.clip(mean_NL, CLOSEST_PLACE, 1.0 - CLOSEST_PLACE)).astype(
        np.float32
    )
    return blended_NL


@dataclass(frozen=True, eq=False)
class _Rows:
    """n rows of a label, in order, which are positive, and how many rows each positive and each negative stands for."""

    rows_n: npt.NDArray[np.int64]
    positives_n: BoolArray
    positive_counts: float = 1.0
    negative_counts: float = 1.0

    @property
    def counts_n(self) -> Floats:
        """How many rows each row stands for."""
        return np.where(self.positives_n, self.positive_counts, self.negative_counts)


def _sampled(rows_N: npt.NDArray[np.int64], positives_N: BoolArray, seed: int) -> _Rows:
    """All rows of a label, or of more than `MOST_ROWS` so many: the rarer class whole, or half of what is kept.

    What is left out of a class is made up for by the weight of the rest, so that averages over a class stay unbiased.
    Average precision is no such average: with few positives it comes out a little high, for all weights alike.
    """
    if len(rows_N) <= MOST_ROWS:
        return _Rows(rows_N, positives_N)
    generator = np.random.default_rng(seed)
    classes = [np.flatnonzero(positives_N), np.flatnonzero(~positives_N)]
    rarer = min(*map(len, classes), MOST_ROWS // 2)
    sizes = [rarer, MOST_ROWS - rarer] if len(classes[0]) <= len(classes[1]) else [MOST_ROWS - rarer, rarer]
    kept = [generator.choice(each, size, replace=False) for each, size in zip(classes, sizes, strict=True)]
    places = np.sort(np.concatenate(kept))
    counts = [len(each) / size if size else 1.0 for each, size in zip(classes, sizes, strict=True)]
    return _Rows(rows_N[places], positives_N[places], *counts)


def average_precision(scores_N: Numbers, positives_N: BoolArray, negative_counts: float = 1.0) -> float:
    """Average precision of one label, ties at one place; 0 without a positive row.

    The mean, over the positive rows, of the precision at that row's score: the same number as scikit-learn's, from two
    sorts without indices, which are several times faster. A negative row counts as so many positive ones.
    """
    positive, negative = np.sort(scores_N[positives_N]), np.sort(scores_N[~positives_N])
    if not len(positive):
        return 0.0
    hits = len(positive) - np.searchsorted(positive, positive, side="left")
    false_alarms = negative_counts * (len(negative) - np.searchsorted(negative, positive, side="left"))
    return float(np.mean(hits / (hits + false_alarms)))


def greedy_weights(logits_CNL: Numbers, targets_NL: IntArray, *, seed: int) -> Floats:
    """Weights of probabilities, C x L, by greedy selection with replacement (Caruana et al. 2004, section 2).

    Again and again the component is added to the mean that raises average precision most; the best mean on the way is
    kept. The first choice is the best component, so the result is not worse than that on these rows. One set of weights
    for the macro average precision; a label with enough rows takes its own set where that is better on it. Of more than
    `MOST_ROWS` rows a sample is looked at, which `seed` draws.
    """
    num_components, _, num_labels = logits_CNL.shape
    rarer_L = np.minimum((targets_NL == 1).sum(axis=0), (targets_NL == 0).sum(axis=0))
    judged = np.flatnonzero(rarer_L >= JUDGED_FROM)
    judged = judged if len(judged) else np.flatnonzero(rarer_L >= 1)
    tables = {label: _table(logits_CNL, targets_NL, label, seed) for label in map(int, judged)}
    shared_C = _selected(list(tables.values()), num_components)[0]
    weights_CL = np.repeat(shared_C[:, None], num_labels, axis=1)
    for label, table in tables.items():
        if rarer_L[label] >= OWN_WEIGHTS_FROM and num_components > 1:
            own_C, reached = _selected([table], num_components)
            if reached > table.judge(shared_C @ table.probabilities_Cn) + MIN_GAIN:
                weights_CL[:, label] = own_C
    return weights_CL


@dataclass(frozen=True, eq=False)
class _Table:
    """The components' probabilities of n rows of a label, and the rows."""

    probabilities_Cn: npt.NDArray[np.float32]
    rows: _Rows

    def judge(self, scores_n: Numbers) -> float:
        """Average precision of scores of these rows."""
        rows = self.rows
        return average_precision(scores_n, rows.positives_n, rows.negative_counts / rows.positive_counts)


def _table(logits_CNL: Numbers, targets_NL: IntArray, label: int, seed: int) -> _Table:
    rows = np.flatnonzero(targets_NL[:, label] >= 0)
    sample = _sampled(rows, targets_NL[rows, label] == 1, seed)
    chosen_Cn = logits_CNL[:, sample.rows_n, label].astype(np.float64)
    return _Table(np.ascontiguousarray(expit(chosen_Cn).astype(np.float32)), sample)


def _selected(tables: list[_Table], num_components: int) -> tuple[Floats, float]:
    """The weights of the best mean on the way of a greedy selection, and its mean average precision."""
    if not tables or num_components == 1:
        return np.full(num_components, 1.0 / num_components), 0.0
    counts_C, best_C, best = np.zeros(num_components), np.ones(num_components), -1.0
    sums = [np.zeros(table.probabilities_Cn.shape[1]) for table in tables]
    without_gain = 0
    while counts_C.sum() < MAX_SELECTIONS and without_gain < PATIENCE:
        reached_C = [
            np.mean(
                [
                    table.judge(total + table.probabilities_Cn[component])
                    for total, table in zip(sums, tables, strict=True)
                ]
            )
            for component in range(num_components)
        ]
        chosen = int(np.argmax(reached_C))
        counts_C[chosen] += 1
        sums = [total + table.probabilities_Cn[chosen] for total, table in zip(sums, tables, strict=True)]
        without_gain += 1
        if reached_C[chosen] > best + MIN_GAIN:
            best, best_C, without_gain = float(reached_C[chosen]), counts_C.copy(), 0
    return best_C / best_C.sum(), best


def stacked_weights(logits_CNL: Numbers, targets_NL: IntArray, *, seed: int) -> tuple[Floats, Floats]:
    """Weights of logits, C x L, and intercepts: for each label a logistic regression pulled towards equal weights.

    The regression has an intercept, the mean logit, and each component's distance from that mean. Only the latter are
    penalised, so a strong penalty leaves the mean logit, rightly scaled, and not nothing. The penalty is chosen by the
    log loss of `INNER_FOLDS` inner folds, of more than `MOST_ROWS` rows on a sample; the weights are fitted on all
    rows. A label with few rows keeps equal weights.
    """
    num_components, _, num_labels = logits_CNL.shape
    weights_CL = np.full((num_components, num_labels), 1.0 / num_components)
    intercepts_L = np.zeros(num_labels)
    for label in range(num_labels):
        rows = np.flatnonzero(targets_NL[:, label] >= 0)
        positives_N = targets_NL[rows, label] == 1
        if min(positives_N.sum(), (~positives_N).sum()) < STACKED_FROM:
            continue
        features_NF, spread = _features(logits_CNL[:, rows, label].T.astype(np.float64))
        sample = _sampled(np.arange(len(rows)), positives_N, seed)
        ridge, begun_F = _choose_ridge(features_NF[sample.rows_n], sample, seed)
        beta_F = _regression(features_NF, positives_N, ridge, begun_F=begun_F)
        if beta_F is None or beta_F[1] <= 0.0:
            continue  # The mean logit says the opposite of the label: nothing to be weighed.
        distances_C = beta_F[2:] / spread
        weights_CL[:, label] = beta_F[1] / num_components + distances_C - distances_C.mean()
        intercepts_L[label] = beta_F[0]
    return weights_CL, intercepts_L


def _features(logits_NC: Floats) -> tuple[Floats, float]:
    """One, the mean logit, and the components' distances from it divided by their common spread, which comes too."""
    mean_N = logits_NC.mean(axis=1)
    distances_NC = logits_NC - mean_N[:, None]
    spread = float(np.sqrt(np.mean(distances_NC**2))) or 1.0
    return np.column_stack([np.ones(len(mean_N)), mean_N, distances_NC / spread]), spread


def _choose_ridge(features_nF: Floats, sample: _Rows, seed: int) -> tuple[float, Floats | None]:
    """The penalty with the least log loss on rows left out, and where to begin with it (None: at the mean logit).

    The classes are spread evenly over the inner folds. From a strong penalty to a weak one each regression begins where
    the last one ended.
    """
    generator, positives_n, counts_n = np.random.default_rng(seed), sample.positives_n, sample.counts_n
    fold_n = np.empty(len(positives_n), np.int64)
    for of_class_n in (positives_n, ~positives_n):
        rows = generator.permutation(np.flatnonzero(of_class_n))
        fold_n[rows] = np.arange(len(rows)) % INNER_FOLDS
    losses, ended = np.zeros(len(RIDGES)), np.zeros((len(RIDGES), features_nF.shape[1]))
    for fold in range(INNER_FOLDS):
        held_n, beta_F = fold_n == fold, None
        signs_n = np.where(positives_n[held_n], -1.0, 1.0)
        for place in reversed(range(len(RIDGES))):
            beta_F = _regression(
                features_nF[~held_n],
                positives_n[~held_n],
                RIDGES[place],
                begun_F=beta_F,
                counts_N=counts_n[~held_n],
            )
            if beta_F is None:
                return RIDGES[-1], None
            ended[place] += beta_F / INNER_FOLDS
            losses[place] += float(
                (counts_n[held_n] * np.logaddexp(0.0, signs_n * (features_nF[held_n] @ beta_F))).sum()
            )
    # Of equal losses the strongest penalty.
    best = len(RIDGES) - 1 - int(np.argmin(losses[::-1]))
    return RIDGES[best], ended[best]


def _regression(
    features_NF: Floats,
    positives_N: BoolArray,
    ridge: float,
    *,
    begun_F: Floats | None = None,
    counts_N: Floats | None = None,
) -> Floats | None:
    """Coefficients that minimise mean log loss + ridge / 2 x the squares of all but the first two; None if it fails.

    A row counts as `counts_N` rows. Targets are Platt's (1999): (P + 1) / (P + 2) and 1 / (Q + 2) of P positives and Q
    negatives, so that the optimum is finite even where a threshold separates the classes. Newton's method with halved
    steps, from `begun_F` or from the mean logit.
    """
    share_N = np.ones(len(positives_N)) if counts_N is None else counts_N
    num_positives, num_negatives = float(share_N[positives_N].sum()), float(share_N[~positives_N].sum())
    targets_N = np.where(positives_N, (num_positives + 1) / (num_positives + 2), 1 / (num_negatives + 2))
    share_N = share_N / share_N.sum()
    # The last entry keeps the equations solvable where all components agree.
    penalty_F = np.full(features_NF.shape[1], ridge)
    penalty_F[:2] = 1e-9

    def objective(beta_F: Floats) -> float:
        z_N = features_NF @ beta_F
        return float(share_N @ (np.logaddexp(0.0, z_N) - targets_N * z_N) + 0.5 * penalty_F @ beta_F**2)

    beta_F = np.zeros(features_NF.shape[1])
    beta_F[1] = 1.0
    beta_F = beta_F if begun_F is None else begun_F
    value = objective(beta_F)
    for _ in range(MAX_STEPS):
        p_N = expit(features_NF @ beta_F)
        gradient_F = features_NF.T @ (share_N * (p_N - targets_N)) + penalty_F * beta_F
        hessian_FF = (features_NF * (share_N * p_N * (1.0 - p_N))[:, None]).T @ features_NF
        step_F = np.linalg.lstsq(hessian_FF + np.diag(penalty_F), gradient_F, rcond=None)[0]
        if gradient_F @ step_F < DECREMENT:
            return beta_F
        for halving in range(MAX_HALVINGS):
            trial_F = beta_F - step_F * 0.5**halving
            if (reached := objective(trial_F)) < value:
                beta_F, value = trial_F, reached
                break
        else:
            return beta_F  # Rounding leaves nothing to gain.
    return beta_F if np.isfinite(beta_F).all() else None
