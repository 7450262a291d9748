"""The frozen outcome of an evaluation and its JSON form; made by `evaluate`, read by recipes and the CLI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

AVERAGED = ("roc_auc", "average_precision", "precision", "recall", "f1")
RANKED_AND_DECIDED = ("roc_auc", "average_precision", "f1")
OF_SAMPLES = ("precision", "recall", "f1")
OF_ALL_ROWS = ("accuracy", "subset_accuracy", "hamming_loss", "ranking_loss", "lrap")


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
    threshold: float
    threshold_reason: str | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Support, metrics and threshold as plain values."""
        metrics = {metric: getattr(self, metric) for metric in AVERAGED}
        return {"support": self.support, **metrics, "threshold": self.threshold}


@dataclass(frozen=True)
class Averages:
    """One kind of average; `undefined` counts, per metric, the labels (for samples: rows) left out."""

    roc_auc: float | None
    average_precision: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    undefined: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)

    def to_json(self, metrics: tuple[str, ...]) -> dict[str, float | None]:
        """The named metrics as plain values."""
        return {metric: getattr(self, metric) for metric in metrics}


@dataclass(frozen=True)
class Evaluation:
    """All metrics of one model on one set of rows.

    `accuracy` is the share of annotated text-label cells decided rightly at the thresholds, `hamming_loss`
    the rest. `subset_accuracy`, `ranking_loss`, `lrap` and `samples` use the `complete_rows` of `rows` that
    have every label annotated. `baseline` is the linear baseline on the same rows; `without_seen_rows`
    repeats the evaluation without the `rows_seen_in_training`.
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
    rows: int
    complete_rows: int
    reasons: Mapping[str, str] = field(default_factory=dict)
    baseline: Evaluation | None = None
    without_seen_rows: Evaluation | None = None
    rows_seen_in_training: int | None = None

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
        averages = {
            "macro": self.macro,
            "micro": self.micro,
            "weighted": self.weighted,
            "samples": self.samples,
        }
        of_averages = {
            f"{name}/{metric}": reason
            for name, average in averages.items()
            for metric, reason in average.reasons.items()
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
            "macro": self.macro.to_json(RANKED_AND_DECIDED),
            "micro": self.micro.to_json(RANKED_AND_DECIDED),
            "weighted": self.weighted.to_json(RANKED_AND_DECIDED),
            "samples": self.samples.to_json(OF_SAMPLES),
            **{metric: getattr(self, metric) for metric in OF_ALL_ROWS},
            "rows": self.rows,
            "undefined": self.undefined(),
            "excluded_from_macro": {
                metric: self.macro.undefined.get(metric, 0) for metric in RANKED_AND_DECIDED
            },
            "unjudged_thresholds": {
                label.name: label.threshold_reason
                for label in self.labels
                if label.threshold_reason is not None
            },
        }
