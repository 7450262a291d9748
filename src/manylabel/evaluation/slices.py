"""Figures on parts of the rows: by length, language or any column; called by recipes, also for disguised texts.

A slice is named by a column and a value of it. One with few rows is counted but not judged. Macro figures of two slices
may average over different labels, because a label without positives in a slice has no figure there; `undefined` says
how many labels each macro figure leaves out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from manylabel.decisions.thresholds import Thresholds
from manylabel.evaluation import metrics
from manylabel.evaluation.metrics import Measured
from manylabel.values import BoolArray, FloatArray, IntArray

SLICED = ("roc_auc", "average_precision", "f1")
LENGTH_BOUNDS = (16, 64, 256)
"""Upper ends of the length slices in tokens: 1-16, 17-64, 65-256, 257+."""
TOP_VALUES = 20
MIN_ROWS = 30
"""With fewer rows a figure is mostly chance: the standard error of a share of 0.5 is then above 0.09."""
MAX_VALUE_CHARACTERS = 60
OTHER = "(other)"
MISSING = "(missing)"

Intervals = Callable[[IntArray], Mapping[str, object]]
"""Row indices K of a slice -> {"macro": {METRIC: [low, high]}, "micro": {METRIC: [low, high]}}."""


@dataclass(frozen=True, eq=False)
class Slice:
    """The K rows, as rising indices, in which `column` has `value`."""

    column: str
    value: str
    rows_K: IntArray


@dataclass(frozen=True)
class AverageFigures:
    """Macro and micro ROC-AUC, average precision and F1; a figure without meaning is None, with its reason.

    `undefined` counts, per metric, the labels that the macro figure leaves out, of `labels` in all; keys of `reasons`
    are `macro/METRIC` and `micro/METRIC`.
    """

    macro: Mapping[str, float | None]
    micro: Mapping[str, float | None]
    undefined: Mapping[str, int]
    reasons: Mapping[str, str]
    labels: int = 0

    def to_json(self) -> dict[str, object]:
        """Plain values, undefined figures as null; `labels_judged` are those that a macro figure is the mean of."""
        return {
            "labels": self.labels,
            "labels_judged": {metric: self.labels - count for metric, count in self.undefined.items()},
            "macro": dict(self.macro),
            "micro": dict(self.micro),
            "undefined": dict(self.undefined),
            "reasons": dict(self.reasons),
        }


@dataclass(frozen=True)
class SliceFigures:
    """Figures of one slice; `figures` is None, with a `reason`, for a slice of too few rows."""

    column: str
    value: str
    rows: int
    figures: AverageFigures | None
    intervals: Mapping[str, object] = field(default_factory=dict)
    reason: str | None = None

    def to_json(self) -> dict[str, object]:
        """Plain values; a slice without figures has null for each."""
        nothing = dict.fromkeys(SLICED)
        figures = (
            {"macro": nothing, "micro": dict(nothing)} if self.figures is None else self.figures.to_json()
        )
        content = {"column": self.column, "value": self.value, "rows": self.rows, **figures}
        if self.intervals:
            content["intervals"] = dict(self.intervals)
        return {**content, "reason": self.reason}


def slices_by_length(lengths_N: IntArray, *, bounds: Sequence[int] = LENGTH_BOUNDS) -> list[Slice]:
    """Slices of N lengths in tokens; `bounds` are rising upper ends, the last slice is open. Without the empty ones."""
    bins_N = np.searchsorted(np.asarray(bounds), lengths_N, side="left")
    starts = [1, *(bound + 1 for bound in bounds)]
    names = [*(f"{start}-{end}" for start, end in zip(starts, bounds, strict=False)), f"{starts[-1]}+"]
    slices = (Slice("length", name, np.flatnonzero(bins_N == index)) for index, name in enumerate(names))
    return [each for each in slices if len(each.rows_K)]


def quantile_bounds(lengths_N: IntArray, parts: int = 4) -> tuple[int, ...]:
    """Bounds for `slices_by_length` that make about equally large slices; fewer than parts - 1 where lengths repeat."""
    if not len(lengths_N):
        return ()
    shares = np.arange(1, parts) / parts
    bounds = {int(bound) for bound in np.quantile(lengths_N, shares, method="lower")}
    return tuple(sorted(bound for bound in bounds if bound < lengths_N.max()))


def slices_by_value(column: str, values_N: Sequence[str | None], *, top: int = TOP_VALUES) -> list[Slice]:
    """One slice for each of the `top` most frequent values, then the rest as (other), None as (missing).

    Of equally frequent values the first in sort order wins. Values are cut to 60 characters in names.
    """
    counts = Counter(value for value in values_N if value is not None)
    ranked = sorted(counts, key=lambda value: (-counts[value], value))
    # A rest of one value is shown as itself.
    kept = ranked if len(ranked) <= top + 1 else ranked[:top]
    places = {value: place for place, value in enumerate(kept)}
    other, missing = len(kept), len(kept) + 1
    owner_N = np.array(
        [missing if value is None else places.get(value, other) for value in values_N], dtype=np.int64
    )
    names = [*(_shown(value) for value in kept), OTHER, MISSING]
    order = np.argsort(owner_N, kind="stable")
    starts = np.searchsorted(owner_N[order], np.arange(len(names) + 1))
    slices = (Slice(column, name, order[starts[i] : starts[i + 1]]) for i, name in enumerate(names))
    return [each for each in slices if len(each.rows_K)]


def _shown(value: str) -> str:
    """The value as a name; one that reads like ours, (other) or (missing), is put in quotes."""
    if value in (OTHER, MISSING):
        return f'"{value}"'
    return value if len(value) <= MAX_VALUE_CHARACTERS else value[: MAX_VALUE_CHARACTERS - 3] + "..."


def evaluate_slices(
    targets_NL: IntArray,
    probabilities_NL: FloatArray,
    thresholds: Thresholds,
    slices: Sequence[Slice],
    *,
    min_rows: int = MIN_ROWS,
    intervals: Intervals | None = None,
) -> list[SliceFigures]:
    """Figures of each slice, in order; slices of fewer than `min_rows` rows are only counted.

    `targets_NL` holds 1, 0 and -1 (not annotated), `probabilities_NL` numbers in [0, 1]; `intervals` gives the
    intervals of a slice from the indices of its rows. Raises ValueError when shapes disagree.
    """
    if targets_NL.shape != probabilities_NL.shape:
        raise ValueError(f"targets {targets_NL.shape} and probabilities {probabilities_NL.shape} disagree")
    decisions_NL = thresholds.decide(probabilities_NL)
    found = []
    for each in slices:
        rows_K = each.rows_K
        if len(rows_K) < min_rows:
            reason = f"{len(rows_K)} rows, at least {min_rows} needed"
            found.append(SliceFigures(each.column, each.value, len(rows_K), None, reason=reason))
            continue
        figures = average_figures(targets_NL[rows_K], probabilities_NL[rows_K], decisions_NL[rows_K])
        of_slice = {} if intervals is None else intervals(rows_K)
        found.append(SliceFigures(each.column, each.value, len(rows_K), figures, of_slice))
    return found


def average_figures(
    targets_KL: IntArray, probabilities_KL: FloatArray, decisions_KL: BoolArray
) -> AverageFigures:
    """Macro and micro ROC-AUC, average precision and F1 of K rows; cells with -1 count nowhere."""
    labels = [
        _measured(targets_KL[:, column], probabilities_KL[:, column], decisions_KL[:, column])
        for column in range(targets_KL.shape[1])
    ]
    averages = {
        "macro": {metric: metrics.mean_of_defined([each[metric] for each in labels]) for metric in SLICED},
        "micro": _measured(targets_KL, probabilities_KL, decisions_KL),
    }
    return AverageFigures(
        macro={metric: each.value for metric, each in averages["macro"].items()},
        micro={metric: each.value for metric, each in averages["micro"].items()},
        undefined={metric: sum(each[metric].value is None for each in labels) for metric in SLICED},
        reasons={
            f"{kind}/{metric}": each.reason
            for kind, measured in averages.items()
            for metric, each in measured.items()
            if each.reason is not None
        },
        labels=len(labels),
    )


def _measured(
    targets_K: IntArray, probabilities_K: FloatArray, decisions_K: BoolArray
) -> dict[str, Measured]:
    annotated_K = targets_K >= 0
    targets, probabilities = targets_K[annotated_K], probabilities_K[annotated_K]
    return {
        "roc_auc": metrics.roc_auc(targets, probabilities),
        "average_precision": metrics.average_precision(targets, probabilities),
        "f1": metrics.f1(metrics.count(targets_K, decisions_K)),
    }
