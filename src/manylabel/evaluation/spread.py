"""How figures vary over resamples: drawn, computed and made ready for intervals; called by `evaluation.intervals`.

`evaluation.paired` and the intervals of bias and robustness use it too. What the limits are is told in
`evaluation.intervals`.

Letters: F figures, R resamples, B blocks of the jackknife, L labels, M metrics of a label, G units.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from manylabel.evaluation.resampling import Resampler
from manylabel.evaluation.weighted import Doubles, Figures, Path, quotient

NUM_BLOCKS = 100
MAX_TOGETHER = 64
MAX_NUMBERS = 2**22
"""Weight vectors are computed this many at a time, and so that no array of theirs exceeds 32 MB."""
MAX_THREADS = 4


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


def sample(models: Sequence[Figures], resampler: Resampler, num_resamples: int) -> list[Sampled]:
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


def spread_of(
    sampled: Sampled, resampler: Resampler, *, cautious: bool = True, units_F: Doubles | None = None
) -> Spread:
    """What resamples say; `cautious` lowers the lower limits of calibration errors, which differences have not.

    `units_F` is the number of units behind each figure; where it is None, paths begin with those of the labels.
    """
    value_F, resampled_FR = sampled.value_F, sampled.resampled_FR.copy()
    defined_F = np.count_nonzero(~np.isnan(resampled_FR), axis=1)
    centre_F, error_F = _moments(resampled_FR)
    reflected_F = np.array([path[-1] == "ece" for path in sampled.paths])
    resampled_FR[reflected_F] = 2.0 * value_F[reflected_F, None] - resampled_FR[reflected_F]
    sorted_FR = np.sort(resampled_FR, axis=1)
    share_F = (_num_below(sorted_FR, value_F) + 0.5) / (defined_F + 1.0)
    if units_F is None:
        stretch_F, freedom_F = _small_sample(sampled.paths, error_F, resampler)
    else:
        freedom_F = np.maximum(units_F - 1.0, 1.0)
        stretch_F = np.sqrt((freedom_F + 1.0) / freedom_F)
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


def _small_sample(paths: Sequence[Path], error_F: Doubles, resampler: Resampler) -> tuple[Doubles, Doubles]:
    """Factor for the limits and degrees of freedom of each figure; the labels' come first, with equal metrics."""
    num_labels, num_metrics = len(resampler.positive_units_L), metrics_of_a_label(paths, resampler)
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
    weights = {"macro": np.ones(num_labels), "weighted": positives_L.astype(np.float64)}
    averages = [path[0] for path in paths]
    for average in weights.keys() & set(averages):
        share_LM = variance_LM * np.square(weights[average])[:, None]
        share_LM = share_LM / np.maximum(share_LM.sum(axis=0), 1e-300)
        place = slice(averages.index(average), averages.index(average) + num_metrics)
        stretch_F[place] = np.maximum((share_LM * stretch_L[:, None]).sum(axis=0), 1.0)
        freedom_F[place] = 1.0 / np.maximum((np.square(share_LM) / freedom_L[:, None]).sum(axis=0), 1e-9)
    return np.sqrt(stretch_F), freedom_F


def metrics_of_a_label(paths: Sequence[Path], resampler: Resampler) -> int:
    """M: how many figures each label has."""
    return sum(path[0] == "labels" for path in paths) // max(len(resampler.positive_units_L), 1)
