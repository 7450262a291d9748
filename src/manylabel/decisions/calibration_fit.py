"""Which calibration map a label gets: chosen by cross-validated log loss, pooled where the label is rare.

Training calls `fit_calibration` on the calibration rows, and so does whoever gives a saved model new decisions.

The rule, per label, on its annotated rows:

1.  With fewer than `min_positives` positive or negative rows the label is rare. All rare labels share the map fitted to
    all their cells together; where even these are too few, to the cells of all labels; else they have none.
2.  A candidate whose fit does not rise with the logits, as where these are all equal, carry nothing or point the wrong
    way, stands with its almost flat map (`calibrators.flattest`): Platt's is a line just above flat at the share of
    positive rows. Order is not turned around, and labels that are far from calibrated are still mended.
3.  The candidates (isotonic only from `ISOTONIC_ROWS` positive and negative rows on) are fitted five times on
    four fifths of the rows and judged on the last fifth. Folds are stratified by the label and keep groups together.
4.  The candidate of lowest mean log loss is found, then the simplest one whose mean is above it by no more than one
    standard error of that difference, taken row by row (group by group where there are groups). Differences, because
    all candidates are judged on the same rows. Simplest first: none, temperature, platt, beta, isotonic.
5.  The chosen map is fitted to all rows.
6.  A method that is set is taken where its fit rises; else rule 4 decides between its almost flat map and none.

Legend: N rows, L labels, C cells (annotated label-row pairs), G groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from manylabel.decisions.calibration import METHODS, Calibration, Floats, Identity, LabelMap
from manylabel.decisions.calibrators import FITTERS, flattest
from manylabel.errors import counted
from manylabel.values import BoolArray, FloatArray, IntArray

FOLDS = 5
ISOTONIC_ROWS = 100
"""Least positive and least negative rows for isotonic to be a candidate of auto."""
MAX_POOLED_CELLS = 2**21
"""Of more cells a random share of the rows is pooled: bounds time and memory."""
LEAST_PROBABILITY = 2.0**-52
"""Probabilities are moved this far from 0 and 1 in the log loss that judges candidates, to keep it finite."""
CHOOSING = ("auto", "lines")
LINES = ("none", "temperature", "platt")


@dataclass(frozen=True)
class Choice:
    """How a label came by its map.

    `positives` counts its own positive rows. `log_losses` has the cross-validated log loss (natural logarithm, mean
    over cells) of every candidate that could be fitted in each fold, those of the pool where `pooled`.
    """

    label: str
    method: str
    pooled: bool
    positives: int
    log_losses: Mapping[str, float]
    reason: str


@dataclass(frozen=True)
class CalibrationFit:
    """The maps of all labels and, in the same order, why each is what it is."""

    calibration: Calibration
    choices: tuple[Choice, ...]


@dataclass(frozen=True, eq=False)
class _Cells:
    """What one map is fitted to; `groups_C` numbers the groups 0 to G - 1."""

    positives_C: BoolArray
    logits_C: Floats
    groups_C: npt.NDArray[np.int64]

    def fewest(self) -> int:
        """The number of positive or of negative cells, whichever is lower."""
        num_positives = int(np.count_nonzero(self.positives_C))
        return min(num_positives, len(self.positives_C) - num_positives)


@dataclass(frozen=True)
class _Outcome:
    fitted: LabelMap
    log_losses: Mapping[str, float]
    reason: str


def fit_calibration(
    targets_NL: IntArray,
    logits_NL: FloatArray,
    labels: Sequence[str],
    *,
    method: str,
    min_positives: int,
    seed: int,
    groups_N: Sequence[object] | npt.NDArray[np.generic] | None = None,
) -> CalibrationFit:
    """Fit one map a label by the rule in the module's docstring; `method` other than auto leaves out the choice.

    `lines` chooses as auto does among the maps that are straight lines of the logit: none, temperature and Platt.

    `targets_NL` holds 1, 0 and -1 (not annotated); `groups_N` are names or numbers of groups, rows of one of which
    stay in one fold. Equal arguments give equal maps.

    Raises:
        ValueError: the shapes disagree, a logit is not finite, or the method is unknown.

    """
    if targets_NL.shape != logits_NL.shape or targets_NL.shape[1:] != (len(labels),):
        raise ValueError(f"targets {targets_NL.shape} and logits {logits_NL.shape} disagree")
    if not np.isfinite(logits_NL).all():
        raise ValueError("logits must be finite")
    if method not in (*CHOOSING, *METHODS):
        raise ValueError(f"method must be one of {', '.join((*CHOOSING, *METHODS))}")
    fitter = _Fitter(targets_NL, logits_NL, _numbered(groups_N, len(targets_NL)), method, min_positives, seed)
    own = [fitter.of_label(column) for column in range(len(labels))]
    pool = fitter.of_pool([column for column, outcome in enumerate(own) if outcome is None])
    choices, maps = [], []
    for column, name in enumerate(labels):
        num_positives = int(np.count_nonzero(targets_NL[:, column] == 1))
        num_negatives = int(np.count_nonzero(targets_NL[:, column] == 0))
        outcome = own[column]
        pooled = outcome is None and pool is not None
        if outcome is None:
            outcome = _of_rare(pool, num_positives, num_negatives, min_positives)
        maps.append(outcome.fitted)
        choices.append(
            Choice(name, outcome.fitted.method, pooled, num_positives, outcome.log_losses, outcome.reason)
        )
    return CalibrationFit(Calibration(tuple(labels), tuple(maps)), tuple(choices))


def _numbered(
    groups_N: Sequence[object] | npt.NDArray[np.generic] | None, num_rows: int
) -> npt.NDArray[np.int64]:
    if groups_N is None:
        return np.arange(num_rows)
    if len(groups_N) != num_rows:
        raise ValueError(f"{len(groups_N)} groups for {num_rows} rows")
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups_N], dtype=np.int64)


def _of_rare(pool: _Outcome | None, num_positives: int, num_negatives: int, min_positives: int) -> _Outcome:
    rows = counted(num_positives, "positive row")
    if num_positives >= min_positives:
        rows = counted(num_negatives, "negative row")
    why = f"{rows}, at least {min_positives} needed"
    if pool is None:
        return _Outcome(Identity(), {}, f"{why}; too few in all labels together")
    return replace(pool, reason=f"{why}; {pool.reason}")


@dataclass(frozen=True, eq=False)
class _Fitter:
    targets_NL: IntArray
    logits_NL: FloatArray
    groups_N: npt.NDArray[np.int64]
    method: str
    min_positives: int
    seed: int

    def of_label(self, column: int) -> _Outcome | None:
        """The map of a label from its own rows; None for a rare one."""
        if self.method == "none":
            return _Outcome(Identity(), {}, "none as set")
        cells = self._cells([column], np.arange(len(self.targets_NL)))
        if cells.fewest() < self.min_positives:
            return None
        return fit_best(cells, self.method, np.random.default_rng([self.seed, column]))

    def of_pool(self, rare: Sequence[int]) -> _Outcome | None:
        """The map that rare labels share; None where there are none or too few cells in all labels together."""
        num_labels = self.targets_NL.shape[1]
        names = (counted(len(rare), "rare label"), "all labels")
        for turn, (columns, name) in enumerate(zip((rare, range(num_labels)), names, strict=True)):
            if not rare:
                return None
            generator = np.random.default_rng([self.seed, num_labels + turn])
            cells = self._cells(columns, self._share_of_rows(len(columns), generator))
            if cells.fewest() >= self.min_positives:
                outcome = fit_best(cells, self.method, generator)
                return replace(outcome, reason=f"pooled over {name}: {outcome.reason}")
        return None

    def _share_of_rows(self, num_columns: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
        num_rows = len(self.targets_NL)
        kept = max(MAX_POOLED_CELLS // num_columns, 1)
        if num_rows <= kept:
            return np.arange(num_rows)
        return np.sort(generator.choice(num_rows, size=kept, replace=False))

    def _cells(self, columns: Sequence[int], rows: npt.NDArray[np.int64]) -> _Cells:
        places = np.ix_(rows, np.asarray(columns, dtype=np.int64))
        targets = self.targets_NL[places]
        annotated = targets >= 0
        groups = np.broadcast_to(self.groups_N[rows][:, None], targets.shape)[annotated]
        _, numbered_C = np.unique(groups, return_inverse=True)
        return _Cells(
            targets[annotated] == 1, self.logits_NL[places][annotated].astype(np.float64), numbered_C
        )


def fit_best(cells: _Cells, method: str, generator: np.random.Generator) -> _Outcome:
    """The map of one label or pool with both classes: chosen for auto, else of the method that is set."""
    chooses = method in CHOOSING
    wanted = _candidates(cells, method) if chooses else ("none", method)
    losses = cross_validated(cells, wanted, generator)
    means = {name: float(losses_C.mean()) for name, losses_C in losses.items()}
    chosen, reason = _choose(losses, cells.groups_C) if chooses else (method, f"{method} as set")
    fitted = FITTERS[chosen](cells.positives_C, cells.logits_C)
    if fitted is not None:
        return _Outcome(fitted, means, reason)
    trouble = f"the fit of {chosen} does not rise with the logits"
    if not chooses and _choose(losses, cells.groups_C)[0] == "none":
        return _Outcome(Identity(), means, f"none: {trouble}, an almost flat one is not clearly better")
    almost_flat = flattest(chosen, cells.positives_C, cells.logits_C)
    return _Outcome(almost_flat, means, f"{reason}; almost flat, as {trouble}")


def _candidates(cells: _Cells, method: str) -> tuple[str, ...]:
    if method == "lines":
        return LINES
    if cells.fewest() >= ISOTONIC_ROWS:
        return METHODS
    return tuple(name for name in METHODS if name != "isotonic")


def deal_folds(
    positives_C: BoolArray, groups_C: npt.NDArray[np.int64], generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """The fold of each cell, 0 to 4: groups with the most positives, then the largest, are dealt to and fro."""
    sizes_G = np.bincount(groups_C)
    positives_G = np.bincount(groups_C, weights=positives_C)
    num_folds = min(FOLDS, len(sizes_G))
    order = np.lexsort((generator.permutation(len(sizes_G)), -sizes_G, -positives_G))
    round_trip = np.concatenate([np.arange(num_folds), np.arange(num_folds)[::-1]])
    folds_G = np.empty(len(sizes_G), dtype=np.int64)
    folds_G[order] = round_trip[np.arange(len(sizes_G)) % len(round_trip)]
    folds_C: npt.NDArray[np.int64] = folds_G[groups_C]
    return folds_C


def cross_validated(
    cells: _Cells, methods: Sequence[str], generator: np.random.Generator
) -> dict[str, Floats]:
    """Log loss of each cell by maps fitted without its fold; left out are methods that lack a class in some fold."""
    folds_C = deal_folds(cells.positives_C, cells.groups_C, generator)
    parts = [folds_C == fold for fold in range(int(folds_C.max()) + 1)]
    losses: dict[str, Floats] = {}
    for name in methods:
        losses_C = np.empty(len(folds_C))
        for held_C in parts:
            fitted = _fit_without(cells, held_C, name)
            if fitted is None:
                break
            losses_C[held_C] = log_losses(cells.positives_C[held_C], fitted.apply(cells.logits_C[held_C]))
        else:
            losses[name] = losses_C
    return losses


def _fit_without(cells: _Cells, held_C: BoolArray, method: str) -> LabelMap | None:
    positives = cells.positives_C[~held_C]
    if method != "none" and (not positives.any() or positives.all()):
        return None
    logits = cells.logits_C[~held_C]
    return FITTERS[method](positives, logits) or flattest(method, positives, logits)


def log_losses(positives_C: BoolArray, probabilities_C: Floats) -> Floats:
    """Minus the logarithm of the probability given to what is true, cell by cell."""
    given_C = np.where(positives_C, probabilities_C, 1.0 - probabilities_C)
    result: Floats = -np.log(np.clip(given_C, LEAST_PROBABILITY, 1.0))
    return result


def _choose(losses: Mapping[str, Floats], groups_C: npt.NDArray[np.int64]) -> tuple[str, str]:
    """The method by the one-standard-error rule, and why in words."""
    means = {name: float(losses_C.mean()) for name, losses_C in losses.items()}
    best = min(means, key=lambda name: means[name])
    for name in METHODS:
        if name in losses and means[name] - means[best] <= standard_error(
            losses[name] - losses[best], groups_C
        ):
            break
    if name != best:
        reason = (
            f"{name}: simplest within one standard error of the best cross-validated log loss "
            f"({means[name]:.4f}, {best} {means[best]:.4f})"
        )
    elif name == "none":
        reason = f"none: its cross-validated log loss, {means[name]:.4f}, is the lowest"
    else:
        reason = f"{name}: lowest cross-validated log loss ({means[name]:.4f}, none {means['none']:.4f})"
    return name, reason


def standard_error(differences_C: Floats, groups_C: npt.NDArray[np.int64]) -> float:
    """Standard error of the mean over cells drawn in groups; infinite for a single group."""
    sums_G = np.bincount(groups_C, weights=differences_C - differences_C.mean())
    if len(sums_G) < 2:
        return float("inf")
    variance = float((sums_G**2).sum()) * len(sums_G) / (len(sums_G) - 1)
    return float(np.sqrt(variance)) / len(differences_C)
