"""The charts of each label: precision-recall, ROC, reliability, scores; and reliability over all labels.

Called by contents.py and comparison.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from manylabel.evaluation.proper import expected_calibration_error
from manylabel.report import charts, curves
from manylabel.report.inputs import ReportInputs
from manylabel.report.numbers import figure, shown, whole
from manylabel.values import BoolArray, FloatArray

MOST_CHARTED = 40
"""Labels with charts; with more of them, those of most positive rows."""


@dataclass(frozen=True)
class LabelPanels:
    """One label's name, a line of its figures, and its charts."""

    name: str
    line: str
    panels: tuple[Markup, ...]


@dataclass(frozen=True)
class Column:
    """One label's annotated rows: which are positive, and their scores in [0, 1]."""

    positive_K: BoolArray
    scores_K: FloatArray


def column_of(inputs: ReportInputs, scores_NL: FloatArray | None, column: int) -> Column | None:
    """The annotated rows of one label with the scores of one table; None without such a table."""
    if scores_NL is None:
        return None
    annotated_N = inputs.annotated_NL[:, column]
    return Column(
        inputs.targets_NL[annotated_N, column] == 1, scores_NL[annotated_N, column].astype(np.float64)
    )


def calibration_error(column: Column) -> float | None:
    """The expected calibration error as the evaluation defines it; None without rows."""
    return expected_calibration_error(column.positive_K.astype(np.int8), column.scores_K).value


def charted_columns(inputs: ReportInputs, most: int = MOST_CHARTED) -> list[int]:
    """The labels to draw, in column order: all, or those of most positive rows."""
    supports_L = np.count_nonzero(inputs.targets_NL == 1, axis=0)
    return sorted(np.argsort(-supports_L, kind="stable")[:most].tolist())


def calibration_errors(inputs: ReportInputs) -> dict[str, float | None]:
    """Each label's expected calibration error: the evaluation's, or computed as there."""
    errors: dict[str, float | None] = {}
    for index, name in enumerate(inputs.labels):
        column = column_of(inputs, inputs.probabilities_NL, index)
        assert column is not None
        given = inputs.figure("labels", name, "ece")
        errors[name] = calibration_error(column) if given is None else given
    return errors


def label_panels(inputs: ReportInputs, column: int, error: float | None) -> LabelPanels:
    """The charts of one label; a label of one class has no curves, and says so."""
    name = inputs.labels[column]
    own = column_of(inputs, inputs.probabilities_NL, column)
    assert own is not None
    line = (
        f"{whole(int(own.positive_K.sum()))} positives · average precision "
        f"{figure(inputs.figure('labels', name, 'average_precision'))} · ROC-AUC "
        f"{figure(inputs.figure('labels', name, 'roc_auc'))} · ECE {figure(error)}"
    )
    panels = (
        *_curves(inputs, column, own),
        _reliability(inputs, column, own, error),
        _histogram(inputs, column, own),
    )
    return LabelPanels(shown(name, 80), line, tuple(filter(None, panels)))


def _curves(inputs: ReportInputs, column: int, own: Column) -> tuple[Markup, ...]:
    of_model = curves.ranking_curves(own.positive_K, own.scores_K)
    if of_model is None:
        return ()
    name = inputs.labels[column]
    other = column_of(inputs, inputs.baseline_probabilities_NL, column)
    of_other = None if other is None else curves.ranking_curves(other.positive_K, other.scores_K)
    precision_point, rate_point = _at_threshold(own, float(inputs.thresholds.values_L[column]))
    beside = "; dashed: the baseline" if of_other else ""
    precision = charts.curve_panel(
        "Precision and recall",
        f"Precision over recall of {shown(name, 80)}, average precision "
        f"{figure(inputs.figure('labels', name, 'average_precision'))}{beside}",
        of_model[0],
        None if of_other is None else of_other[0],
        axes=("recall", "precision"),
        here=precision_point,
    )
    rates = charts.curve_panel(
        "ROC",
        f"True over false positive rate of {shown(name, 80)}, ROC-AUC "
        f"{figure(inputs.figure('labels', name, 'roc_auc'))}{beside}",
        of_model[1],
        None if of_other is None else of_other[1],
        axes=("false positive rate", "true positive rate"),
        here=rate_point,
        diagonal=True,
    )
    return precision, rates


def _at_threshold(own: Column, threshold: float) -> tuple[tuple[float, float] | None, tuple[float, float]]:
    """Where the threshold lies on the two curves; no precision where nothing is decided."""
    decided_K = own.scores_K >= threshold
    decided, hits = int(decided_K.sum()), int((decided_K & own.positive_K).sum())
    positives = int(own.positive_K.sum())
    recall = hits / positives
    false_rate = (decided - hits) / (len(own.positive_K) - positives)
    return ((recall, hits / decided) if decided else None), (false_rate, recall)


def _reliability(inputs: ReportInputs, column: int, own: Column, error: float | None) -> Markup | None:
    if not len(own.scores_K):
        return None
    before = column_of(inputs, inputs.uncalibrated_NL, column)
    sentence = (
        f"Share of positives over mean score of {shown(inputs.labels[column], 80)}, ECE {figure(error)}"
    )
    if before is not None:
        sentence += f"; before calibration {figure(calibration_error(before))}"
    return charts.reliability_panel(
        "Reliability",
        sentence,
        curves.reliability(own.positive_K, own.scores_K),
        None if before is None else curves.reliability(before.positive_K, before.scores_K),
    )


def _histogram(inputs: ReportInputs, column: int, own: Column) -> Markup | None:
    if not len(own.scores_K):
        return None
    sentence = f"Rows by score of {shown(inputs.labels[column], 80)}, positives upwards, negatives downwards"
    counts = curves.score_counts(own.positive_K, own.scores_K)
    return charts.histogram_panel(
        "Scores, log rows", sentence, counts, float(inputs.thresholds.values_L[column])
    )


def pooled_reliability(inputs: ReportInputs) -> Markup | None:
    """Reliability over the cells of all labels together."""
    annotated_NL = inputs.annotated_NL
    if not annotated_NL.any():
        return None
    positive_K = inputs.targets_NL[annotated_NL] == 1
    before = inputs.uncalibrated_NL
    return charts.reliability_panel(
        "All labels together",
        "Share of positives over mean score, cells of all labels",
        curves.reliability(positive_K, inputs.probabilities_NL[annotated_NL].astype(np.float64)),
        None if before is None else curves.reliability(positive_K, before[annotated_NL].astype(np.float64)),
    )
