"""Whether one model is better than another on the same rows; called by the comparing recipe and the report.

Two tests, both of which treat the rows (or the groups) as the sample and the two models as given:

- the paired bootstrap: both models under the same row weights, the difference b - a with its interval
  (as in `evaluation.intervals`) and the p-value at which that interval would touch 0;
- a permutation test of exchangeability: where it makes no odds which of the two models judged a row, their judgements
  may be swapped; they are in a random half of the rows again and again (by group where groups are given; all labels
  of a row together). For what ranks, each model's probabilities are replaced by their ranks within the label first,
  as a swap would otherwise mix two scales (Bandos, Rockette and Gur 2005, "A permutation test sensitive to
  differences in areas for comparing ROC curves from a paired design"). Tested are `PERMUTED`: average precision, ROC-
  AUC and F1 of the labels and their macro averages, and micro F1; micro averages of what ranks would compare ranks of
  different labels, and are left to the bootstrap.  Models may be equally good and not exchangeable, for example with
  equal F1 from other precision and recall; so the p-value of a figure is the larger of the two tests'. p-values of
  labels are corrected with Holm's method (1979) over the labels, for each metric on its own.
Letters: N rows, L labels, R permutations, F figures, M tested metrics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import rankdata

from manylabel.config.schema import EvaluationSettings
from manylabel.decisions.thresholds import Thresholds
from manylabel.errors import counted
from manylabel.evaluation.holm import holm
from manylabel.evaluation.intervals import nested, why_none
from manylabel.evaluation.resampling import Resampler, make_resampler
from manylabel.evaluation.spread import MAX_NUMBERS, MAX_TOGETHER, num_threads, sample, spread_of
from manylabel.evaluation.weighted import (
    OF_LABELS,
    Doubles,
    Judged,
    Path,
    Ranking,
    WeightedFigures,
    decision_figures,
    quotient,
)
from manylabel.values import NOT_ANNOTATED, FloatArray, IntArray

NOT_DRAWN = "no resamples were drawn"
PERMUTED = ("roc_auc", "average_precision", "f1")
CONCLUDED_FROM = ("average_precision", "f1")
"""The macro averages that the conclusion speaks of: of the first that is defined."""


@dataclass(frozen=True)
class Difference:
    """One figure of models a and b; `difference` is b - a, in the figure's unit.

    `reason` says why there is no interval. `p_corrected` is `p` after Holm's correction over the labels, for figures
    of labels only.
    """

    a: float | None
    b: float | None
    difference: float | None
    low: float | None = None
    high: float | None = None
    p_bootstrap: float | None = None
    p_permutation: float | None = None
    p_corrected: float | None = None
    reason: str | None = None

    @property
    def p(self) -> float | None:
        """The larger of both p-values where the figure was tested in both ways, else the one there is.

        The permutation test alone also rejects models of equal F1 that trade precision for recall differently.
        """
        found = [each for each in (self.p_bootstrap, self.p_permutation) if each is not None]
        return max(found) if found else None

    def to_json(self) -> dict[str, Any]:
        """Plain values; p_corrected and reason are left out where there is none."""
        optional = {"p_corrected": self.p_corrected, "reason": self.reason}
        return {
            "a": self.a,
            "b": self.b,
            "difference": self.difference,
            "low": self.low,
            "high": self.high,
            "p": self.p,
            "p_bootstrap": self.p_bootstrap,
            "p_permutation": self.p_permutation,
            **{key: value for key, value in optional.items() if value is not None},
        }


@dataclass(frozen=True, eq=False)
class Comparison:
    """Differences by path; `unit` is what was drawn and swapped, rows or groups."""

    labels: tuple[str, ...]
    confidence: float
    resamples: int
    unit: str
    figures: Mapping[Path, Difference]

    def verdict(self) -> str:
        """`better` or `worse` (b than a), `no difference shown` or `not comparable`.

        A difference is shown where interval and permutation test of the macro average agree on it.
        """
        figure = self._concluded()[1]
        if figure is not None and figure.difference == 0.0:
            return "no difference shown"
        if figure is None or figure.low is None or figure.high is None or figure.p_permutation is None:
            return "not comparable"
        if figure.p_permutation > 1.0 - self.confidence or figure.low <= 0.0 <= figure.high:
            return "no difference shown"
        return "better" if figure.low > 0.0 else "worse"

    def differing(self, metric: str = CONCLUDED_FROM[0]) -> tuple[list[str], list[str]]:
        """Names of the labels on which b is better and worse than a, after correction over the labels."""
        better: list[str] = []
        worse: list[str] = []
        for name in self.labels:
            figure = self.figures.get(("labels", name, metric))
            if figure is None or figure.difference is None or figure.p_corrected is None:
                continue
            if figure.p_corrected <= 1.0 - self.confidence:
                (better if figure.difference > 0.0 else worse).append(name)
        return better, worse

    def conclusion(self, a: str = "model A", b: str = "model B") -> str:
        """One sentence: who is better by how much, how sure that is, and on how many labels."""
        metric, figure = self._concluded()
        name = f"macro {metric.replace('_', ' ').replace('f1', 'F1')}"
        verdict = self.verdict()
        if verdict == "not comparable" or figure is None:
            reason = figure.reason if figure is not None and figure.reason else "there is no interval for it"
            return f"{_capital(b)} and {a} cannot be compared by {name}: {reason}."
        opening = {
            "better": f"{_capital(b)} is better than {a}",
            "worse": f"{_capital(b)} is worse than {a}",
        }.get(verdict, f"No difference between {b} and {a} is shown")
        assert figure.a is not None
        assert figure.b is not None
        if figure.low is None or figure.high is None:
            return f"{opening}: {name} {figure.b:.3f} for both."
        return (
            f"{opening}: {name} {figure.b:.3f} against {figure.a:.3f}, difference "
            f"{figure.difference:+.3f} ({100 * self.confidence:g} % interval {figure.low:+.3f} to "
            f"{figure.high:+.3f}, p {_p_value(figure.p)}); {self._labels_differ(metric)}."
        )

    def to_json(self, a: str = "model A", b: str = "model B") -> dict[str, Any]:
        """Plain values for `json.dumps(..., allow_nan=False)`; the conclusion calls the models `a` and `b`.

        `figures` has one entry a figure, named as `macro/f1`, `labels` one a label and metric.
        """
        better, worse = self.differing()
        of_labels = {path: each.to_json() for path, each in self.figures.items() if path[0] == "labels"}
        return {
            "confidence": self.confidence,
            "resamples": self.resamples,
            "unit": self.unit,
            "verdict": self.verdict(),
            "conclusion": self.conclusion(a, b),
            "labels_better": better,
            "labels_worse": worse,
            "figures": {
                "/".join(path): each.to_json() for path, each in self.figures.items() if len(path) == 2
            },
            "labels": nested(of_labels).get("labels", {}),
        }

    def _concluded(self) -> tuple[str, Difference | None]:
        for metric in CONCLUDED_FROM:
            figure = self.figures.get(("macro", metric))
            if figure is not None and figure.low is not None:
                return metric, figure
        return CONCLUDED_FROM[0], self.figures.get(("macro", CONCLUDED_FROM[0]))

    def _labels_differ(self, metric: str) -> str:
        tested = [self.figures["labels", name, metric] for name in self.labels]
        num_tested = sum(figure.p_corrected is not None for figure in tested)
        if num_tested / (self.resamples + 1) > 1.0 - self.confidence:
            too_few = f"{counted(self.resamples, 'resample')} are too few"
            return f"{too_few} to test {counted(num_tested, 'label')} one by one"
        better, worse = self.differing(metric)
        after = f"after Holm's correction {len(better) + len(worse)} of {counted(num_tested, 'label')}"
        return f"{after} differ ({len(better)} better, {len(worse)} worse)"


def compare(
    targets_NL: IntArray,
    probabilities_a_NL: FloatArray,
    thresholds_a: Thresholds,
    probabilities_b_NL: FloatArray,
    thresholds_b: Thresholds,
    *,
    groups_N: Sequence[str] | IntArray | None = None,
    settings: EvaluationSettings,
) -> Comparison:
    """Model b against model a on the same N rows and L labels; thresholds are taken as fixed.

    `targets_NL` holds 1, 0 and -1 (not annotated), probabilities are numbers in [0, 1]. `settings.resamples` is the
    number of resamples and of permutations. Without resamples or rows there are no figures.

    Raises:
        ValueError: shapes or label names disagree, or there is not one group a row.

    """
    if thresholds_a.labels != thresholds_b.labels:
        raise ValueError("the models have different labels or another order of them")
    if not targets_NL.shape == probabilities_a_NL.shape == probabilities_b_NL.shape:
        raise ValueError("targets and probabilities disagree in shape")
    costs = (settings.cost_false_negative, settings.cost_false_positive)
    first, second = (
        Judged(thresholds.labels, targets_NL, probabilities_NL, thresholds.decide(probabilities_NL), costs)
        for probabilities_NL, thresholds in (
            (probabilities_a_NL, thresholds_a),
            (probabilities_b_NL, thresholds_b),
        )
    )
    return compare_judged(first, second, groups_N=groups_N, settings=settings)


def compare_judged(
    first: Judged,
    second: Judged,
    *,
    groups_N: Sequence[str] | IntArray | None = None,
    settings: EvaluationSettings,
) -> Comparison:
    """As `compare`, of decisions that were made already; both hold the same labels and targets."""
    labels, unit = first.labels, "row" if groups_N is None else "group"
    resampler = make_resampler(first.targets_NL, groups_N, seed=settings.seed)
    if not settings.resamples or not len(first.targets_NL):
        return Comparison(labels, settings.confidence, settings.resamples, unit, _plain(first, second))
    figures = _bootstrap_figures(first, second, resampler, settings)
    p_values = permutation_p_values(first, second, resampler, settings.resamples)
    figures = _with_permutation(figures, p_values)
    return Comparison(labels, settings.confidence, settings.resamples, unit, figures)


def _plain(first: Judged, second: Judged) -> dict[Path, Difference]:
    """The figures and their differences without intervals; none without rows."""
    if not len(first.targets_NL):
        return {}
    whole_N1, model = np.ones((len(first.targets_NL), 1)), WeightedFigures(first)
    values_F, others_F = model.compute(whole_N1)[:, 0], WeightedFigures(second).compute(whole_N1)[:, 0]
    return {
        path: Difference(_number(value), _number(other), _number(other - value), reason=NOT_DRAWN)
        for path, value, other in zip(model.paths, values_F, others_F, strict=True)
    }


def _bootstrap_figures(
    first: Judged, second: Judged, resampler: Resampler, settings: EvaluationSettings
) -> dict[Path, Difference]:
    models = [WeightedFigures(first), WeightedFigures(second)]
    of_first, of_second = sample(models, resampler, settings.resamples)
    spread = spread_of(of_second.minus(of_first), resampler, cautious=False)
    low_F, high_F = spread.limits(settings.confidence)
    p_F = spread.p_values()
    figures = {}
    for number, (path, reason) in enumerate(zip(spread.paths, why_none(spread, resampler), strict=True)):
        has_interval = reason is None
        never_differs = spread.error_F[number] == 0.0 and spread.value_F[number] == 0.0
        figures[path] = Difference(
            a=_number(of_first.value_F[number]),
            b=_number(of_second.value_F[number]),
            difference=_number(spread.value_F[number]),
            low=float(low_F[number]) if has_interval else None,
            high=float(high_F[number]) if has_interval else None,
            p_bootstrap=float(p_F[number]) if has_interval or never_differs else None,
            reason=reason,
        )
    return figures


def _with_permutation(
    figures: Mapping[Path, Difference], p_values: Mapping[Path, float]
) -> dict[Path, Difference]:
    tested = {path: replace(figure, p_permutation=p_values.get(path)) for path, figure in figures.items()}
    for metric in OF_LABELS:
        of_metric = {
            path: figure.p
            for path, figure in tested.items()
            if path[0] == "labels" and path[2] == metric and figure.p is not None
        }
        for path, p_corrected in zip(of_metric, holm([*of_metric.values()]), strict=True):
            tested[path] = replace(tested[path], p_corrected=p_corrected)
    return tested


def permutation_p_values(
    first: Judged, second: Judged, resampler: Resampler, num_permutations: int
) -> dict[Path, float]:
    """Two-sided p-values of the `PERMUTED` figures that both models have: (1 + as extreme) / (1 + permutations)."""
    num_rows, num_labels = first.targets_NL.shape
    pairs = [_Pair(first, second, column) for column in range(num_labels)]
    together = max(1, min(MAX_TOGETHER, MAX_NUMBERS // (2 * num_rows)))
    parts: list[Doubles] = []
    with ThreadPoolExecutor(num_threads()) as pool:

        def compute(swap_NR: Doubles) -> None:
            pairs_LMR = np.stack(list(pool.map(lambda pair: pair.measure(swap_NR), pairs)))
            parts.append(_differences(pairs_LMR))

        compute(np.zeros((num_rows, 1)))
        for start in range(0, num_permutations, together):
            compute(resampler.swap_matrix(start, min(start + together, num_permutations)))
    differences_FR = np.concatenate(parts, axis=1)
    paths: list[Path] = [("labels", name, metric) for name in first.labels for metric in PERMUTED]
    paths += [*(("macro", metric) for metric in PERMUTED), ("micro", "f1")]
    observed_F, permuted_FR = differences_FR[:, :1], differences_FR[:, 1:]
    as_extreme_F = (np.abs(permuted_FR) >= np.abs(observed_F) - 1e-12).sum(axis=1)
    return {
        path: float((1 + as_extreme) / (1 + num_permutations))
        for path, as_extreme, observed in zip(paths, as_extreme_F, observed_F[:, 0], strict=True)
        if not math.isnan(observed)
    }


class _Pair:
    """Both models' judgements of one label's annotated cells, to be swapped row by row."""

    def __init__(self, first: Judged, second: Judged, column: int) -> None:
        num_rows = len(first.targets_NL)
        rows = np.flatnonzero(first.targets_NL[:, column] != NOT_ANNOTATED)
        targets = first.targets_NL[rows, column]
        ranks = [rankdata(judged.probabilities_NL[rows, column]) for judged in (first, second)]
        # Rows N and up are the second model's; a row and its twin have weights that add up to 1.
        self._ranking = Ranking(
            np.concatenate([targets, targets]),
            np.concatenate(ranks),
            np.concatenate([rows, rows + num_rows]),
            2 * num_rows,
        )
        annotated_N, positive_N = (
            first.targets_NL[:, column] != NOT_ANNOTATED,
            first.targets_NL[:, column] == 1,
        )
        self._cells_MN = np.concatenate(
            [
                [
                    positive_N,
                    judged.decisions_NL[:, column] & annotated_N,
                    judged.decisions_NL[:, column] & positive_N,
                ]
                for judged in (first, second)
            ],
            axis=1,
        ).astype(np.float64)

    def measure(self, swap_NR: Doubles) -> Doubles:
        """For what stands in the first model's place, then in the second's: ROC-AUC, average precision, F1, sums."""
        both = []
        for weights_NR in (
            np.concatenate([1.0 - swap_NR, swap_NR]),
            np.concatenate([swap_NR, 1.0 - swap_NR]),
        ):
            sums_MR = self._cells_MN @ weights_NR
            both.append([*self._ranking.measure(weights_NR), decision_figures(sums_MR)[2], *sums_MR])
        return np.array(both).reshape(12, -1)


def _differences(pairs_LMR: Doubles) -> Doubles:
    """Second - first: the tested metrics of each label, their macro averages, micro F1; (3 L + 3 + 1) x R."""
    num_permutations = pairs_LMR.shape[-1]
    first_LMR, second_LMR = pairs_LMR[:, :6], pairs_LMR[:, 6:]
    labels_LMR = second_LMR[:, :3] - first_LMR[:, :3]
    defined_LMR = ~np.isnan(labels_LMR)
    macro_MR = quotient(np.nansum(labels_LMR, axis=0), defined_LMR.sum(axis=0).astype(np.float64))
    micro_R = (
        decision_figures(second_LMR[:, 3:].sum(axis=0))[2] - decision_figures(first_LMR[:, 3:].sum(axis=0))[2]
    )
    return np.concatenate([labels_LMR.reshape(-1, num_permutations), macro_MR, micro_R[None]])


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _p_value(p: float | None) -> str:
    assert p is not None
    return f"= {p:.3f}" if p >= 0.0005 else "< 0.001"
