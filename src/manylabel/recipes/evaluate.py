"""Figures of a model on rows it has not seen; called by `train`, the Python interface and `manylabel evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from manylabel.config.schema import DataSettings, EvaluationSettings
from manylabel.data.duplicates import LeakAudit
from manylabel.decisions.thresholds import Thresholds
from manylabel.errors import counted
from manylabel.evaluation.evaluate import evaluate
from manylabel.evaluation.intervals import bootstrap_of
from manylabel.evaluation.paired import compare_judged
from manylabel.evaluation.result import Averages, Evaluation
from manylabel.inference.load import LoadedModel
from manylabel.recipes.corpora import Source, all_texts, load_source
from manylabel.recipes.scoring import Scored, rows_by_role, score_rows, seen_rows
from manylabel.training.observers import Observer
from manylabel.values import BoolArray, Corpus, FloatArray, IntArray, LabelSet

CHOSE = "these rows chose {roles}: the figures are better than on new rows"


@dataclass(frozen=True, eq=False)
class Judged:
    """Rows with their scores and figures, and how much of them the model had seen."""

    scored: Scored
    evaluation: Evaluation
    seen: LeakAudit | None


def judge_rows(
    scored: Scored,
    *,
    seen: LeakAudit | None,
    roles: Mapping[str, int],
    settings: EvaluationSettings,
    observer: Observer,
) -> Judged:
    """Model and baseline on the same rows, with intervals; where rows were seen in training, once more without them.

    `roles` counts the rows that had a role in making the model; the figures say when such rows chose something.
    """
    result = _figures(scored, np.arange(len(scored)), settings)
    result = replace(
        result,
        calibration=_calibration(scored, result.macro),
        roles=dict(roles),
        chosen_on=_chosen_on(roles),
    )
    if settings.resamples and len(scored):
        observer.stage(f"Intervals from {settings.resamples:,} resamples of {counted(len(scored), 'row')}")
        result = _with_intervals(result, scored, settings)
    if seen is None:
        return Judged(scored, result, seen)
    result = replace(result, rows_seen_in_training=int(seen.seen_N.sum()), seen_in_training=seen.counts())
    if seen.seen_N.any():
        result = replace(result, without_seen_rows=_figures(scored, np.flatnonzero(~seen.seen_N), settings))
    return Judged(scored, result, seen)


def evaluate_model(
    model: LoadedModel,
    source: Source,
    *,
    options: DataSettings,
    observer: Observer,
    settings: EvaluationSettings | None = None,
) -> Evaluation:
    """Evaluate on a file or an object in memory; columns as in training unless `options` name others.

    Rows are counted whose text made the model (as it is or after Unicode, case and space normalisation) or, as far as
    the model's sketches tell, is a near copy of one; the figures are repeated without them. `settings` are those of
    the model where None. Raises DataError with all problems of the file at once.
    """
    corpus = load_rows(model, source, options=options, observer=observer)
    return judge_model(model, corpus, observer=observer, settings=settings).evaluation


def load_rows(model: LoadedModel, source: Source, *, options: DataSettings, observer: Observer) -> Corpus:
    """Rows to judge `model` by, their labels matched by name; raises DataError with all problems at once."""
    bundle = model.bundle
    loaded = load_source(source, options, labels=LabelSet(bundle.labels), stored=bundle.layout)
    for finding in loaded.warnings:
        observer.stage("note: " + finding.sentence())
    return loaded.corpus


def judge_model(
    model: LoadedModel, corpus: Corpus, *, observer: Observer, settings: EvaluationSettings | None = None
) -> Judged:
    """Scores, figures and leak audit of a saved model on the rows of `corpus`."""
    bundle, texts = model.bundle, all_texts(corpus)
    seen = seen_rows(bundle, texts)
    _tell_seen(seen, observer)
    roles = rows_by_role(bundle.seen_texts, bundle.seen_parts, texts)
    if (chosen := _chosen_on(roles)) is not None:
        observer.stage("  warning: " + chosen)
    observer.stage(f"Evaluating {counted(len(corpus), 'row')}")
    scored = score_rows(model.predictor, bundle.baseline, corpus)
    settings = settings or bundle.settings.evaluation
    return judge_rows(scored, seen=seen, roles=roles, settings=settings, observer=observer)


def _tell_seen(seen: LeakAudit, observer: Observer) -> None:
    found = seen.counts()
    copies = found["exact"] + found["normalised"]
    observer.stage(
        f"  leak audit: of {counted(len(seen.seen_N), 'row')} {copies:,} are copies of rows that made the model, "
        f"{found['near']:,} more nearly so"
    )


def _chosen_on(roles: Mapping[str, int]) -> str | None:
    """What to say of figures on rows that chose something; None where none did."""
    chose = {"validation": "the epoch", "calibration": "calibration and thresholds"}
    found = [f"{what} ({counted(roles[role], 'row')})" for role, what in chose.items() if roles.get(role, 0)]
    return CHOSE.format(roles=" and ".join(found)) if found else None


def _figures(scored: Scored, rows: IntArray, settings: EvaluationSettings) -> Evaluation:
    targets_NL = scored.corpus.targets_NL[rows]

    def figures(probabilities_NL: FloatArray, decisions_NL: BoolArray, thresholds: Thresholds) -> Evaluation:
        return evaluate(
            targets_NL,
            probabilities_NL[rows],
            thresholds,
            cost_false_negative=settings.cost_false_negative,
            cost_false_positive=settings.cost_false_positive,
            decisions_NL=decisions_NL[rows],
        )

    return replace(
        figures(scored.probabilities_NL, scored.decisions_NL, scored.thresholds),
        baseline=figures(scored.of_baseline_NL, scored.baseline_decisions_NL, scored.baseline_thresholds),
    )


def _calibration(scored: Scored, after: Averages) -> dict[str, Any]:
    """Which map each label has, and Brier score and calibration error without and with it."""
    targets_NL = scored.corpus.targets_NL
    before = evaluate(targets_NL, scored.uncalibrated_NL, scored.thresholds).macro
    return {
        "method": dict(scored.calibration.methods),
        "ece_before": before.ece,
        "ece_after": after.ece,
        "brier_before": before.brier,
        "brier_after": after.brier,
    }


def _with_intervals(result: Evaluation, scored: Scored, settings: EvaluationSettings) -> Evaluation:
    """Intervals of the model's figures and of its difference from the baseline on the same resamples."""
    model, baseline = scored.judged(settings), scored.judged_baseline(settings)
    drawn = bootstrap_of(model, groups_N=scored.groups, settings=settings)
    against = compare_judged(baseline, model, groups_N=scored.groups, settings=settings)
    told = against.to_json("the TF-IDF baseline", "this model")
    limits, before = drawn.to_json(), replace(model, probabilities_NL=scored.uncalibrated_NL)
    limits_before = bootstrap_of(before, groups_N=scored.groups, settings=settings).to_json()
    calibration = {
        **(result.calibration or {}),
        **{
            f"{metric}_{when}_interval": found.get("macro", {}).get(metric)
            for metric in ("ece", "brier")
            for when, found in (("before", limits_before), ("after", limits))
        },
    }
    return replace(result, intervals=limits, against_baseline=told, calibration=calibration)
