"""From checked rows to a trained network: what is put together, and one run of the loop; called by recipes/train.py.

`tell_before`, `preflight` and `tell_after` are the language model's too (recipes/adapt.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from manylabel.config.schema import RunSettings, TrainingSettings
from manylabel.errors import counted
from manylabel.inference.backends.torch_backend import TorchBackend
from manylabel.modeling.classifier import Classifier
from manylabel.modeling.depth import num_encoder_layers, parameter_depths
from manylabel.modeling.lora import add_lora, merge_lora
from manylabel.modeling.native.library import library
from manylabel.modeling.precision import resolve_precision
from manylabel.modeling.pretraining import TrainableModel
from manylabel.recipes.augment import described, examples_for, pass_for
from manylabel.recipes.corpora import Corpora
from manylabel.recipes.judge import validation_score
from manylabel.recipes.prepare import choose_rates, has_trained_pooler, new_classifier, tokenizer_for
from manylabel.recipes.run import Run
from manylabel.text.tokenizer import TextTokenizer
from manylabel.training.examples import Examples, LabelledTexts
from manylabel.training.freezing import is_frozen
from manylabel.training.head_start import start_head
from manylabel.training.loop import Outcome, Trainer
from manylabel.training.objectives import build_objective
from manylabel.training.observers import Observer
from manylabel.training.optimizer import Rates
from manylabel.training.passes import Pass
from manylabel.training.preflight import GIB, free_memory
from manylabel.training.processes import Processes
from manylabel.values import Corpus, FloatArray, IntArray

FORWARD_SHARE = 1 / 3
"""Of the time of a text's forward and backward pass: the way back takes about twice as long (Kaplan et al. 2020)."""


@dataclass(frozen=True, eq=False)
class Parts:
    """All that a run works with; `targets_NL` are those that are learned, -1 where nothing is, soft ones as floats."""

    corpora: Corpora
    encoder_folder: Path
    classifier: Classifier
    tokenizer: TextTokenizer
    examples: Examples
    targets_NL: IntArray | FloatArray
    settings: RunSettings
    observer: Observer


@dataclass(frozen=True, eq=False)
class Learned:
    """The rows that are learned from and their targets, where they are not the corpus's own."""

    rows: Corpus
    targets_NL: IntArray | FloatArray


def assemble(
    run: Run,
    corpora: Corpora,
    encoder_folder: Path,
    *,
    settings: RunSettings,
    observer: Observer,
    processes: Processes,
    learned: Learned | None = None,
) -> Parts:
    """Network, tokenizer and tokens, the head begun from the data; `learned` takes the place of the training rows."""
    learned = learned or Learned(corpora.train, corpora.train.targets_NL)
    rows, targets_NL = learned.rows, learned.targets_NL
    classifier = new_classifier(encoder_folder, len(rows.labels), settings, processes.device)
    tokenizer = tokenizer_for(encoder_folder, classifier, settings)
    observer.stage("Tokenising")
    encodings = run.encodings(tokenizer, rows)
    cut = f"{encodings.truncated_N.mean():.1%} of the texts are longer than {tokenizer.max_length} tokens and were cut"
    observer.stage(f"  {encodings.lengths_N.sum():,} tokens; {cut}")
    examples = examples_for(encodings, rows, tokenizer, settings, targets_NL=targets_NL)
    seed = settings.training.seed
    data = LabelledTexts(encodings, targets_NL, rows.ids)
    start_head(classifier, data, seed=seed, keep_pooler=has_trained_pooler(encoder_folder))
    if settings.lora.rank:
        generator = torch.Generator().manual_seed(seed)
        add_lora(classifier, settings.lora.rank, alpha=settings.lora.alpha, generator=generator)
    return Parts(corpora, encoder_folder, classifier, tokenizer, examples, targets_NL, settings, observer)


def fit(parts: Parts, run: Run, processes: Processes, *, should_stop: Callable[[], bool]) -> Outcome:
    """Run the loop, validating in the precision of training; afterwards the classifier holds the best weights."""
    settings, classifier, observer = parts.settings, parts.classifier, parts.observer
    rates = choose_rates(settings.training, classifier.encoder.hidden_size)
    tell_before(classifier, rates, settings=settings, observer=observer, processes=processes)
    tell_unfreezing(classifier, settings.training, observer)
    if augmentation := described(settings):
        observer.stage(f"  augmentation: {augmentation}")
    trainer = Trainer(
        classifier,
        parts.examples,
        objective=build_objective(settings.loss, parts.targets_NL),
        settings=settings.training,
        rates=rates,
        observer=observer,
        should_stop=should_stop,
        processes=processes,
    )
    a_pass = pass_for(settings)
    run.resume(trainer, settings.checkpoints, observer)
    validation = parts.corpora.validation
    encodings = parts.tokenizer.encode(validation.texts, validation.pairs)
    validations = settings.training.epochs * settings.training.validations_per_epoch
    validated = int(encodings.lengths_N.sum()) * validations // processes.size
    preflight(trainer, run, settings, observer, a_pass=a_pass, validated_tokens=validated)
    validate = validation_score(
        TorchBackend(classifier, dtype=resolve_precision(settings.training.precision, processes.device)),
        encodings,
        validation,
        token_budget=settings.inference.token_budget,
        processes=processes,
        should_stop=should_stop,
    )
    with run.keeper(settings.checkpoints, observer) as keeper:
        outcome = trainer.fit(validate, keeper, a_pass)
    merge_lora(classifier)
    tell_after(outcome, observer)
    return outcome


def tell_before(
    model: TrainableModel, rates: Rates, *, settings: RunSettings, observer: Observer, processes: Processes
) -> None:
    """How much is trained, where, in which number format, how fast."""
    dtype = resolve_precision(settings.training.precision, processes.device)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    device = processes.device.type
    several = f"{counted(processes.size, 'process', 'processes')} ({device})"
    places = device if processes.size == 1 else several
    plainly = ", without C++ kernels" if device == "cpu" and library() is None else ""
    observer.stage(f"Training {in_words(trained)} parameters on {places} in {str(dtype)[6:]}{plainly}, "
                   f"rates {rates.encoder:g} and {rates.head:g} (head)")  # fmt: skip


def in_words(count: int) -> str:
    """`22.7M`, or `31,264` where that would be less than a tenth of a million."""
    return f"{count / 1e6:.1f}M" if count >= 100_000 else f"{count:,}"


def tell_unfreezing(model: TrainableModel, settings: TrainingSettings, observer: Observer) -> None:
    """Say which layers gradual unfreezing never reaches in so few epochs, and how many epochs reach all of them."""
    num_layers = num_encoder_layers(parameter_depths(model))
    reached = num_layers + 2 - settings.epochs  # The lowest depth that is awake in the last epoch.
    depths = [depth for depth in range(num_layers + 1) if not is_frozen(depth, num_layers, settings)]
    asleep = [depth for depth in depths if depth < reached]
    if not settings.gradual_unfreezing or not asleep:
        return
    layers = sum(depth > 0 for depth in asleep)
    what = "only the head is ever trained"
    if len(asleep) < len(depths):
        parts = [
            *(["the embeddings"] if 0 in asleep else []),
            *([counted(layers, "layer")] if layers else []),
        ]
        what = f"{' and '.join(parts)} keep their weights"
    observer.stage(
        f"  note: gradual unfreezing wakes one layer an epoch; in {counted(settings.epochs, 'epoch')} {what} "
        f"(--set training.epochs={num_layers + 2 - depths[0]} reaches all that is not frozen)"
    )


def tell_after(outcome: Outcome, observer: Observer) -> None:
    """How training ended, and how fast it was."""
    speed = outcome.tokens / max(outcome.seconds, 1e-9)
    unseen = outcome.ending == "interrupted" and not outcome.best_step
    best = "not validated yet" if unseen else f"best at step {outcome.best_step:,}"
    observer.stage(
        f"  {outcome.ending} after {counted(outcome.steps, 'step')} and {outcome.seconds:,.0f} s, "
        f"{speed:,.0f} tokens/s with validations and checkpoints; {best}"
    )


def preflight(
    trainer: Trainer,
    run: Run,
    settings: RunSettings,
    observer: Observer,
    *,
    a_pass: Pass,
    validated_tokens: int = 0,
) -> None:
    """Say what the run will take; refuse a disk that cannot hold its checkpoints, warn of too little memory.

    `validated_tokens` are those of all validations together.
    """
    estimate = trainer.rehearse(a_pass)
    seconds_of_validations = FORWARD_SHARE * estimate.seconds_per_token * validated_tokens
    estimate = replace(estimate, seconds=estimate.seconds + seconds_of_validations)
    disk_bytes = estimate.checkpoint_bytes * (settings.checkpoints.keep + 1)
    run.require_space(disk_bytes)
    observer.stage(f"  estimate: {estimate.sentence()}, {disk_bytes / GIB:.1f} GiB of disk for checkpoints")
    free = free_memory()
    if free is not None and trainer.device.type == "cpu" and estimate.memory_bytes > free:
        observer.stage(f"  warning: {free / GIB:.1f} GiB of memory are free; a lower --set training.token_budget or "
                       "--set training.gradient_checkpointing=true needs less")  # fmt: skip
