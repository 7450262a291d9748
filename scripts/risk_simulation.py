"""Do the guarantees of `manylabel.decisions.risk` hold? `python scripts/risk_simulation.py [--npz FILE]`.

500 times, calibration rows are drawn at random, a threshold is chosen on them, and what it does is measured on all
rows that were not drawn. Two statements are checked:

- misses: the share of positives missed (per label), and the share of a row's labels missed (one threshold for all
  labels), are at most alpha in the mean over the draws, up to a one-sided 99.9 % bound of the mean;
- precision: the share of draws whose threshold has a precision below p is at most delta, up to the 99.9 % quantile of
  the binomial distribution of 500 draws.

A promise that is never made is never broken. Of the synthetic rows a statement on the calibrated label, or on all
labels, therefore fails also where fewer than half of the draws give a threshold.

Beside them, for comparison and unchecked, how often the plain goal `precision=p` breaks its promise on new rows.

The rows are synthetic: 200,000 with five labels, three of which have probabilities that are not what they say (too
sure, rounded, blind). With --npz they come from a file with `targets` (1, 0, -1) and `probabilities`, both N x L; its
rows are then drawn with replacement and the whole file is what the promises are measured on. Exits with 1 where a
statement fails.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from scipy.stats import binom, norm

from manylabel.decisions.goals import Goal, fit_goal
from manylabel.decisions.risk import certify_precision, control_missed_share, control_misses

DRAWS = 500
CALIBRATION_ROWS = 1_000
ALPHA = 0.1
PRECISION = 0.8
DELTA = 0.1
CERTAINTY = 0.999
SYNTHETIC_ROWS = 200_000
LABELS = ("calibrated", "too sure", "rare", "rounded", "blind")
ALL = "all"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Rows:
    """Targets N x L (1, 0, -1) and probabilities N x L; `replace` says how calibration rows are drawn.

    Statements on `answerable` labels fail without a threshold in half of the draws.
    """

    labels: tuple[str, ...]
    targets_NL: npt.NDArray[np.int8]
    probabilities_NL: Floats
    replace: bool = False
    answerable: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.targets_NL)


def synthetic_rows(seed: int, num_rows: int = SYNTHETIC_ROWS) -> Rows:
    """Labels that depend on each other through their text.

    The label `blind` has probabilities that say nothing, and a precision just below PRECISION at every threshold:
    whatever is certified there is wrong.
    """
    generator = np.random.default_rng(seed)
    common_N1 = generator.normal(size=(num_rows, 1))
    centre_L, spread_L = np.array([-1.5, -1.5, -5.0, -1.0, 1.35]), np.array([2.5, 2.5, 1.8, 2.5, 0.0])
    own_NL = generator.normal(size=(num_rows, len(LABELS)))
    true_NL = centre_L + spread_L * (0.5 * common_N1 + np.sqrt(0.75) * own_NL)
    targets_NL = (generator.random(true_NL.shape) < expit(true_NL)).astype(np.int8)
    shown_NL = expit(true_NL)
    shown_NL[:, 1] = expit(2.5 * true_NL[:, 1] + 1.0)
    shown_NL[:, 3] = np.round(shown_NL[:, 3], 1)
    shown_NL[:, 4] = generator.random(num_rows)
    return Rows(LABELS, targets_NL, shown_NL, answerable=(LABELS[0], ALL))


def rows_of_file(path: Path) -> Rows:
    """Rows of an npz file; labels are named by their column."""
    with np.load(path, allow_pickle=False) as file:
        targets_NL, probabilities_NL = file["targets"].astype(np.int8), file["probabilities"].astype(float)
    return Rows(tuple(f"column {i}" for i in range(targets_NL.shape[1])), targets_NL, probabilities_NL, True)


class Lookup:
    """Sums of weights of cells at or above a threshold, for a column that is asked often."""

    def __init__(self, scores_K: Floats, weights_K: Floats) -> None:
        """Sort once."""
        order = np.argsort(scores_K)
        self._scores_K = scores_K[order]
        self._below_K1 = np.concatenate([[0.0], np.cumsum(weights_K[order])])
        self.total = float(self._below_K1[-1])

    def below(self, threshold: float) -> float:
        """The weight of the cells below the threshold."""
        return float(self._below_K1[np.searchsorted(self._scores_K, threshold, side="left")])


@dataclass(frozen=True)
class Statement:
    """One line of the table; `stated` is alpha or delta, None for a line that is not checked."""

    kind: str
    label: str
    stated: float | None
    measured: float
    bound: float | None
    given: int
    draws: int
    least_given: int = 0

    @property
    def holds(self) -> bool:
        """Whether the measured rate is within the bound, and enough draws gave a threshold to measure."""
        return self.bound is None or (self.measured <= self.bound and self.given >= self.least_given)

    def line(self) -> str:
        """The line of the table."""
        stated = "-" if self.stated is None else f"{self.stated:.3f}"
        bound = "-" if self.bound is None else f"{self.bound:.4f}"
        verdict = "-" if self.bound is None else "holds" if self.holds else "FAILS"
        given = f"{self.given}/{self.draws}"
        return f"{self.kind:34} {self.label:12} {stated:>7} {self.measured:>9.4f} {bound:>8} {given:>9}  {verdict}"


def at_most_in_the_mean(kind: str, label: str, losses: Sequence[float], draws: int) -> Statement:
    """The mean of the losses against ALPHA; draws that allowed no threshold are left out."""
    if not losses:
        return Statement(kind, label, ALPHA, 0.0, ALPHA, 0, draws)
    deviation = float(np.std(losses, ddof=1)) if len(losses) > 1 else 0.0
    bound = ALPHA + float(norm.ppf(CERTAINTY)) * deviation / np.sqrt(len(losses))
    return Statement(kind, label, ALPHA, float(np.mean(losses)), bound, len(losses), draws)


def rarely_broken(kind: str, label: str, broken: Sequence[bool], draws: int, *, checked: bool) -> Statement:
    """The share of all draws whose threshold breaks the promise, against DELTA."""
    bound = float(binom.ppf(CERTAINTY, draws, DELTA)) / draws if checked else None
    stated = DELTA if checked else None
    return Statement(kind, label, stated, sum(broken) / draws, bound, len(broken), draws)


def simulate(rows: Rows, *, draws: int, num_calibration: int, seed: int) -> list[Statement]:
    """All statements, in the order of the table."""
    generator = np.random.default_rng(seed)
    samples = [generator.choice(len(rows), size=num_calibration, replace=rows.replace) for _ in range(draws)]
    statements = []
    for column, label in enumerate(rows.labels):
        statements += of_label(rows, column, label, samples)
    for labelled_only in (False, True):
        statements.append(of_all_labels(rows, samples, labelled_only=labelled_only))
    return [
        replace(each, least_given=(draws + 1) // 2) if each.label in rows.answerable else each
        for each in statements
    ]


def of_label(
    rows: Rows, column: int, label: str, samples: Sequence[npt.NDArray[np.int64]]
) -> list[Statement]:
    """Misses and precision of one label."""
    targets_N, scores_N = rows.targets_NL[:, column], rows.probabilities_NL[:, column]

    def lookup(index: slice | npt.NDArray[np.int64], targets: tuple[int, ...]) -> Lookup:
        scores_K = scores_N[index][np.isin(targets_N[index], targets)]
        return Lookup(scores_K, np.ones(len(scores_K)))

    positives, annotated = lookup(slice(None), (1,)), lookup(slice(None), (0, 1))
    missed: list[float] = []
    certified: list[bool] = []
    plain: list[bool] = []
    for sample in samples:
        own_positives, own_annotated = (
            (None, None) if rows.replace else (lookup(sample, (1,)), lookup(sample, (0, 1)))
        )
        chosen = control_misses(targets_N[sample], scores_N[sample], alpha=ALPHA)
        if chosen.threshold is not None:
            missed.append(share_below(positives, own_positives, chosen.threshold))
        for thresholds, broken in (
            (certified_thresholds(targets_N[sample], scores_N[sample]), certified),
            (plain_thresholds(targets_N[sample], scores_N[sample]), plain),
        ):
            for threshold in thresholds:
                hits = weight_above(positives, own_positives, threshold)
                decided = weight_above(annotated, own_annotated, threshold)
                broken.append(decided > 0.0 and hits / decided < PRECISION)
    return [
        at_most_in_the_mean("misses of a label", label, missed, len(samples)),
        rarely_broken("certified precision broken", label, certified, len(samples), checked=True),
        rarely_broken("  plain goal precision broken", label, plain, len(samples), checked=False),
    ]


def certified_thresholds(targets_K: npt.NDArray[np.int8], scores_K: Floats) -> list[float]:
    """The certified threshold, or none."""
    threshold = certify_precision(targets_K, scores_K, precision=PRECISION, delta=DELTA).threshold
    return [] if threshold is None else [threshold]


def plain_thresholds(targets_K: npt.NDArray[np.int8], scores_K: Floats) -> list[float]:
    """The threshold of the goal `precision=p` without guarantee, where the goal is reached on the rows."""
    goal = Goal("precision", PRECISION)
    fitted = fit_goal(targets_K[:, None], scores_K[:, None], ("label",), goal)
    reached = fitted.judged_L[0] and fitted.notes is not None and fitted.notes[0] is None
    return [float(fitted.values_L[0])] if reached else []


def of_all_labels(rows: Rows, samples: Sequence[npt.NDArray[np.int64]], *, labelled_only: bool) -> Statement:
    """The share of a row's labels that one threshold misses."""
    positive_NL = rows.targets_NL == 1
    labels_N = positive_NL.sum(axis=1)
    counted_N = labels_N > 0 if labelled_only else (rows.targets_NL >= 0).any(axis=1)
    weights_NL = positive_NL / np.maximum(labels_N, 1)[:, None]

    def lookup(index: slice | npt.NDArray[np.int64]) -> Lookup:
        cells = positive_NL[index]
        return Lookup(rows.probabilities_NL[index][cells], weights_NL[index][cells])

    whole = lookup(slice(None))
    losses = []
    for sample in samples:
        targets_KL, scores_KL = rows.targets_NL[sample], rows.probabilities_NL[sample]
        chosen = control_missed_share(targets_KL, scores_KL, alpha=ALPHA, labelled_only=labelled_only)
        if chosen.threshold is None:
            continue
        lost, count = whole.below(chosen.threshold), int(counted_N.sum())
        if not rows.replace:
            lost, count = lost - lookup(sample).below(chosen.threshold), count - int(counted_N[sample].sum())
        losses.append(lost / count)
    kind = "missed share, rows with a label" if labelled_only else "missed share, all rows"
    return at_most_in_the_mean(kind, ALL, losses, len(samples))


def share_below(whole: Lookup, part: Lookup | None, threshold: float) -> float:
    """Of the cells outside `part`, the share below the threshold."""
    own_below, own_total = (0.0, 0.0) if part is None else (part.below(threshold), part.total)
    return (whole.below(threshold) - own_below) / (whole.total - own_total)


def weight_above(whole: Lookup, part: Lookup | None, threshold: float) -> float:
    """Of the cells outside `part`, those at or above the threshold."""
    own = 0.0 if part is None else part.total - part.below(threshold)
    return whole.total - whole.below(threshold) - own


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 where a statement fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--npz", type=Path)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--rows", type=int, default=CALIBRATION_ROWS, help="calibration rows of a draw")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    rows = rows_of_file(options.npz) if options.npz else synthetic_rows(options.seed)
    statements = simulate(rows, draws=options.draws, num_calibration=options.rows, seed=options.seed + 1)
    print(
        f"{options.draws} draws of {options.rows:,} from {len(rows):,} rows; "
        f"alpha {ALPHA}, p {PRECISION}, delta {DELTA}\n"
    )
    print(f"{'':34} {'label':12} {'stated':>7} {'measured':>9} {'bound':>8} {'given':>9}")
    print("\n".join(each.line() for each in statements))
    failed = [each for each in statements if not each.holds]
    print(f"\n{len(failed)} of {sum(each.bound is not None for each in statements)} statements fail")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
