"""Two models on the same rows, and the baseline beside them; called by `manylabel compare`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from manylabel.config.schema import DataSettings, EvaluationSettings
from manylabel.decisions.calibration import Calibration
from manylabel.decisions.thresholds import Thresholds
from manylabel.errors import Finding, UsageError, counted
from manylabel.evaluation.paired import Comparison, compare_judged
from manylabel.inference.load import LoadedModel
from manylabel.recipes.corpora import Source, all_texts
from manylabel.recipes.evaluate import load_rows
from manylabel.recipes.scoring import Scored, score_rows, seen_rows
from manylabel.training.observers import Observer
from manylabel.values import BoolArray, IntArray, LabelSet

BASELINE = "the TF-IDF baseline"


@dataclass(frozen=True, eq=False)
class Comparisons:
    """Model B against model A, and each against the baseline, on the same `rows` rows."""

    rows: int
    models: Comparison
    a_against_baseline: Comparison
    b_against_baseline: Comparison

    def to_json(self) -> dict[str, Any]:
        """Plain values, those of the two models first."""
        return {
            "rows": self.rows,
            **self.models.to_json("model A", "model B"),
            "a_against_baseline": self.a_against_baseline.to_json(BASELINE, "model A"),
            "b_against_baseline": self.b_against_baseline.to_json(BASELINE, "model B"),
        }


@dataclass(frozen=True, eq=False)
class ModelComparison:
    """Model B against model A, and both against the linear baseline trained beside B, on the same rows.

    `seen` counts, for each model, the rows that made it: figures on these favour that model. Where there are any,
    `on_unseen` repeats the comparisons on the rows that made neither.
    """

    a: Scored
    b: Scored
    on_all: Comparisons
    seen: dict[str, int]
    not_compared: tuple[str, ...]
    on_unseen: Comparisons | None

    def to_json(self) -> dict[str, Any]:
        """Plain values; a difference is the second minus the first named."""
        return {
            "rows_seen_in_training": self.seen,
            "labels_not_compared": list(self.not_compared),
            "without_seen_rows": None if self.on_unseen is None else self.on_unseen.to_json(),
            **self.on_all.to_json(),
        }


def compare_models(
    first: LoadedModel,
    second: LoadedModel,
    source: Source,
    *,
    options: DataSettings,
    observer: Observer,
    settings: EvaluationSettings | None = None,
) -> ModelComparison:
    """Score both models on the labels they share and compare them by paired resamples and permutations.

    Raises UsageError when the models share no label, DataError with all problems of the file at once.
    """
    settings = settings or second.bundle.settings.evaluation
    names = tuple(name for name in first.bundle.labels if name in second.bundle.labels)
    others = sorted({*first.bundle.labels, *second.bundle.labels} - {*names})
    if not names:
        raise UsageError(
            Finding("U240", "compare", "the two models share no label", "models with labels of the same names",
                    "compare models that were trained for the same labels")
        )  # fmt: skip
    if others:
        observer.stage(
            f"note: compared on {counted(len(names), 'label')}; not in both models: {', '.join(others)}"
        )
    scored, seen = {}, {}
    seen_N: BoolArray | None = None
    for name, model in (("a", first), ("b", second)):
        # Each model reads the file as it was trained; the labels of one may be a part of the other's.
        corpus = load_rows(model, source, options=options, observer=observer)
        of_model_N = seen_rows(model.bundle, all_texts(corpus)).seen_N
        seen[name] = int(of_model_N.sum())
        seen_N = of_model_N if seen_N is None or len(seen_N) != len(of_model_N) else seen_N | of_model_N
        observer.stage(f"Scoring {counted(len(corpus), 'row')} with model {name.upper()}"
                       + (f" ({seen[name]:,} of them made it)" if seen[name] else ""))  # fmt: skip
        scored[name] = with_labels(score_rows(model.predictor, model.bundle.baseline, corpus), names)
    a, b = scored["a"], scored["b"]
    if len(a) != len(b) or not np.array_equal(a.corpus.targets_NL, b.corpus.targets_NL):
        raise UsageError(
            Finding("U241", "compare", "the two models read other rows or labels from this file", "the same of both",
                    "name the columns: --text-column, --label-columns or --labels-column")
        )  # fmt: skip
    observer.stage(f"Comparing by {settings.resamples:,} resamples and permutations")
    on_all = _compared(a, b, np.arange(len(b)), settings)
    on_unseen = None
    if seen_N is not None and seen_N.any():
        rows = np.flatnonzero(~seen_N)
        observer.stage(f"The same without the rows that made a model: {counted(len(rows), 'row')}")
        on_unseen = _compared(a, b, rows, settings)
    return ModelComparison(a, b, on_all, seen, tuple(others), on_unseen)


def _compared(a: Scored, b: Scored, rows: IntArray, settings: EvaluationSettings) -> Comparisons:
    """All comparisons on some of the rows."""
    groups = None if b.groups is None else [b.groups[row] for row in rows]
    baseline, of_a, of_b = (
        each.select(rows) for each in (b.judged_baseline(settings), a.judged(settings), b.judged(settings))
    )
    models, a_beside, b_beside = (
        compare_judged(one, other, groups_N=groups, settings=settings)
        for one, other in ((of_a, of_b), (baseline, of_a), (baseline, of_b))
    )
    return Comparisons(len(rows), models, a_beside, b_beside)


def with_labels(scored: Scored, names: Sequence[str]) -> Scored:
    """The same rows with these labels only, in this order."""
    place = {name: column for column, name in enumerate(scored.thresholds.labels)}
    columns = [place[name] for name in names]
    corpus = scored.corpus
    return replace(
        scored,
        corpus=replace(corpus, labels=LabelSet(tuple(names)), targets_NL=corpus.targets_NL[:, columns]),
        logits_NL=scored.logits_NL[:, columns],
        probabilities_NL=scored.probabilities_NL[:, columns],
        of_baseline_NL=scored.of_baseline_NL[:, columns],
        calibration=Calibration(tuple(names), tuple(scored.calibration.maps[column] for column in columns)),
        thresholds=_of(scored.thresholds, columns),
        baseline_thresholds=_of(scored.baseline_thresholds, columns),
        decisions_NL=scored.decisions_NL[:, columns],
        baseline_decisions_NL=scored.baseline_decisions_NL[:, columns],
    )


def _of(thresholds: Thresholds, columns: Sequence[int]) -> Thresholds:
    return Thresholds(
        tuple(thresholds.labels[column] for column in columns),
        thresholds.values_L[list(columns)],
        thresholds.judged_L[list(columns)],
        tuple(thresholds.reasons[column] for column in columns),
    )
