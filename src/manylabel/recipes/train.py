"""The story of a training run, top to bottom; called by the Python interface and `manylabel train`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel.bundle.contents import Bundle, FittedBaseline
from manylabel.bundle.ensemble import NetworkModel
from manylabel.bundle.files import check_target, require_writable
from manylabel.bundle.probes import Probes
from manylabel.bundle.save import save_bundle
from manylabel.config.schema import RunSettings
from manylabel.data.duplicates import text_fingerprints
from manylabel.data.sketches import text_sketches
from manylabel.decisions.calibration_fit import CalibrationFit
from manylabel.decisions.goals import Goal
from manylabel.errors import ConfigError, Finding, TrainingError, UsageError, counted
from manylabel.inference.predictor import Predictor
from manylabel.modeling.weights.hugging_face import read_config
from manylabel.modeling.weights.locate import locate_encoder
from manylabel.recipes.augment import check_augmentation
from manylabel.recipes.corpora import Corpora, Others, Source, all_texts, gather_corpora
from manylabel.recipes.cross_fit import cross_fitted, out_of_fold_baseline
from manylabel.recipes.evaluate import Judged, judge_rows
from manylabel.recipes.fit import Learned, Parts, assemble, fit
from manylabel.recipes.folds import (
    OutOfFold,
    folds_place,
    forget_folds,
    out_of_fold,
    translations_identity,
)
from manylabel.recipes.judge import (
    calibrated,
    chosen_thresholds,
    decide_on,
    fit_baseline_beside,
    fit_linear,
    take_up,
)
from manylabel.recipes.prepare import predictor_of
from manylabel.recipes.provenance import describe_run
from manylabel.recipes.report import Page, report_inputs
from manylabel.recipes.run import identity_of, opened_run, stopped
from manylabel.recipes.scoring import parts_of_seen, rows_by_role, score_rows
from manylabel.recipes.teacher import (
    Lesson,
    Teaching,
    prepare_lesson,
    remembering_lesson,
    seen_by_either,
)
from manylabel.report.render import render_report
from manylabel.training.loop import Outcome
from manylabel.training.observers import Observer
from manylabel.training.processes import Processes

OUT_OF_FOLD = (
    "each row was scored and decided by one of {folds} fold models that had not seen it; the saved model's own "
    "calibration and thresholds were chosen on all of these rows"
)


@dataclass(frozen=True, eq=False)
class Job:
    """What to train on and where the model goes.

    `validation`, `calibration` and `test` are split off `source` where they are None. `overwrite` replaces a model
    in `out`, `fresh` discards an unfinished run of it instead of going on. With `folds` calibration, thresholds
    and, without test rows, the figures come from that many further models; each scores the rows it did not see.
    With `teaching` the model also learns from another one (recipes/teacher.py).
    """

    source: Source
    out: Path
    validation: Source | None = None
    test: Source | None = None
    calibration: Source | None = None
    overwrite: bool = False
    fresh: bool = False
    folds: int = 0
    teaching: Teaching | None = None

    @property
    def others(self) -> Others:
        """The sources with a role of their own."""
        return Others(self.validation, self.calibration, self.test, self.folds)


@dataclass(frozen=True, eq=False)
class TrainReport:
    """What a run left: where, how it ended, and the test figures (None without test rows)."""

    folder: Path
    outcome: Outcome
    evaluation: Mapping[str, Any] | None


def train_model(
    job: Job,
    *,
    settings: RunSettings,
    observer: Observer,
    should_stop: Callable[[], bool] = lambda: False,
    processes: Processes | None = None,
) -> TrainReport:
    """Train and publish the model as the folder `job.out`; goes on from the last checkpoint of an unfinished run.

    With several `processes` all of them call this, and the first one saves. Raises DataError or EncoderError before
    training, UsageError when `out` may not be written or holds another unfinished run, TrainingStopped when
    `should_stop` said so and the state is saved, TrainingError after saving the last good weights when a loss was not
    finite.
    """
    processes = processes or Processes.alone()
    if job.folds and processes.size > 1:
        found = f"{job.folds} folds on {counted(processes.size, 'process', 'processes')}"
        raise UsageError(Finding("U251", "train", found, "folds on one process", "leave out --processes"))
    _check_teaching(job, processes)
    check_target(job.out, job.overwrite)
    require_writable(job.out)
    _check_decisions(settings)
    with opened_run(job.out, processes) as run:
        encoder_folder = locate_encoder(settings.model.encoder)
        corpora = gather_corpora(job.source, job.others, settings=settings, observer=observer)
        check_augmentation(settings, corpora.train)
        lesson = None
        if job.teaching is not None:
            lesson = prepare_lesson(
                job.teaching, corpora, settings, observer=observer, should_stop=should_stop
            )
        identity = identity_of(corpora, encoder_folder, settings, processes)
        identity |= translations_identity(corpora.train)
        run.begin(identity | ({"lesson": lesson.fingerprint[:16]} if lesson else {}), fresh=job.fresh)
        folded = _scored_out_of_fold(job, corpora, settings, observer=observer, should_stop=should_stop)
        parts = assemble(
            run,
            corpora,
            encoder_folder,
            settings=settings,
            observer=observer,
            processes=processes,
            learned=None if lesson is None else Learned(lesson.rows, lesson.targets_NL),
        )
        if should_stop():
            raise KeyboardInterrupt
        outcome = fit(parts, run, processes, should_stop=should_stop)
        if outcome.ending == "interrupted" or should_stop():
            raise stopped(outcome, job.out)
        evaluation = None
        if processes.is_main:
            evaluation = _judge_and_save(parts, outcome, job, folded, lesson)
            run.finish()
            if job.folds:
                forget_folds(folds_place(job.out))
    if outcome.ending == "non-finite loss" and processes.is_main:
        raise TrainingError(_non_finite(outcome, job.out))
    return TrainReport(job.out, outcome, evaluation)


def _check_decisions(settings: RunSettings) -> None:
    """Refuse now, not after hours of training, what cannot be decided then; raises ConfigError."""
    Goal.parse(settings.decisions.goal)
    check_augmentation(settings)
    if settings.model.head == "cls" and settings.decisions.calibration in ("beta", "isotonic"):
        raise ConfigError(
            Finding("C245", "setting decisions.calibration", f"{settings.decisions.calibration} with model.head=cls",
                    "auto, none, temperature or platt, which the last layer can take up for transformers",
                    "choose one of these, or --set model.head=mean")
        )  # fmt: skip


def _scored_out_of_fold(
    job: Job,
    corpora: Corpora,
    settings: RunSettings,
    *,
    observer: Observer,
    should_stop: Callable[[], bool],
) -> OutOfFold | None:
    """The rows' logits out of fold, where the job has folds; finished folds are kept beside the model until it is."""
    if corpora.whole is None:
        return None
    place = folds_place(job.out)
    return out_of_fold(
        corpora.whole,
        settings,
        folds=job.folds,
        observer=observer,
        work_folder=place,
        should_stop=should_stop,
        fresh=job.fresh,
    )


def _check_teaching(job: Job, processes: Processes) -> None:
    """What does not go together with a teacher; raises UsageError."""
    if job.teaching is None:
        return
    for found, is_there in (("--folds", job.folds > 0), ("--processes", processes.size > 1)):
        if is_there:
            finding = Finding(
                "U354", "train", f"--teacher together with {found}", "one of the two", f"leave out {found}"
            )
            raise UsageError(finding)


def _judge_and_save(
    parts: Parts, outcome: Outcome, job: Job, folded: OutOfFold | None, lesson: Lesson | None
) -> Mapping[str, Any] | None:
    """Calibration, thresholds, baseline, test figures, and the bundle with all of it; the test figures."""
    settings, corpora, observer = parts.settings, parts.corpora, parts.observer
    decided = _decided(parts, folded)
    predictor, baseline = decided.predictor, decided.baseline
    judged = _judged(parts, decided, job, folded, lesson)
    is_cls = settings.model.head == "cls"
    calibration = take_up(predictor.calibration, parts.classifier) if is_cls else predictor.calibration
    exact = predictor_of(parts.classifier, parts.tokenizer, corpora, settings, precision="fp32")
    exact = exact.with_thresholds(predictor.thresholds, calibration)
    takes_pairs = corpora.layout.pair_column is not None
    seen = corpora.seen_texts()
    figures = None if judged is None else judged.evaluation.to_json()
    bundle = Bundle(
        model=NetworkModel("model", parts.classifier, read_config(parts.encoder_folder), parts.tokenizer),
        thresholds=predictor.thresholds,
        layout=corpora.layout,
        settings=settings,
        provenance=describe_run(corpora, outcome, parts.encoder_folder, settings),
        seen_texts=np.unique(text_fingerprints(seen)),
        seen_sketches=text_sketches(seen),
        seen_parts=parts_of_seen(corpora),
        calibration=calibration,
        baseline=baseline,
        evaluation=figures,
        probes=Probes.record(exact.probabilities, predictor.labels, takes_pairs=takes_pairs),
    )
    if lesson is not None:
        bundle = remembering_lesson(bundle, lesson)
    if judged is not None:
        # Nothing of this machine's clock and paths is in it, so that equal runs give equal bytes.
        inputs = report_inputs(judged, bundle, Page(job.out), settings=settings.evaluation)
        bundle = replace(bundle, report=render_report(inputs))
    observer.stage(f"Saving {job.out}")
    save_bundle(bundle, job.out, overwrite=job.overwrite)
    return figures


@dataclass(frozen=True, eq=False)
class _Decided:
    """What decides: the predictor with calibration and thresholds, the baseline with its own, from the same rows.

    `of_baseline_NL` are the baseline's probabilities out of fold, where the rows are.
    """

    predictor: Predictor
    baseline: FittedBaseline
    of_baseline_NL: npt.NDArray[np.float64] | None = None


def _judged(
    parts: Parts, decided: _Decided, job: Job, folded: OutOfFold | None, lesson: Lesson | None
) -> Judged | None:
    """Scores and figures of the test rows, or of all rows out of fold; None where there are neither."""
    settings, corpora, observer = parts.settings, parts.corpora, parts.observer
    if corpora.test is not None:
        observer.stage(f"Evaluating on {counted(len(corpora.test), 'test row')}")
        scored = score_rows(decided.predictor, decided.baseline, corpora.test)
        seen_texts = text_fingerprints(corpora.seen_texts())
        roles = rows_by_role(seen_texts, parts_of_seen(corpora), all_texts(corpora.test))
        seen = corpora.leaks
        if seen is not None and lesson is not None:
            seen = seen_by_either(seen, lesson, all_texts(corpora.test), settings)
        return judge_rows(scored, seen=seen, roles=roles, settings=settings.evaluation, observer=observer)
    if folded is None or corpora.whole is None or decided.of_baseline_NL is None:
        return None
    scored = cross_fitted(
        folded, corpora.whole, decided.predictor, settings, of_baseline_NL=decided.of_baseline_NL
    )
    judged = judge_rows(scored, seen=None, roles={}, settings=settings.evaluation, observer=observer)
    told = OUT_OF_FOLD.format(folds=job.folds)
    return replace(judged, evaluation=replace(judged.evaluation, out_of_fold=job.folds, chosen_on=told))


def _decided(parts: Parts, folded: OutOfFold | None) -> _Decided:
    """Choose calibration and thresholds, on the calibration rows or out of fold."""
    settings, corpora, observer = parts.settings, parts.corpora, parts.observer
    is_cls = settings.model.head == "cls"
    predictor = predictor_of(
        parts.classifier, parts.tokenizer, corpora, settings, precision=settings.inference.precision
    )
    if folded is None or corpora.whole is None:
        observer.stage("Choosing calibration and thresholds on the calibration rows")
        predictor, fit = decide_on(predictor, corpora.calibration, settings, only_lines=is_cls)
        _tell_calibration(fit, observer)
        observer.stage("Training the baseline (TF-IDF + logistic regression)")
        return _Decided(predictor, fit_baseline_beside(corpora, settings))
    rows = corpora.whole
    observer.stage("Choosing calibration and thresholds on the rows out of fold")
    fit = calibrated(folded.logits_NL, rows, settings, only_lines=is_cls)
    thresholds = chosen_thresholds(fit.calibration.apply(folded.logits_NL), rows, settings)
    _tell_calibration(fit, observer)
    of_baseline_NL = out_of_fold_baseline(rows, folded.fold_N, settings, observer=observer)
    baseline = FittedBaseline(fit_linear(rows, settings), chosen_thresholds(of_baseline_NL, rows, settings))
    return _Decided(predictor.with_thresholds(thresholds, fit.calibration), baseline, of_baseline_NL)


def _tell_calibration(chosen: CalibrationFit, observer: Observer) -> None:
    """How many labels have which map."""
    counts = Counter(choice.method + (" (pooled)" if choice.pooled else "") for choice in chosen.choices)
    shown = ", ".join(f"{method} {count:,}" for method, count in sorted(counts.items()))
    observer.stage(f"  calibration by label: {shown}")


def _non_finite(outcome: Outcome, out: Path) -> Finding:
    return Finding(
        "T301",
        "training",
        f"the loss or gradient of step {outcome.steps + 1:,} was not a number; texts with ids "
        + ", ".join(outcome.ids_at_fault[:8]),
        next_step=f"{out} holds the last good weights (step {outcome.best_step:,}); look at these rows, or train with "
        "--set training.precision=fp32 or a lower --set training.learning_rate",
    )
