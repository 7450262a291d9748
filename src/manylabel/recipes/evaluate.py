"""Figures of a model on rows it has not seen; called by `train`, the Python interface and `manylabel evaluate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from manylabel.bundle.contents import Bundle
from manylabel.bundle.ensemble import Ensemble, translation_columns
from manylabel.config.schema import DataSettings, EvaluationSettings
from manylabel.data.duplicates import LeakAudit
from manylabel.data.joined_labels import join_labels
from manylabel.decisions.abstain import Zones
from manylabel.decisions.thresholds import Thresholds
from manylabel.errors import DataError, Finding, UsageError, counted, told_together
from manylabel.evaluation.evaluate import evaluate
from manylabel.evaluation.intervals import bootstrap_of
from manylabel.evaluation.paired import compare_judged
from manylabel.evaluation.result import Averages, Evaluation
from manylabel.evaluation.review import review_figures
from manylabel.inference.load import LoadedModel
from manylabel.recipes.corpora import Source, all_texts, load_source, not_annotated
from manylabel.recipes.scoring import Scored, rows_by_role, score_rows, seen_rows
from manylabel.text.views import with_translations
from manylabel.training.observers import Observer
from manylabel.values import NOT_ANNOTATED, BoolArray, Corpus, FloatArray, IntArray, LabelSet

CHOSE = "these rows chose {roles}: the figures are better than on new rows"


@dataclass(frozen=True, eq=False)
class Judged:
    """Rows with their scores and figures, and how much of them the model had seen.

    `rows_given` are all rows of the file, where those without any annotated label were left out; else None.
    """

    scored: Scored
    evaluation: Evaluation
    seen: LeakAudit | None
    rows_given: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The figures, and what competitions call the macro ROC-AUC.

        `rows_in_file` and `rows_not_annotated` count the file's rows where some were left out.
        """
        figures: dict[str, Any] = self.evaluation.to_json()
        figures["mean_column_wise_roc_auc"] = self.evaluation.macro.roc_auc
        if self.rows_given is not None:
            figures["rows_in_file"] = self.rows_given
            figures["rows_not_annotated"] = self.rows_given - self.evaluation.rows
        return figures


@dataclass(frozen=True, eq=False)
class AnnotatedRows:
    """Rows with an annotated label each; `rows_given` are all rows of the file, where some were left out; else None."""

    corpus: Corpus
    rows_given: int | None = None


def judge_rows(
    scored: Scored,
    *,
    seen: LeakAudit | None,
    roles: Mapping[str, int],
    settings: EvaluationSettings,
    observer: Observer,
) -> Judged:
    """Model and baseline on the same rows, with intervals; where rows made the model, once more without them.

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
        rows = np.flatnonzero(~seen.seen_N)
        told = _against_baseline(scored, rows, settings) if settings.resamples and len(rows) else None
        unseen = replace(_figures(scored, rows, settings), against_baseline=told)
        result = replace(result, without_seen_rows=unseen)
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
    rows = load_annotated(model, source, options=options, observer=observer)
    return judge_model(model, rows, observer=observer, settings=settings).evaluation


def load_rows(model: LoadedModel, source: Source, *, options: DataSettings, observer: Observer) -> Corpus:
    """The rows of `load_annotated`."""
    return load_annotated(model, source, options=options, observer=observer).corpus


def load_annotated(
    model: LoadedModel, source: Source, *, options: DataSettings, observer: Observer
) -> AnnotatedRows:
    """Rows to judge `model` by, their labels matched by name; raises DataError with all problems at once.

    Rows of which no label is annotated (all -1) are left out and told: nothing can be judged on them. Texts bring along
    what the translation columns say, for a model that looks at these. A file without any annotated row is refused.
    """
    bundle = model.bundle
    loaded = load_source(source, options, labels=LabelSet(bundle.labels), stored=bundle.layout)
    for finding in told_together(loaded.warnings):
        observer.stage("note: " + finding.sentence())
    corpus = loaded.corpus
    if lacking := lacking_translations(bundle, loaded.layout.translation_columns):
        named = ", ".join(f'"{name}"' for name in lacking)
        observer.stage(f"note: the model also reads {named}, which is not given; it reads the text instead")
    if corpus.translations is not None:
        columns = zip(loaded.layout.translation_columns, zip(*corpus.translations, strict=True), strict=False)
        corpus = replace(corpus, texts=with_translations(corpus.texts, dict(columns)))
    return _annotated(corpus, observer)


def lacking_translations(bundle: Bundle, given: Sequence[str]) -> tuple[str, ...]:
    """Columns that the views of an ensemble read and that are not given."""
    if not isinstance(bundle.model, Ensemble):
        return ()
    return tuple(name for name in translation_columns(bundle.model.components) if name not in given)


def joined_with_labels(
    model: LoadedModel, texts: Path, labels: Path, *, options: DataSettings, observer: Observer
) -> pa.Table:
    """Texts and labels of two files, matched by id, to be evaluated like any table.

    Raises DataError with all problems of both files at once, UsageError where they are one file.
    """
    if texts.resolve() == labels.resolve():
        found, allowed = "the file with the texts itself", "a second file with ids and labels"
        raise UsageError(Finding("U312", "--labels", found, allowed, "leave --labels out"))
    observer.stage(f"Matching {labels.name} with {texts.name}")
    bundle = model.bundle
    table = join_labels(texts, labels, options, names=LabelSet(bundle.labels), stored=bundle.layout)
    _require_answers(table, bundle.labels, labels)
    return table


def _require_answers(table: pa.Table, names: Sequence[str], labels: Path) -> None:
    """Raise DataError where the label columns say -1 throughout, in the name of the file they came from."""
    columns = [table[name].to_pylist() for name in names if name in table.column_names]
    if columns and all(str(cell) in ("-1", "-1.0") for column in columns for cell in column):
        step = "give the file with the answers; a competition may publish it only after its end"
        raise DataError(not_annotated(labels.name, table.num_rows, step))


def _annotated(corpus: Corpus, observer: Observer) -> AnnotatedRows:
    """The rows with an annotated label; raises DataError where there is none."""
    kept = np.flatnonzero((corpus.targets_NL != NOT_ANNOTATED).any(axis=1))
    if len(kept) == len(corpus):
        return AnnotatedRows(corpus)
    rows = counted(len(corpus), "row")
    if not len(kept):
        step = "check the label columns, or give the labels with --labels"
        raise DataError(not_annotated(corpus.source, len(corpus), step))
    observer.stage(f"  {len(kept):,} of {rows} are annotated; the others are not scored")
    return AnnotatedRows(corpus.select(kept), len(corpus))


def judge_model(
    model: LoadedModel, rows: AnnotatedRows, *, observer: Observer, settings: EvaluationSettings | None = None
) -> Judged:
    """Scores, figures and leak audit of a saved model on `rows`."""
    corpus, bundle, texts = rows.corpus, model.bundle, all_texts(rows.corpus)
    seen = seen_rows(bundle, texts)
    _tell_seen(seen, observer)
    roles = rows_by_role(bundle.seen_texts, bundle.seen_parts, texts)
    if (chosen := _chosen_on(roles)) is not None:
        observer.stage("  warning: " + chosen)
    observer.stage(f"Evaluating {counted(len(corpus), 'row')}")
    scored = score_rows(model.predictor, bundle.baseline, corpus)
    settings = settings or bundle.settings.evaluation
    judged = judge_rows(scored, seen=seen, roles=roles, settings=settings, observer=observer)
    judged = _with_zones(judged, model.predictor.zones, settings)
    return replace(judged, rows_given=rows.rows_given)


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
    model = scored.judged(settings)
    drawn = bootstrap_of(model, groups_N=scored.groups, settings=settings)
    told = _against_baseline(scored, np.arange(len(scored)), settings)
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


def _against_baseline(scored: Scored, rows: IntArray, settings: EvaluationSettings) -> dict[str, Any]:
    """The model beside the baseline on some of the rows, in the form of `manylabel compare`."""
    groups = None if scored.groups is None else [scored.groups[row] for row in rows]
    model, baseline = (
        each.select(rows) for each in (scored.judged(settings), scored.judged_baseline(settings))
    )
    against = compare_judged(baseline, model, groups_N=groups, settings=settings)
    return against.to_json("the TF-IDF baseline", "this model")


def _with_zones(judged: Judged, zones: Zones | None, settings: EvaluationSettings) -> Judged:
    """The figures with what the zones of the model send to a human on these rows."""
    if zones is None:
        return judged
    scored = judged.scored
    found = review_figures(
        zones,
        scored.corpus.targets_NL,
        scored.probabilities_NL,
        scored.decisions_NL,
        groups_N=scored.groups,
        confidence=settings.confidence,
    )
    return replace(judged, evaluation=replace(judged.evaluation, zones=found.to_json()))
