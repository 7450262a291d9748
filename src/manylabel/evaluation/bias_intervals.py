"""Bootstrap intervals of bias AUCs, on the resamples of the other figures; called by recipes/breakdown.py.

A resample is a weight for each row (`evaluation.resampling`), and an AUC under weights is the weight of the pairs in
the right order, ties half, over that of all pairs. With the rows of a label in order of score, cumulative weights give
for each row the weight of the negatives below it, or of the positives above it: once for all rows, and once within each
subgroup. The three AUCs of a subgroup follow by subtraction, since the background is all rows but the subgroup:

    pairs within the subgroup                     positives of it over negatives of it
    BPSN: positives outside over negatives in it  all positives over negatives in it, less the pairs within
    BNSP: positives in it over negatives outside  positives in it over all negatives, less the pairs within

"All rows" are those of which it is known whether they belong to the subgroup. The intervals are those of
`evaluation.intervals`, with as many units as the smaller side of a comparison has. Those of the generalised mean and
of the final score are made from the same resamples; they have the units of the lowest AUC, to which the mean leans.

Letters: N rows, K rows of one label in order of score, R weight vectors, S subgroups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from manylabel.config.schema import EvaluationSettings
from manylabel.evaluation.bias import AUCS, PART, POWER, UNKNOWN, Bias
from manylabel.evaluation.intervals import MIN_UNITS, Interval, intervals_from, why_unstable
from manylabel.evaluation.resampling import Resampler, make_resampler
from manylabel.evaluation.spread import Sampled, sample, spread_of
from manylabel.evaluation.weighted import Doubles, MapTasks, Path, Ranking, quotient
from manylabel.values import NOT_ANNOTATED, BoolArray, FloatArray, IntArray

ARRAYS_AT_ONCE = 4
"""How many arrays of N numbers a weight vector takes at once, for choosing how many vectors to compute together."""


def with_intervals(
    bias: Bias,
    targets_NL: IntArray,
    probabilities_NL: FloatArray,
    subgroups: Mapping[str, IntArray],
    *,
    groups_N: Sequence[str] | IntArray | None,
    settings: EvaluationSettings,
) -> Bias:
    """`bias`, which was computed from these rows, with an interval for every figure that has a value.

    Rows, or whole groups where `groups_N` are given, are drawn as for the other figures; no resamples or rows give no
    intervals.
    """
    if not settings.resamples or not len(targets_NL):
        return bias
    resampler = make_resampler(targets_NL, groups_N, seed=settings.seed)
    figures = _BiasFigures(bias, targets_NL, probabilities_NL, subgroups)
    if not figures.paths:
        return bias
    (sampled,) = sample([figures], resampler, settings.resamples)
    units_F = figures.units(resampler)
    sampled, units_F = _with_means(sampled, units_F, bias)
    spread = spread_of(sampled, resampler, units_F=units_F)
    unit = "group" if resampler.grouped else "row"
    reasons = [
        f"fewer than {MIN_UNITS} {unit}s of a class" if units < MIN_UNITS else why_unstable(spread, number)
        for number, units in enumerate(units_F)
    ]
    return _filled(bias, intervals_from(spread, reasons, settings.confidence))


def _filled(bias: Bias, found: Mapping[Path, Interval]) -> Bias:
    """The intervals where they belong."""
    of_subgroup: dict[str, dict[str, dict[str, Interval]]] = {}
    of_label: dict[str, dict[str, Interval]] = {}
    for (kind, label, *rest), interval in found.items():
        if kind == "subgroup":
            of_subgroup.setdefault(rest[0], {}).setdefault(label, {})[rest[1]] = interval
        elif kind == "mean":
            of_label.setdefault(label, {})[rest[0]] = interval
    subgroups = (replace(each, intervals=of_subgroup.get(each.subgroup, {})) for each in bias.subgroups)
    overall = {
        label: replace(each, intervals=of_label.get(label, {})) for label, each in bias.overall.items()
    }
    return replace(bias, subgroups=tuple(subgroups), overall=overall)


class _BiasFigures:
    """The defined AUCs of every label and subgroup, then those over all rows; see `weighted.Figures`."""

    def __init__(
        self,
        bias: Bias,
        targets_NL: IntArray,
        probabilities_NL: FloatArray,
        subgroups: Mapping[str, IntArray],
    ) -> None:
        self._num_rows = len(targets_NL)
        self._labels = []
        for column, label in enumerate(bias.overall):
            named = {
                each.subgroup: tuple(auc.value is not None for auc in each.aucs[label])
                for each in bias.subgroups
                if any(auc.value is not None for auc in each.aucs[label])
            }
            if named:
                members = {name: subgroups[name] for name in named}
                cells = (targets_NL[:, column], probabilities_NL[:, column])
                self._labels.append((label, _Label(*cells, members), named))
        self.paths: tuple[Path, ...] = tuple(
            path
            for label, _, named in self._labels
            for path in (
                *(("subgroup", label, name, auc) for name, auc, defined in _each(named) if defined),
                ("all", label),
            )
        )

    @property
    def widest(self) -> int:
        """N, as often as arrays of that length are held at once."""
        return ARRAYS_AT_ONCE * self._num_rows

    def compute(self, weights_NR: Doubles, map_tasks: MapTasks = map) -> Doubles:
        """Figures x R."""

        def measure(index: int) -> Doubles:
            _, label, named = self._labels[index]
            defined = [flag for _, _, flag in _each(named)]
            return np.concatenate([label.measure(weights_NR)[defined], label.overall(weights_NR)])

        return np.concatenate([*map_tasks(measure, range(len(self._labels)))])

    def units(self, resampler: Resampler) -> Doubles:
        """How many units the smaller side of each comparison has, in the order of the paths."""
        units: list[int] = []
        for _, label, named in self._labels:
            sides = label.sides(resampler.units_N)
            units += [sides[name][AUCS.index(auc)] for name, auc, defined in _each(named) if defined]
            units.append(label.smaller_side(resampler.units_N))
        return np.array(units, dtype=np.float64)


def _each(named: Mapping[str, tuple[bool, ...]]) -> list[tuple[str, str, bool]]:
    """Subgroup, AUC, and whether it is defined."""
    return [(name, auc, flag) for name, flags in named.items() for auc, flag in zip(AUCS, flags, strict=True)]


@dataclass(frozen=True, eq=False)
class _Ordered:
    """K rows in order of score: `below_K` is where each row's tie begins, `up_to_K` where it ends."""

    rows_K: IntArray
    positive_K: BoolArray
    below_K: IntArray
    up_to_K: IntArray

    @classmethod
    def of(cls, rows: IntArray, targets_N: IntArray, scores_N: FloatArray) -> _Ordered:
        order = np.argsort(scores_N[rows], kind="stable")
        rows_K = rows[order]
        rising_K = scores_N[rows_K]
        return cls(
            rows_K,
            targets_N[rows_K] == 1,
            np.searchsorted(rising_K, rising_K, side="left"),
            np.searchsorted(rising_K, rising_K, side="right"),
        )

    def at(self, chosen_K: BoolArray) -> tuple[IntArray, IntArray, IntArray]:
        """Rows, and places before and after their ties, of the chosen ones."""
        return self.rows_K[chosen_K], self.below_K[chosen_K], self.up_to_K[chosen_K]


def _running(weights_KR: Doubles, counted_K: BoolArray) -> Doubles:
    """Cumulative weight of the counted rows, (K + 1) x R, beginning with 0."""
    running = np.zeros((len(counted_K) + 1, weights_KR.shape[1]))
    np.cumsum(weights_KR * counted_K[:, None], axis=0, out=running[1:])
    return running


class _Label:
    """One label's annotated rows, and its subgroups by which rows they are known for."""

    def __init__(self, targets_N: IntArray, scores_N: FloatArray, members: Mapping[str, IntArray]) -> None:
        scores_N = scores_N.astype(np.float64)
        annotated_N = targets_N != NOT_ANNOTATED
        rows = np.flatnonzero(annotated_N)
        self._positive_N, self._annotated_N = targets_N == 1, annotated_N
        self._members = members
        self._ranking = Ranking(targets_N[rows], scores_N[rows], rows, len(targets_N))
        known: dict[bytes, list[str]] = {}
        for name, members_N in members.items():
            known.setdefault(np.packbits(members_N != UNKNOWN).tobytes(), []).append(name)
        self._parts = []
        for names in known.values():
            of_all = np.flatnonzero(annotated_N & (members[names[0]] != UNKNOWN))
            whole = _Ordered.of(of_all, targets_N, scores_N)
            inside = {
                name: (
                    members[name][whole.rows_K] == 1,
                    _Ordered.of(np.flatnonzero(annotated_N & (members[name] == 1)), targets_N, scores_N),
                )
                for name in names
            }
            self._parts.append((whole, inside))

    def overall(self, weights_NR: Doubles) -> Doubles:
        """ROC-AUC over all rows, 1 x R."""
        return self._ranking.measure(weights_NR)[0][None]

    def measure(self, weights_NR: Doubles) -> Doubles:
        """The three AUCs of each subgroup, 3 S x R, subgroups in the order they were given in."""
        found: dict[str, list[Doubles]] = {}
        for whole, inside in self._parts:
            weights_KR = weights_NR[whole.rows_K]
            negatives_K1R = _running(weights_KR, ~whole.positive_K)
            positives_K1R = _running(weights_KR, whole.positive_K)
            for name, (member_K, subgroup) in inside.items():
                found[name] = _aucs(
                    weights_NR,
                    whole,
                    member_K,
                    subgroup,
                    negatives_K1R=negatives_K1R,
                    positives_K1R=positives_K1R,
                )
        return np.concatenate([np.stack(found[name]) for name in self._members])

    def sides(self, units_N: IntArray) -> dict[str, tuple[int, int, int]]:
        """For each subgroup and AUC the number of units on its smaller side."""
        found = {}
        for name, members_N in self._members.items():
            of = {
                (positive, member): _num_units(
                    units_N, self._annotated_N & (self._positive_N == positive) & (members_N == member)
                )
                for positive in (True, False)
                for member in (0, 1)
            }
            found[name] = (
                min(of[True, 1], of[False, 1]),
                min(of[True, 0], of[False, 1]),
                min(of[True, 1], of[False, 0]),
            )
        return found

    def smaller_side(self, units_N: IntArray) -> int:
        """The number of units with, or without, the label, whichever is less."""
        return min(
            _num_units(units_N, self._annotated_N & (self._positive_N == positive))
            for positive in (True, False)
        )


def _num_units(units_N: IntArray, chosen_N: BoolArray) -> int:
    return len(np.unique(units_N[chosen_N]))


def _aucs(
    weights_NR: Doubles,
    whole: _Ordered,
    member_K: BoolArray,
    subgroup: _Ordered,
    *,
    negatives_K1R: Doubles,
    positives_K1R: Doubles,
) -> list[Doubles]:
    """Subgroup, BPSN and BNSP AUC under each weight vector; NaN where a side has no weight."""
    rows, below, up_to = subgroup.at(subgroup.positive_K)
    positives_PR = weights_NR[rows]
    within_KR = _running(weights_NR[subgroup.rows_K], ~subgroup.positive_K)
    within_R = 0.5 * _weighted(positives_PR, within_KR[below] + within_KR[up_to])
    _, below, up_to = whole.at(whole.positive_K & member_K)
    in_over_all_R = 0.5 * _weighted(positives_PR, negatives_K1R[below] + negatives_K1R[up_to])
    rows, below, up_to = whole.at(~whole.positive_K & member_K)
    negatives_QR, all_positives_R = weights_NR[rows], positives_K1R[-1]
    above_QR = 2.0 * all_positives_R - positives_K1R[below] - positives_K1R[up_to]
    all_over_in_R = 0.5 * _weighted(negatives_QR, above_QR)
    of_positives_R, of_negatives_R = positives_PR.sum(axis=0), negatives_QR.sum(axis=0)
    return [
        quotient(within_R, of_positives_R * of_negatives_R),
        quotient(all_over_in_R - within_R, (all_positives_R - of_positives_R) * of_negatives_R),
        quotient(in_over_all_R - within_R, of_positives_R * (negatives_K1R[-1] - of_negatives_R)),
    ]


def _weighted(weights_PR: Doubles, numbers_PR: Doubles) -> Doubles:
    summed: Doubles = np.einsum("pr,pr->r", weights_PR, numbers_PR)
    return summed


def _with_means(sampled: Sampled, units_F: Doubles, bias: Bias) -> tuple[Sampled, Doubles]:
    """The sampled AUCs with the generalised mean and the final score of each label that has them."""
    places = {path: number for number, path in enumerate(sampled.paths)}
    paths, rows, units = list(sampled.paths), [], units_F.tolist()
    stacked = np.concatenate([sampled.value_F[:, None], sampled.jackknife_FB, sampled.resampled_FR], axis=1)
    for label, overall in bias.overall.items():
        if overall.generalised_mean is None or overall.final is None:
            continue
        of_auc = [
            [place for path, place in places.items() if path[:2] == ("subgroup", label) and path[3] == auc]
            for auc in AUCS
        ]
        mean_R = np.mean([_power_mean(stacked[numbers]) for numbers in of_auc], axis=0)
        lowest = min((number for numbers in of_auc for number in numbers), key=lambda n: stacked[n, 0])
        rows += [mean_R, PART * stacked[places["all", label]] + (1.0 - PART) * mean_R]
        paths += [("mean", label, "generalised_mean"), ("mean", label, "final")]
        units += [units[lowest]] * 2
    whole = np.concatenate([stacked, np.array(rows).reshape(-1, stacked.shape[1])])
    stop = 1 + sampled.jackknife_FB.shape[1]
    return Sampled(tuple(paths), whole[:, 0], whole[:, 1:stop], whole[:, stop:]), np.array(units)


def _power_mean(aucs_SR: Doubles) -> Doubles:
    """The generalised mean over the subgroups that have a value in a resample; NaN where none has."""
    with np.errstate(divide="ignore"):
        powers_SR = np.where(np.isnan(aucs_SR), 0.0, aucs_SR**POWER)
        mean_R = quotient(powers_SR.sum(axis=0), (~np.isnan(aucs_SR)).sum(axis=0).astype(np.float64))
        means: Doubles = mean_R ** (1.0 / POWER)
    return means
