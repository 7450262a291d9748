"""Targets, probabilities and thresholds in, a frozen `Evaluation` out; called by recipes.

Beyond its inputs it holds a few copies of one column, a chunk of rows, a dozen numbers a row, and for the micro
average of the ranking metrics about eight numbers a cell.
"""

from __future__ import annotations

import numpy as np

from manylabel.decisions.thresholds import Thresholds
from manylabel.evaluation import metrics, proper
from manylabel.evaluation.metrics import Measured
from manylabel.evaluation.ranking import ranking_means
from manylabel.evaluation.result import (
    OF_LABELS,
    OF_SAMPLES,
    Averages,
    Evaluation,
    LabelEvaluation,
)
from manylabel.values import NOT_ANNOTATED, BoolArray, FloatArray, IntArray


def evaluate(
    targets_NL: IntArray,
    probabilities_NL: FloatArray,
    thresholds: Thresholds,
    *,
    cost_false_negative: float = 1.0,
    cost_false_positive: float = 1.0,
    decisions_NL: BoolArray | None = None,
) -> Evaluation:
    """All metrics of N rows and L labels at the given thresholds; every average leaves undefined labels out.

    `targets_NL` holds 1, 0 and -1 (not annotated), `probabilities_NL` numbers in [0, 1]. What has no meaning
    on these rows is None with a reason; see `manylabel.evaluation.metrics`. No rows at all are allowed. The
    costs of a missed label and of a false alarm are for the expected cost alone. `decisions_NL` are given where not
    these thresholds decided, as for rows scored out of fold.

    Raises:
        ValueError: shapes disagree, targets hold another number, or a probability is outside [0, 1] or NaN.

    """
    _check(targets_NL, probabilities_NL, thresholds)
    if decisions_NL is None:
        decisions_NL = thresholds.decide(probabilities_NL)
    measured = [
        _measure_label(targets_NL[:, column], probabilities_NL[:, column], decisions_NL[:, column])
        for column in range(len(thresholds.labels))
    ]
    labels = tuple(
        _label(thresholds, column, targets_NL[:, column], measured[column]) for column in range(len(measured))
    )
    complete_N = (targets_NL != NOT_ANNOTATED).all(axis=1)
    rows = slice(None) if complete_N.all() else np.flatnonzero(complete_N)
    targets_RL, probabilities_RL, decisions_RL = targets_NL[rows], probabilities_NL[rows], decisions_NL[rows]
    ranked = ranking_means(targets_RL, probabilities_RL)
    counts = metrics.count(targets_NL, decisions_NL)
    overall = {
        "accuracy": metrics.accuracy(targets_NL, decisions_NL),
        "subset_accuracy": metrics.subset_accuracy(targets_RL, decisions_RL),
        "hamming_loss": metrics.hamming_loss(targets_NL, decisions_NL),
        **ranked,
        "expected_cost": proper.expected_cost(counts, cost_false_negative, cost_false_positive),
    }
    return Evaluation(
        labels=labels,
        macro=_average(measured),
        micro=_averages(_measure(targets_NL, probabilities_NL, decisions_NL)),
        weighted=_average(measured, [label.support for label in labels]),
        samples=_samples(targets_RL, decisions_RL),
        accuracy=overall["accuracy"].value,
        subset_accuracy=overall["subset_accuracy"].value,
        hamming_loss=overall["hamming_loss"].value,
        ranking_loss=overall["ranking_loss"].value,
        lrap=overall["lrap"].value,
        coverage_error=overall["coverage_error"].value,
        at_k={metric: each.value for metric, each in ranked.items() if "_at_" in metric},
        expected_cost=overall["expected_cost"].value,
        rows=len(targets_NL),
        complete_rows=len(targets_RL),
        rows_without_label=int((targets_RL == 0).all(axis=1).sum()),
        reasons=_reasons(overall),
    )


def macro_average_precision(targets_NL: IntArray, probabilities_NL: FloatArray) -> Measured:
    """The macro average precision of `evaluate` alone: what training validates with, for less work."""
    columns = zip(targets_NL.T, probabilities_NL.T, strict=True)
    return metrics.mean_of_defined(
        [
            metrics.average_precision(targets_N[annotated_N], probabilities_N[annotated_N])
            for targets_N, probabilities_N in columns
            for annotated_N in [targets_N != NOT_ANNOTATED]
        ]
    )


def _check(targets_NL: IntArray, probabilities_NL: FloatArray, thresholds: Thresholds) -> None:
    if targets_NL.shape != probabilities_NL.shape or targets_NL.shape[1:] != (len(thresholds.labels),):
        raise ValueError(
            f"targets {targets_NL.shape}, probabilities {probabilities_NL.shape} and "
            f"{len(thresholds.labels)} labels disagree"
        )
    if not targets_NL.size:
        return
    if targets_NL.dtype.kind not in "iu" or targets_NL.min() < NOT_ANNOTATED or targets_NL.max() > 1:
        raise ValueError("targets may hold only -1, 0 and 1")
    # A NaN anywhere makes both extremes NaN, so this refuses it too.
    if not (probabilities_NL.min() >= 0.0 and probabilities_NL.max() <= 1.0):
        raise ValueError("probabilities must be finite and in [0, 1]")


def _measure(targets_K: IntArray, probabilities_K: FloatArray, decisions_K: BoolArray) -> dict[str, Measured]:
    """The metrics of one label over its annotated cells, or of the whole table for micro."""
    annotated_K = targets_K != NOT_ANNOTATED
    targets, probabilities = targets_K[annotated_K], probabilities_K[annotated_K]
    counts = metrics.count(targets_K, decisions_K)
    return {
        "roc_auc": metrics.roc_auc(targets, probabilities),
        "average_precision": metrics.average_precision(targets, probabilities),
        "precision": metrics.precision(counts),
        "recall": metrics.recall(counts),
        "f1": metrics.f1(counts),
        "brier": proper.brier(targets, probabilities),
        "log_loss": proper.log_loss(targets, probabilities),
    }


def _measure_label(
    targets_N: IntArray, probabilities_N: FloatArray, decisions_N: BoolArray
) -> dict[str, Measured]:
    annotated_N = targets_N != NOT_ANNOTATED
    ece = proper.expected_calibration_error(targets_N[annotated_N], probabilities_N[annotated_N])
    return {**_measure(targets_N, probabilities_N, decisions_N), "ece": ece}


def _label(
    thresholds: Thresholds, column: int, targets_N: IntArray, measured: dict[str, Measured]
) -> LabelEvaluation:
    return LabelEvaluation(
        name=thresholds.labels[column],
        support=int(np.count_nonzero(targets_N == 1)),
        annotated=int(np.count_nonzero(targets_N != NOT_ANNOTATED)),
        **{metric: each.value for metric, each in measured.items()},
        threshold=float(thresholds.values_L[column]),
        threshold_reason=thresholds.reasons[column],
        reasons=_reasons(measured),
    )


def _average(measured: list[dict[str, Measured]], supports: list[int] | None = None) -> Averages:
    means = {
        metric: metrics.mean_of_defined([each[metric] for each in measured], supports) for metric in OF_LABELS
    }
    return _averages(
        means,
        {metric: sum(each[metric].value is None for each in measured) for metric in OF_LABELS},
    )


def _averages(means: dict[str, Measured], undefined: dict[str, int] | None = None) -> Averages:
    return Averages(
        **{metric: mean.value for metric, mean in means.items()},
        undefined=undefined or dict.fromkeys(means, 0),
        reasons=_reasons(means),
    )


def _samples(targets_RL: IntArray, decisions_RL: BoolArray) -> Averages:
    means = metrics.sample_averages(targets_RL, decisions_RL)
    return Averages(
        roc_auc=None,
        average_precision=None,
        **{metric: getattr(means, metric).value for metric in OF_SAMPLES},
        undefined={metric: getattr(means, f"undefined_{metric}") for metric in OF_SAMPLES},
        reasons=_reasons({metric: getattr(means, metric) for metric in OF_SAMPLES}),
    )


def _reasons(measured: dict[str, Measured]) -> dict[str, str]:
    return {metric: each.reason for metric, each in measured.items() if each.reason is not None}
