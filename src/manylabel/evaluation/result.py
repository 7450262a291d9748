"""The frozen outcome of an evaluation and its JSON form; made by `evaluate`, read by recipes and the CLI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

AVERAGED = ("roc_auc", "average_precision", "precision", "recall", "f1")
PROPER = ("brier", "log_loss", "ece")
RANKED_AND_DECIDED = ("roc_auc", "average_precision", "f1")
OF_LABELS = (*AVERAGED, *PROPER)
"""What a label has, and the macro and weighted averages with it; macro average precision is also called mAP."""
OF_CELLS = (*AVERAGED, "brier", "log_loss")
"""What the micro average has: a calibration error over the cells of all labels would hide that of each."""
OF_SAMPLES = ("precision", "recall", "f1")
OF_ALL_ROWS = ("accuracy", "subset_accuracy", "hamming_loss", "ranking_loss", "lrap")
FOUND_BY_OTHERS = (
    "intervals",
    "calibration",
    "slices",
    "bias",
    "bias_overall",
    "robustness",
    "roles",
    "seen_in_training",
    "chosen_on",
    "out_of_fold",
    "against_baseline",
    "zones",
    "label_errors",
    "label_errors_left_out",
)
"""Optional parts of an evaluation, plain values that JSON can hold."""


@dataclass(frozen=True)
class LabelEvaluation:
    """One label on its annotated rows; a metric is None where it is undefined, and `reasons` says why.

    `support` counts positive rows. `threshold_reason` says why the threshold is the default one, if it is.
    """

    name: str
    support: int
    annotated: int
    roc_auc: float | None
    average_precision: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    brier: float | None
    log_loss: float | None
    ece: float | None
    threshold: float
    threshold_reason: str | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Support, metrics and threshold as plain values."""
        ranked_and_decided = {metric: getattr(self, metric) for metric in AVERAGED}
        proper = {metric: getattr(self, metric) for metric in PROPER}
        return {"support": self.support, **ranked_and_decided, "threshold": self.threshold, **proper}


@dataclass(frozen=True)
class Averages:
    """One kind of average; `undefined` counts, per metric, the labels (for samples: rows) left out.

    Metrics that this kind does not have are None without a reason: see `AVERAGES`.
    """

    roc_auc: float | None
    average_precision: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    brier: float | None = None
    log_loss: float | None = None
    ece: float | None = None
    undefined: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)

    def to_json(self, metrics: tuple[str, ...]) -> dict[str, float | None]:
        """The named metrics as plain values."""
        return {metric: getattr(self, metric) for metric in metrics}


AVERAGES: Mapping[str, tuple[str, ...]] = {
    "macro": OF_LABELS,
    "micro": OF_CELLS,
    "weighted": OF_LABELS,
    "samples": OF_SAMPLES,
}
"""The metrics of each kind of average."""


@dataclass(frozen=True)
class Evaluation:
    """All metrics of one model on one set of rows.

    `accuracy` is the share of annotated text-label cells decided rightly at the thresholds, `hamming_loss`
    the rest, `expected_cost` the same with a cost for each kind of error. `subset_accuracy`, `ranking_loss`,
    `lrap`, `coverage_error`, `at_k` (precision, recall and nDCG at k by name, as `ndcg_at_3`) and `samples` use
    the `complete_rows` of `rows` that have every label annotated; `rows_without_label` of these carry none: such a
    row has LRAP 1, ranking loss and coverage error 0, and is left out at k. `baseline` is the linear baseline on the
    same rows; `without_seen_rows` repeats the evaluation without the `rows_seen_in_training`, which are all rows that
    made the model.

    What is in `FOUND_BY_OTHERS` is plain values from whoever computes it, absent from the JSON where None.
    """

    labels: tuple[LabelEvaluation, ...]
    macro: Averages
    micro: Averages
    weighted: Averages
    samples: Averages
    accuracy: float | None
    subset_accuracy: float | None
    hamming_loss: float | None
    ranking_loss: float | None
    lrap: float | None
    coverage_error: float | None
    at_k: Mapping[str, float | None]
    expected_cost: float | None
    rows: int
    complete_rows: int
    rows_without_label: int = 0
    reasons: Mapping[str, str] = field(default_factory=dict)
    baseline: Evaluation | None = None
    without_seen_rows: Evaluation | None = None
    rows_seen_in_training: int | None = None
    intervals: Mapping[str, Any] | None = None
    calibration: Mapping[str, Any] | None = None
    slices: Sequence[Mapping[str, Any]] | None = None
    bias: Sequence[Mapping[str, Any]] | None = None
    bias_overall: Mapping[str, Any] | None = None
    robustness: Sequence[Mapping[str, Any]] | None = None
    roles: Mapping[str, int] | None = None
    seen_in_training: Mapping[str, int] | None = None
    chosen_on: str | None = None
    out_of_fold: int | None = None
    against_baseline: Mapping[str, Any] | None = None
    zones: Mapping[str, Any] | None = None
    label_errors: Sequence[Mapping[str, Any]] | None = None
    label_errors_left_out: str | None = None

    @property
    def overall(self) -> dict[str, float | None]:
        """The figures that are about all rows at once, by metric."""
        return {
            **{metric: getattr(self, metric) for metric in OF_ALL_ROWS},
            "coverage_error": self.coverage_error,
            **self.at_k,
            "expected_cost": self.expected_cost,
        }

    def figures(self) -> dict[tuple[str, ...], float | None]:
        """Every figure by its path, None where it is undefined; counts and thresholds are no figures.

        Paths are ("labels", name, metric), (average, metric) for macro, micro, weighted and samples, and
        ("overall", metric).
        """
        of_labels: dict[tuple[str, ...], float | None] = {
            ("labels", label.name, metric): getattr(label, metric)
            for label in self.labels
            for metric in OF_LABELS
        }
        of_averages: dict[tuple[str, ...], float | None] = {
            (name, metric): getattr(getattr(self, name), metric)
            for name, metrics in AVERAGES.items()
            for metric in metrics
        }
        of_all_rows: dict[tuple[str, ...], float | None] = {
            ("overall", metric): value for metric, value in self.overall.items()
        }
        return {**of_labels, **of_averages, **of_all_rows}

    def undefined(self) -> dict[str, str]:
        """Why a metric has no value: `label.metric`, `average/metric` or `metric` -> reason.

        A label's key always ends in a point and a metric and no other key holds a point, so that a label
        called macro cannot be mistaken for the average.
        """
        of_labels = {
            f"{label.name}.{metric}": reason
            for label in self.labels
            for metric, reason in label.reasons.items()
        }
        of_averages = {
            f"{name}/{metric}": reason
            for name in AVERAGES
            for metric, reason in getattr(self, name).reasons.items()
        }
        return {**of_labels, **of_averages, **self.reasons}

    def to_json(self) -> dict[str, object]:
        """Plain values for `json.dumps(..., allow_nan=False)`; undefined metrics are null, with reasons.

        `excluded_from_macro` counts the labels that a macro average leaves out, `unjudged_thresholds` says why
        labels decide at the default threshold.
        """
        content = self._own_json()
        content["baseline"] = None if self.baseline is None else self.baseline._own_json()
        if self.without_seen_rows is not None:
            content["without_seen_rows"] = self.without_seen_rows.to_json()
        if self.rows_seen_in_training is not None:
            content["rows_seen_in_training"] = self.rows_seen_in_training
        return content

    def _own_json(self) -> dict[str, object]:
        return {
            "labels": {label.name: label.to_json() for label in self.labels},
            **{name: getattr(self, name).to_json(metrics) for name, metrics in AVERAGES.items()},
            **self.overall,
            "rows": self.rows,
            "complete_rows": self.complete_rows,
            "rows_without_label": self.rows_without_label,
            "undefined": self.undefined(),
            "excluded_from_macro": {
                metric: self.macro.undefined.get(metric, 0) for metric in RANKED_AND_DECIDED
            },
            "unjudged_thresholds": {
                label.name: label.threshold_reason
                for label in self.labels
                if label.threshold_reason is not None
            },
            **{name: part for name in FOUND_BY_OTHERS if (part := getattr(self, name)) is not None},
        }
