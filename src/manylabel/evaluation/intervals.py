"""Bootstrap confidence intervals for every figure of an evaluation; called by the evaluation recipes and the report.

Intervals are bias-corrected and accelerated (BCa: Efron 1987, "Better Bootstrap Confidence Intervals"), with the
acceleration from a block jackknife. The plain percentile interval is not enough: average precision of resamples is
higher than that of the table, because drawing a positive twice puts two positives at one place; over many labels
this bias adds up, and percentile intervals of the macro average covered the truth in 91 of 100 simulated tables
(`scripts/coverage_simulation.py` measures the intervals used here).

For few rows the limits are taken further out, as Hesterberg (2015, "What Teachers Should Know About the Bootstrap",
"expanded percentile interval") does: by sqrt(n / (n - 1)) and by Student's t in place of the normal quantile. For a
label n is the number of units of its rarer side; for averages over labels the degrees of freedom follow from the
labels' standard errors (Satterthwaite 1946, as if labels were independent).

The calibration error cannot be negative, and noise makes it larger, so its resamples lie above it; it gets a basic
(reflected) interval, whose lower limit is further lowered to what it is when all of it is noise, not below 0. The
lower limit is therefore cautious, and an interval may lie wholly below the figure itself.

No interval is given where it would say more than is known: see `Interval.reason`. With few positives intervals are
still somewhat short near the ends of the scale: of a label with about 15 positive rows and a ROC-AUC of 0.96 they held
the truth in 88 of 100 simulated tables. A label with hardly a positive adds too little to the interval of the macro
average, since how its figure varies cannot be seen.

Letters: F figures, R resamples, B blocks of the jackknife, L labels, M metrics of a label, G units.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from manylabel.config.schema import EvaluationSettings
from manylabel.decisions.thresholds import Thresholds
from manylabel.evaluation.resampling import Resampler, make_resampler
from manylabel.evaluation.weighted import OF_LABELS, Doubles, Judged, Path, WeightedFigures, quotient
from manylabel.values import FloatArray, IntArray

MIN_UNITS = 5
"""A label with fewer positive (or, where it matters, negative) units has no interval."""
MIN_DEFINED = 0.9
"""Share of the resamples in which a figure must have a value."""
NUM_BLOCKS = 100
MAX_TOGETHER = 64
MAX_NUMBERS = 2**22
"""Weight vectors are computed this many at a time, and so that no array of theirs exceeds 32 MB."""
MAX_THREADS = 4
NEEDS_NEGATIVES = frozenset({"roc_auc", "average_precision", "brier", "log_loss", "ece"})


@dataclass(frozen=True)
class Interval:
    """A figure with its standard error and interval; both are None where `reason` says why.

    `defined` counts the resamples in which the figure has a value.
    """

    value: float | None
    low: float | None
    high: float | None
    standard_error: float | None
    defined: int
    reason: str | None = None

    @property
    def limits(self) -> list[float] | None:
        """Low and high, or None."""
        return None if self.low is None or self.high is None else [self.low, self.high]


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Intervals by path; `unit` is what was drawn, rows or groups."""

    confidence: float
    resamples: int
    unit: str
    figures: Mapping[Path, Interval]

    def to_json(self) -> dict[str, Any]:
        """Limits as `{"labels": {name: {metric: [low, high]}}, "macro": {metric: [low, high]}, ...}`, or null."""
        limits = {path: interval.limits for path, interval in self.figures.items()}
        return {
            "confidence": self.confidence,
            "resamples": self.resamples,
            "unit": self.unit,
            **nested(limits),
        }


def nested(figures: Mapping[Path, Any]) -> dict[str, Any]:
    """Paths as nested mappings."""
    tree: dict[str, Any] = {}
    for path, value in figures.items():
        branch = tree
        for name in path[:-1]:
            branch = branch.setdefault(name, {})
        branch[path[-1]] = value
    return tree


def bootstrap(
    targets_NL: IntArray,
    probabilities_NL: FloatArray,
    thresholds: Thresholds,
    *,
    groups_N: Sequence[str] | IntArray | None = None,
    settings: EvaluationSettings,
    costs: tuple[float, float] | None = None,
) -> Bootstrap:
    """Intervals of all figures of N rows and L labels at the given thresholds, which are taken as fixed.

    `targets_NL` holds 1, 0 and -1 (not annotated), `probabilities_NL` numbers in [0, 1]. With `groups_N` whole
    groups are drawn. `costs`, of a missed label and of a false alarm, are for the expected cost alone; by default
    they are the settings'. The same inputs and seed give the same intervals, whatever the number of threads. No
    resamples or no rows give no figures.

    Raises:
        ValueError: shapes disagree or there is not one group a row.

    """
    if targets_NL.shape != probabilities_NL.shape:
        raise ValueError(f"targets {targets_NL.shape} and probabilities {probabilities_NL.shape} disagree")
    costs = costs or (settings.cost_false_negative, settings.cost_false_positive)
    decisions_NL = thresholds.decide(probabilities_NL)
    judged = Judged(thresholds.labels, targets_NL, probabilities_NL, decisions_NL, costs)
    return bootstrap_of(judged, groups_N=groups_N, settings=settings)


def bootstrap_of(
    judged: Judged, *, groups_N: Sequence[str] | IntArray | None = None, settings: EvaluationSettings
) -> Bootstrap:
    """As `bootstrap`, of decisions that were made already, for example of rows decided out of fold."""
    resampler = make_resampler(judged.targets_NL, groups_N, seed=settings.seed)
    figures: dict[Path, Interval] = {}
    if settings.resamples and len(judged.targets_NL):
        (sampled,) = sample([WeightedFigures(judged)], resampler, settings.resamples)
        figures = _intervals(spread_of(sampled, resampler), resampler, settings.confidence)
    return Bootstrap(
        settings.confidence, settings.resamples, "group" if groups_N is not None else "row", figures
    )


@dataclass(frozen=True, eq=False)
class Sampled:
    """Figures of the table itself, without one block each, and of resamples; NaN where undefined."""

    paths: tuple[Path, ...]
    value_F: Doubles
    jackknife_FB: Doubles
    resampled_FR: Doubles

    def minus(self, other: Sampled) -> Sampled:
        """Differences to another model's figures under the same weights."""
        return Sampled(
            self.paths,
            self.value_F - other.value_F,
            self.jackknife_FB - other.jackknife_FB,
            self.resampled_FR - other.resampled_FR,
        )


def sample(models: Sequence[WeightedFigures], resampler: Resampler, num_resamples: int) -> list[Sampled]:
    """The figures of several models of the same rows, all under the same weights."""
    together = max(1, min(MAX_TOGETHER, MAX_NUMBERS // max(model.widest for model in models)))
    num_rows = len(resampler.units_N)
    blocks_NB = resampler.leave_out_matrix(NUM_BLOCKS)
    results: list[list[Doubles]] = [[] for _ in models]

    with ThreadPoolExecutor(num_threads()) as pool:

        def compute(weights_NR: Doubles) -> None:
            for model, result in zip(models, results, strict=True):
                result.append(model.compute(weights_NR, pool.map))

        compute(np.ones((num_rows, 1)))
        for first in range(0, blocks_NB.shape[1], together):
            compute(np.ascontiguousarray(blocks_NB[:, first : first + together]))
        for first in range(0, num_resamples, together):
            compute(resampler.draw_matrix(first, min(first + together, num_resamples)))
    num_blocks = blocks_NB.shape[1]
    return [
        Sampled(model.paths, all_FR[:, 0], all_FR[:, 1 : num_blocks + 1], all_FR[:, num_blocks + 1 :])
        for model, result in zip(models, results, strict=True)
        for all_FR in [np.concatenate(result, axis=1)]
    ]


def num_threads() -> int:
    """Cores this process may use, at most `MAX_THREADS`; OMP_NUM_THREADS lowers it, as for numpy's own threads."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cores, MAX_THREADS, int(asked) if asked.isdigit() else MAX_THREADS))


@dataclass(frozen=True, eq=False)
class Spread:
    """How figures vary over resamples, made ready for intervals and p-values; F entries each.

    `sorted_FR` holds resampled figures in rising order, undefined ones last; `bias_F` and `acceleration_F` are
    BCa's z0 and a; `stretch_F` and `freedom_F` widen the limits for few units; `cautious_F` lowers lower limits.
    """

    paths: tuple[Path, ...]
    value_F: Doubles
    sorted_FR: Doubles
    defined_F: npt.NDArray[np.int64]
    error_F: Doubles
    bias_F: Doubles
    acceleration_F: Doubles
    stretch_F: Doubles
    freedom_F: Doubles
    cautious_F: Doubles

    def limits(self, confidence: float) -> tuple[Doubles, Doubles]:
        """Lower and upper limits; NaN for figures without a value."""
        reach_F = self.stretch_F * stdtrit(self.freedom_F, 0.5 + confidence / 2.0)
        low_F, high_F = (self._quantile(self._shifted(side * reach_F)) for side in (-1.0, 1.0))
        return low_F - self.cautious_F, high_F

    def p_values(self) -> Doubles:
        """Two-sided p-values of the hypothesis that a figure (a difference) is 0: where a limit would touch 0."""
        num_below_F = _num_below(self.sorted_FR, np.zeros(len(self.value_F)))
        share_F = (num_below_F + 0.5) / (self.defined_F + 1.0)
        step_F = ndtri(share_F) - self.bias_F
        score_F = step_F / np.maximum(1.0 + self.acceleration_F * step_F, 0.1) - self.bias_F
        p_F: Doubles = 2.0 * stdtr(self.freedom_F, -np.abs(score_F) / self.stretch_F)
        # Models that never differ: 0 in every resample.
        p_F[(self.error_F == 0.0) & (self.value_F == 0.0)] = 1.0
        return p_F

    def _shifted(self, score_F: Doubles) -> Doubles:
        """BCa's level: Phi(z0 + (z0 + z) / (1 - a (z0 + z)))."""
        step_F = self.bias_F + score_F
        level_F: Doubles = ndtr(self.bias_F + step_F / np.maximum(1.0 - self.acceleration_F * step_F, 0.1))
        return level_F

    def _quantile(self, level_F: Doubles) -> Doubles:
        place_F = np.clip(level_F * (self.defined_F + 1) - 1.0, 0.0, np.maximum(self.defined_F - 1, 0))
        place_F = np.nan_to_num(place_F)
        before_F = np.floor(place_F).astype(np.int64)
        after_F = np.minimum(before_F + 1, np.maximum(self.defined_F - 1, 0))
        rows_F, part_F = np.arange(len(place_F)), place_F - before_F
        return self.sorted_FR[rows_F, before_F] * (1.0 - part_F) + self.sorted_FR[rows_F, after_F] * part_F


def spread_of(sampled: Sampled, resampler: Resampler, *, cautious: bool = True) -> Spread:
    """What resamples say; `cautious` lowers the lower limits of calibration errors, which differences have not."""
    value_F, resampled_FR = sampled.value_F, sampled.resampled_FR.copy()
    defined_F = np.count_nonzero(~np.isnan(resampled_FR), axis=1)
    centre_F, error_F = _moments(resampled_FR)
    reflected_F = np.array([path[-1] == "ece" for path in sampled.paths])
    resampled_FR[reflected_F] = 2.0 * value_F[reflected_F, None] - resampled_FR[reflected_F]
    sorted_FR = np.sort(resampled_FR, axis=1)
    share_F = (_num_below(sorted_FR, value_F) + 0.5) / (defined_F + 1.0)
    stretch_F, freedom_F = _small_sample(error_F, resampler)
    # A gap that is all noise has the mean c s, and resampling it, with twice the variance, c s sqrt(2). So the bias
    # that resamples show, c s (sqrt(2) - 1), has to be taken off 1 / (sqrt(2) - 1) = 1 + sqrt(2) times, of which the
    # reflection does 1.
    excess_F = math.sqrt(2.0) * np.maximum(centre_F - value_F, 0.0)
    return Spread(
        sampled.paths,
        value_F,
        sorted_FR,
        defined_F,
        error_F,
        bias_F=np.where(reflected_F, 0.0, ndtri(share_F)),
        acceleration_F=np.where(reflected_F, 0.0, _acceleration(sampled.jackknife_FB)),
        stretch_F=stretch_F,
        freedom_F=freedom_F,
        cautious_F=np.where(reflected_F & cautious, excess_F, 0.0),
    )


def _num_below(sorted_FR: Doubles, value_F: Doubles) -> Doubles:
    """How many resamples lie below the value; equal ones, up to rounding errors, count half."""
    margin_F = 1e-12 * np.maximum(np.abs(value_F), 1.0)
    below_F = (sorted_FR < (value_F - margin_F)[:, None]).sum(axis=1)
    above_F = (sorted_FR > (value_F + margin_F)[:, None]).sum(axis=1)
    num_below_F: Doubles = 0.5 * (below_F + (~np.isnan(sorted_FR)).sum(axis=1) - above_F)
    return num_below_F


def _moments(numbers_FR: Doubles) -> tuple[Doubles, Doubles]:
    """Mean and standard deviation over the defined numbers; NaN with fewer than 2."""
    defined_FR = ~np.isnan(numbers_FR)
    count_F = defined_FR.sum(axis=1).astype(np.float64)
    mean_F = quotient(np.nansum(numbers_FR, axis=1), np.where(count_F > 1.0, count_F, 0.0))
    squares_F = np.square(np.where(defined_FR, numbers_FR - mean_F[:, None], 0.0)).sum(axis=1)
    return mean_F, np.sqrt(quotient(squares_F, count_F - 1.0))


def _acceleration(jackknife_FB: Doubles) -> Doubles:
    """Sum of cubes over 6 (sum of squares)^1.5, of how far each block pulls the figure (Efron 1987, eq. 6.7)."""
    mean_F, _ = _moments(jackknife_FB)
    pulls_FB = np.nan_to_num(mean_F[:, None] - jackknife_FB)
    squares_F = np.square(pulls_FB).sum(axis=1)
    # Pulls that are rounding errors have no shape.
    divisors_F = np.where(squares_F > 1e-24, 6.0 * squares_F**1.5, 0.0)
    return np.nan_to_num(quotient((pulls_FB**3).sum(axis=1), divisors_F))


def _small_sample(error_F: Doubles, resampler: Resampler) -> tuple[Doubles, Doubles]:
    """Factor for the limits and degrees of freedom of each figure, in the order of `WeightedFigures.paths`."""
    num_labels, num_metrics = len(resampler.positive_units_L), len(OF_LABELS)
    num_of_labels = num_labels * num_metrics
    positives_L, negatives_L = resampler.positive_units_L, resampler.negative_units_L
    # A label with one side only has precision and recall alone, which are as sure as that side is large.
    smaller_L = np.where(
        (positives_L > 0) & (negatives_L > 0), np.minimum(positives_L, negatives_L), positives_L + negatives_L
    )
    freedom_L = np.maximum(smaller_L - 1.0, 1.0)
    stretch_L = (freedom_L + 1.0) / freedom_L
    freedom_F = np.full(len(error_F), max(resampler.num_units - 1.0, 1.0))
    stretch_F = (freedom_F + 1.0) / freedom_F
    freedom_F[:num_of_labels] = np.repeat(freedom_L, num_metrics)
    stretch_F[:num_of_labels] = np.repeat(stretch_L, num_metrics)
    variance_LM = np.nan_to_num(np.square(error_F[:num_of_labels])).reshape(num_labels, num_metrics)
    for number, weights_L in enumerate((np.ones(num_labels), positives_L.astype(np.float64)), start=1):
        share_LM = variance_LM * np.square(weights_L)[:, None]
        share_LM = share_LM / np.maximum(share_LM.sum(axis=0), 1e-300)
        place = slice(num_of_labels + (number - 1) * num_metrics, num_of_labels + number * num_metrics)
        stretch_F[place] = np.maximum((share_LM * stretch_L[:, None]).sum(axis=0), 1.0)
        freedom_F[place] = 1.0 / np.maximum((np.square(share_LM) / freedom_L[:, None]).sum(axis=0), 1e-9)
    return np.sqrt(stretch_F), freedom_F


def _intervals(spread: Spread, resampler: Resampler, confidence: float) -> dict[Path, Interval]:
    low_F, high_F = spread.limits(confidence)
    reasons = why_none(spread, resampler)
    figures: dict[Path, Interval] = {}
    for number, path in enumerate(spread.paths):
        value, defined = float(spread.value_F[number]), int(spread.defined_F[number])
        shown = None if math.isnan(value) else value
        if reasons[number] is not None:
            figures[path] = Interval(shown, None, None, None, defined, reasons[number])
            continue
        low, high = float(low_F[number]), float(high_F[number])
        if path[-1] == "ece":
            low, high = max(low, 0.0), min(max(high, 0.0), 1.0)
        elif not low < high:
            reason = "the resamples lie on one side of the figure"
            figures[path] = Interval(shown, None, None, None, defined, reason)
            continue
        figures[path] = Interval(shown, low, high, float(spread.error_F[number]), defined)
    return figures


def why_none(spread: Spread, resampler: Resampler) -> list[str | None]:
    """Why a figure has no interval, or None where it has one."""
    unit = "group" if resampler.grouped else "row"
    num_resamples = spread.sorted_FR.shape[1]
    reasons: list[str | None] = []
    num_of_labels = len(resampler.positive_units_L) * len(OF_LABELS)
    for number, path in enumerate(spread.paths):
        column = number // len(OF_LABELS) if number < num_of_labels else None
        reason = None
        if math.isnan(spread.value_F[number]):
            reason = "the figure itself is undefined"
        elif resampler.num_units < MIN_UNITS:
            reason = f"fewer than {MIN_UNITS} {unit}s"
        elif column is not None and resampler.positive_units_L[column] < MIN_UNITS:
            reason = f"fewer than {MIN_UNITS} positive {unit}s"
        elif (
            column is not None
            and path[-1] in NEEDS_NEGATIVES
            and resampler.negative_units_L[column] < MIN_UNITS
        ):
            reason = f"fewer than {MIN_UNITS} negative {unit}s"
        elif spread.defined_F[number] < max(MIN_DEFINED * num_resamples, 2):
            reason = "undefined in many resamples"
        elif not spread.error_F[number] > 1e-12:
            reason = "the same in every resample"
        reasons.append(reason)
    return reasons
