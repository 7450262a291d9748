"""The story of a training run, top to bottom; called by the Python interface and `manylabel train`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from manylabel.bundle.contents import Bundle
from manylabel.bundle.files import check_target, require_writable
from manylabel.bundle.probes import Probes
from manylabel.bundle.save import save_bundle
from manylabel.config.schema import RunSettings
from manylabel.data.duplicates import text_fingerprints
from manylabel.data.sketches import text_sketches
from manylabel.errors import Finding, TrainingError, counted
from manylabel.inference.backends.torch_backend import TorchBackend
from manylabel.modeling.classifier import Classifier
from manylabel.modeling.lora import add_lora, merge_lora
from manylabel.modeling.precision import resolve_precision
from manylabel.modeling.weights.hugging_face import read_config
from manylabel.modeling.weights.locate import locate_encoder
from manylabel.recipes.corpora import Corpora, Source, all_texts, gather_corpora
from manylabel.recipes.evaluate import evaluate_rows
from manylabel.recipes.judge import fit_baseline_beside, tune_thresholds, validation_score
from manylabel.recipes.prepare import (
    choose_rates,
    has_trained_pooler,
    new_classifier,
    predictor_of,
    tokenizer_for,
)
from manylabel.recipes.provenance import describe_run
from manylabel.recipes.run import Run, identity_of, opened_run, stopped
from manylabel.text.tokenizer import TextTokenizer
from manylabel.training.head_start import start_head
from manylabel.training.loop import Outcome, Trainer, TrainingData
from manylabel.training.objectives import build_objective
from manylabel.training.observers import Observer
from manylabel.training.preflight import GIB, free_memory
from manylabel.training.processes import Processes


@dataclass(frozen=True, eq=False)
class Job:
    """What to train on and where the model goes.

    `validation` and `test` are split off `source` where they are None. `overwrite` replaces a model in `out`, `fresh`
    discards an unfinished run of it instead of going on.
    """

    source: Source
    out: Path
    validation: Source | None = None
    test: Source | None = None
    overwrite: bool = False
    fresh: bool = False


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
    check_target(job.out, job.overwrite)
    require_writable(job.out)
    with opened_run(job.out, processes) as run:
        encoder_folder = locate_encoder(settings.model.encoder)
        corpora = gather_corpora(job.source, job.validation, job.test, settings=settings, observer=observer)
        run.begin(identity_of(corpora, encoder_folder, settings, processes), fresh=job.fresh)
        parts = _assemble(
            run, corpora, encoder_folder, settings=settings, observer=observer, processes=processes
        )
        if should_stop():
            raise KeyboardInterrupt
        outcome = _fit(parts, run, processes, should_stop=should_stop)
        if outcome.ending == "interrupted" or should_stop():
            raise stopped(outcome, job.out)
        evaluation = None
        if processes.is_main:
            evaluation = _judge_and_save(parts, outcome, job)
            run.finish()
    if outcome.ending == "non-finite loss" and processes.is_main:
        raise TrainingError(_non_finite(outcome, job.out))
    return TrainReport(job.out, outcome, evaluation)


@dataclass(frozen=True, eq=False)
class _Parts:
    """All that a run works with."""

    corpora: Corpora
    encoder_folder: Path
    classifier: Classifier
    tokenizer: TextTokenizer
    data: TrainingData
    settings: RunSettings
    observer: Observer


def _assemble(
    run: Run,
    corpora: Corpora,
    encoder_folder: Path,
    *,
    settings: RunSettings,
    observer: Observer,
    processes: Processes,
) -> _Parts:
    """Network, tokenizer and tokens, the head begun from the data."""
    classifier = new_classifier(encoder_folder, len(corpora.train.labels), settings, processes.device)
    tokenizer = tokenizer_for(encoder_folder, classifier, settings)
    observer.stage("Tokenising")
    encodings = run.encodings(tokenizer, corpora.train)
    cut = f"{encodings.truncated_N.mean():.1%} of the texts are longer than {tokenizer.max_length} tokens and were cut"
    observer.stage(f"  {encodings.lengths_N.sum():,} tokens; {cut}")
    data = TrainingData(encodings, corpora.train.targets_NL, corpora.train.ids)
    seed = settings.training.seed
    start_head(classifier, data, seed=seed, keep_pooler=has_trained_pooler(encoder_folder))
    if settings.lora.rank:
        generator = torch.Generator().manual_seed(seed)
        add_lora(classifier, settings.lora.rank, alpha=settings.lora.alpha, generator=generator)
    return _Parts(corpora, encoder_folder, classifier, tokenizer, data, settings, observer)


def _fit(parts: _Parts, run: Run, processes: Processes, *, should_stop: Callable[[], bool]) -> Outcome:
    """Run the loop, validating in the precision of training; afterwards the classifier holds the best weights."""
    settings, classifier, observer = parts.settings, parts.classifier, parts.observer
    rates = choose_rates(settings.training, classifier.encoder.hidden_size)
    dtype = resolve_precision(settings.training.precision, processes.device)
    trained = sum(parameter.numel() for parameter in classifier.parameters() if parameter.requires_grad)
    observer.stage(f"Training {trained / 1e6:.1f}M parameters on {_places(processes)} in {str(dtype)[6:]}, "
                   f"rates {rates.encoder:g} and {rates.head:g} (head)")  # fmt: skip
    trainer = Trainer(
        classifier,
        parts.data,
        objective=build_objective(settings.loss, parts.data.targets_NL),
        settings=settings.training,
        rates=rates,
        observer=observer,
        should_stop=should_stop,
        processes=processes,
    )
    run.resume(trainer, settings.checkpoints, observer)
    _preflight(trainer, run, settings, observer)
    validation = parts.corpora.validation
    validate = validation_score(
        TorchBackend(classifier, dtype=dtype),
        parts.tokenizer.encode(validation.texts, validation.pairs),
        validation,
        token_budget=settings.inference.token_budget,
        processes=processes,
        should_stop=should_stop,
    )
    with run.keeper(settings.checkpoints, observer) as keeper:
        outcome = trainer.fit(validate, keeper)
    merge_lora(classifier)
    speed = outcome.tokens / max(outcome.seconds, 1e-9)
    observer.stage(
        f"  {outcome.ending} after {outcome.steps:,} steps and {outcome.seconds:,.0f} s, {speed:,.0f} tokens/s; "
        f"best at step {outcome.best_step:,}"
    )
    return outcome


def _places(processes: Processes) -> str:
    device = processes.device.type
    return device if processes.size == 1 else f"{counted(processes.size, 'process', 'processes')} ({device})"


def _preflight(trainer: Trainer, run: Run, settings: RunSettings, observer: Observer) -> None:
    """Say what the run will take; refuse a disk that cannot hold its checkpoints, warn of too little memory."""
    estimate = trainer.rehearse()
    disk_bytes = estimate.checkpoint_bytes * (settings.checkpoints.keep + 1)
    run.require_space(disk_bytes)
    observer.stage(f"  estimate: {estimate.sentence()}, {disk_bytes / GIB:.1f} GiB of disk for checkpoints")
    free = free_memory()
    if free is not None and trainer.device.type == "cpu" and estimate.memory_bytes > free:
        observer.stage(f"  warning: {free / GIB:.1f} GiB of memory are free; a lower --set training.token_budget or "
                       "--set training.gradient_checkpointing=true needs less")  # fmt: skip


def _judge_and_save(parts: _Parts, outcome: Outcome, job: Job) -> Mapping[str, Any] | None:
    """Thresholds, baseline, test figures, and the bundle with all of it; the test figures."""
    settings, corpora, observer = parts.settings, parts.corpora, parts.observer
    observer.stage("Choosing thresholds on the validation rows")
    predictor = predictor_of(
        parts.classifier, parts.tokenizer, corpora, settings, precision=settings.inference.precision
    )
    predictor = predictor.with_thresholds(tune_thresholds(predictor, corpora.validation, settings.decisions))
    observer.stage("Training the baseline (TF-IDF + logistic regression)")
    baseline = fit_baseline_beside(corpora, settings)
    evaluation = None
    if corpora.test is not None:
        observer.stage(f"Evaluating on {len(corpora.test):,} test rows")
        evaluation = evaluate_rows(predictor, baseline, corpora.test, seen_N=corpora.seen_test_rows).to_json()
    exact = predictor_of(parts.classifier, parts.tokenizer, corpora, settings, precision="fp32")
    takes_pairs = corpora.layout.pair_column is not None
    seen = [*all_texts(corpora.train), *all_texts(corpora.validation)]
    bundle = Bundle(
        classifier=parts.classifier,
        encoder_config=read_config(parts.encoder_folder),
        tokenizer=parts.tokenizer,
        thresholds=predictor.thresholds,
        layout=corpora.layout,
        settings=settings,
        provenance=describe_run(corpora, outcome, parts.encoder_folder, settings),
        seen_texts=np.unique(text_fingerprints(seen)),
        seen_sketches=text_sketches(seen),
        baseline=baseline,
        evaluation=evaluation,
        probes=Probes.record(exact.probabilities, predictor.labels, takes_pairs=takes_pairs),
    )
    observer.stage(f"Saving {job.out}")
    save_bundle(bundle, job.out, overwrite=job.overwrite)
    return evaluation


def _non_finite(outcome: Outcome, out: Path) -> Finding:
    return Finding(
        "T301",
        "training",
        f"the loss or gradient of step {outcome.steps + 1:,} was not a number; texts with ids "
        + ", ".join(outcome.ids_at_fault[:8]),
        next_step=f"{out} holds the last good weights (step {outcome.best_step:,}); look at these rows, or train with "
        "--set training.precision=fp32 or a lower --set training.learning_rate",
    )
