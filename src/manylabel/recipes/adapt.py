"""The story of an adaptation: the language model goes on learning, on a user's own texts; called by `manylabel adapt`.

Masked words and next sentence, as BERT was made (Devlin et al. 2019), through the same loop, checkpoints and processes
as training. The result is an encoder, which `train --encoder FOLDER` takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from manylabel.bundle.encoder_folder import check_encoder_target
from manylabel.bundle.files import require_writable
from manylabel.config.schema import RunSettings, TrainingSettings
from manylabel.errors import MAX_ROWS_SHOWN, Finding, TrainingError, UsageError, counted
from manylabel.modeling.precision import resolve_precision
from manylabel.modeling.pretraining import PretrainingModel
from manylabel.modeling.weights.locate import locate_encoder
from manylabel.modeling.weights.pretraining_names import LoadedPretraining, load_pretraining
from manylabel.recipes.adapt_texts import GatheredTexts, TextSources, gather_texts, make_sentences
from manylabel.recipes.adapted_encoder import read_adaptation, require_unchanged, save_encoder
from manylabel.recipes.check import max_length_findings
from manylabel.recipes.fit import preflight, tell_after, tell_before, tell_unfreezing
from manylabel.recipes.masked_figures import MaskedFigures, measure
from manylabel.recipes.prepare import HEAD_FACTOR, has_trained_pooler
from manylabel.recipes.provenance import (
    describe_engine,
    describe_hardware,
    describe_versions,
    folder_fingerprint,
)
from manylabel.recipes.run import Run, opened_run, stopped
from manylabel.text.masking import WordPieces
from manylabel.text.segments import Sentences
from manylabel.text.sentences import known_language
from manylabel.text.tokenizer import TextTokenizer
from manylabel.training.loop import Outcome, StoppedInValidation, Trainer
from manylabel.training.observers import Observer, Step, Validated
from manylabel.training.optimizer import Rates
from manylabel.training.pretraining import PretrainingObjective, PretrainingPass
from manylabel.training.pretraining_examples import PretrainingEpoch, PretrainingExamples
from manylabel.training.processes import Processes

DEFAULT_EPOCHS = 1
"""Unless training.epochs is set: going on beyond one or two passes mostly fits the texts themselves."""
RATE_UP_TO_512, RATE_ABOVE = 1e-4, 5e-5
"""Unless training.learning_rate is set, by hidden width. 1e-4 is the rate BERT was made with (Devlin et al. 2019,
appendix A.2); its README advises a smaller one to go on from a large checkpoint."""
SECTIONS = ("text", "training", "pretraining")
SINGLE = ("model.dropout", "model.attention_dropout", "split.seed", "split.near_duplicate_similarity")
"""Settings that decide what a step does or on what it is made: whole sections, and single ones of others."""


@dataclass(frozen=True, eq=False)
class AdaptJob:
    """Which texts, and where the encoder goes; `overwrite` and `fresh` as in training."""

    sources: TextSources
    out: Path
    overwrite: bool = False
    fresh: bool = False


@dataclass(frozen=True, eq=False)
class AdaptReport:
    """What an adaptation left: where, how it ended, and the figures on the texts held out, before and after."""

    folder: Path
    outcome: Outcome
    before: MaskedFigures
    after: MaskedFigures

    def to_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "encoder": str(self.folder),
            "ending": self.outcome.ending,
            "steps": self.outcome.steps,
            "best_step": self.outcome.best_step,
            "seconds": self.outcome.seconds,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
        }


@dataclass(frozen=True, eq=False)
class _Parts:
    """All that a run works with."""

    source: Path
    loaded: LoadedPretraining
    examples: PretrainingExamples
    held_out: PretrainingEpoch
    gathered: GatheredTexts
    settings: RunSettings
    observer: Observer

    @property
    def model(self) -> PretrainingModel:
        return self.loaded.model


def adapt_encoder(
    job: AdaptJob,
    *,
    settings: RunSettings,
    observer: Observer,
    should_stop: Callable[[], bool] = lambda: False,
    processes: Processes | None = None,
) -> AdaptReport:
    """Adapt and publish the encoder as the folder `job.out`; goes on from the last checkpoint of an unfinished run.

    With several `processes` all of them call this, and the first one saves. Raises DataError or EncoderError before
    training, UsageError when `out` may not be written or holds another unfinished run, TrainingStopped when
    `should_stop` said so and the state is saved, TrainingError after saving the last good weights when a loss was not
    finite.
    """
    processes = processes or Processes.alone()
    settings = settings.model_copy(update={"training": _own_defaults(settings.training)})
    known_language(job.sources.language)
    check_encoder_target(job.out.resolve(), overwrite=job.overwrite)
    require_writable(job.out)
    with opened_run(job.out, processes) as run:
        source = locate_encoder(settings.model.encoder)
        gathered = gather_texts(job.sources, settings, observer)
        run.begin(_identity(gathered, source, job, settings=settings, processes=processes), fresh=job.fresh)
        parts = _assemble(
            run, gathered, source, job=job, settings=settings, observer=observer, processes=processes
        )
        before = _measured(parts, processes, "before", should_stop)
        outcome = _fit(parts, run, processes, should_stop=should_stop)
        if outcome.ending == "interrupted" or processes.any(should_stop()):
            raise stopped(outcome, job.out)
        after = _measured(parts, processes, "after", should_stop)
        report = AdaptReport(job.out, outcome, before, after)
        if processes.is_main:
            observer.stage(f"Saving {job.out}")
            facts = _facts(parts, report, job)
            save_encoder(parts.model, source, job.out, adaptation=facts, overwrite=job.overwrite)
            run.finish()
    if outcome.ending == "non-finite loss" and processes.is_main:
        raise TrainingError(_not_finite(outcome, parts, job.out))
    return report


def _own_defaults(training: TrainingSettings) -> TrainingSettings:
    """What training settings mean here where the user did not set them."""
    is_open = "epochs" not in training.model_fields_set
    return training.model_copy(update={"epochs": DEFAULT_EPOCHS}) if is_open else training


def _identity(
    gathered: GatheredTexts, source: Path, job: AdaptJob, *, settings: RunSettings, processes: Processes
) -> dict[str, str | int | float | bool | None]:
    """What must be the same for a run to go on."""
    return {
        **_used(settings),
        "command": "adapt",
        "language": job.sources.language,
        "texts": gathered.documents.fingerprint()[:16],
        "encoder": folder_fingerprint(source)[:16],
        "processes": processes.size,
        **describe_engine(settings.training.precision, processes.device),
    }


def _used(settings: RunSettings) -> dict[str, str | int | float | bool | None]:
    """The settings that count here, by their full names."""
    values = settings.model_dump(mode="json")
    sections = {f"{section}.{name}": value for section in SECTIONS for name, value in values[section].items()}
    singles = [name.split(".") for name in SINGLE]
    return sections | {f"{section}.{name}": values[section][name] for section, name in singles}


def _assemble(
    run: Run,
    gathered: GatheredTexts,
    source: Path,
    *,
    job: AdaptJob,
    settings: RunSettings,
    observer: Observer,
    processes: Processes,
) -> _Parts:
    """The network with its heads, and the texts as examples."""
    require_unchanged(source)
    loaded = load_pretraining(
        source,
        dropout=settings.model.dropout,
        attention_dropout=settings.model.attention_dropout,
        seed=settings.training.seed,
        learns_next=settings.pretraining.next_sentence,
    )
    loaded.model.to(processes.device)
    encoder = loaded.model.encoder
    if findings := max_length_findings(settings.text.max_length, encoder.max_tokens):
        raise UsageError(*findings)
    fresh = sorted({"masked words", "next sentence"} - loaded.found)
    if fresh:
        observer.stage(f"  the encoder has no head for {' and '.join(fresh)}; a fresh one is begun")
    tokenizer = TextTokenizer.from_folder(source, max_length=settings.text.max_length)
    pieces = WordPieces.of(tokenizer, source)
    learned, held_out = make_sentences(
        gathered,
        source,
        run=run,
        settings=settings,
        language=job.sources.language,
        pieces=pieces,
        observer=observer,
    )

    def examples_of(sentences: Sentences, seed: int) -> PretrainingExamples:
        wanted, length = settings.pretraining, settings.text.max_length
        return PretrainingExamples(sentences, pieces=pieces, settings=wanted, max_length=length, seed=seed)

    if "masked words" in fresh:
        loaded.model.head.set_prior(np.bincount(learned.ids_T, minlength=encoder.vocabulary_size))
    examples = examples_of(learned, settings.training.seed)
    fixed = examples_of(held_out, settings.split.seed).epoch(0)
    observer.stage(
        f"  {counted(len(examples), 'example')} of at most {settings.text.max_length} tokens, "
        f"{examples.epoch(0).num_pairs:,} of them two segments; {len(fixed.lengths_N):,} held out"
    )
    return _Parts(source, loaded, examples, fixed, gathered, settings, observer)


def _fit(parts: _Parts, run: Run, processes: Processes, *, should_stop: Callable[[], bool]) -> Outcome:
    """Run the loop; afterwards the model holds the best weights."""
    settings, model = parts.settings, parts.model
    rates = choose_adaptation_rates(
        settings.training, model.encoder.hidden_size, fresh_head="masked words" not in parts.loaded.found
    )
    tell_before(model, rates, settings=settings, observer=parts.observer, processes=processes)
    tell_unfreezing(model, settings.training, parts.observer)
    trainer = Trainer(
        model,
        parts.examples,
        objective=PretrainingObjective(),
        settings=settings.training,
        rates=rates,
        observer=_InLossTerms(parts.observer),
        should_stop=should_stop,
        processes=processes,
    )
    a_pass = PretrainingPass()
    run.resume(trainer, settings.checkpoints, parts.observer)
    preflight(trainer, run, settings, parts.observer, a_pass=a_pass)

    def validate() -> float:
        figures = _figures(parts, processes, should_stop)
        return -figures.loss if math.isfinite(figures.loss) else math.nan

    with run.keeper(settings.checkpoints, parts.observer) as keeper:
        outcome = trainer.fit(validate, keeper, a_pass)
    tell_after(outcome, parts.observer)
    return outcome


def choose_adaptation_rates(training: TrainingSettings, width: int, *, fresh_head: bool) -> Rates:
    """The peak rates: what was set, else by the hidden width; a fresh head learns ten times as fast."""
    encoder = training.learning_rate or (RATE_UP_TO_512 if width <= 512 else RATE_ABOVE)
    factor = HEAD_FACTOR if fresh_head else 1.0
    return Rates(encoder, training.head_learning_rate or min(encoder * factor, 1.0))


def _figures(parts: _Parts, processes: Processes, should_stop: Callable[[], bool]) -> MaskedFigures:
    """On the texts held out, always with the same masks; raises StoppedInValidation when asked to stop meanwhile."""

    def look_up() -> None:
        # Several processes go on to the end, since each would stop at another batch.
        if processes.size == 1 and should_stop():
            raise StoppedInValidation

    return measure(
        parts.model,
        parts.held_out,
        token_budget=parts.settings.inference.token_budget,
        dtype=resolve_precision(parts.settings.training.precision, processes.device),
        processes=processes,
        on_batch=look_up,
    )


def _measured(
    parts: _Parts, processes: Processes, when: str, should_stop: Callable[[], bool]
) -> MaskedFigures:
    """The figures outside the loop, told in one line."""
    try:
        figures = _figures(parts, processes, should_stop)
    except StoppedInValidation:
        raise KeyboardInterrupt from None
    pairs = "" if figures.next_accuracy is None else f", next sentence {figures.next_accuracy:.1%} right"
    parts.observer.stage(
        f"  {when}, on {counted(figures.masked, 'masked token')} held out: {figures.accuracy:.1%} right, "
        f"perplexity {figures.perplexity:,.1f}{pairs}"
    )
    return figures


class _InLossTerms:
    """Passes everything on; a validation of the loop, whose score is minus the held-out loss, as a line of its own."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def stage(self, text: str) -> None:
        """A stage."""
        self._observer.stage(text)

    def step(self, step: Step) -> None:
        """A step."""
        self._observer.step(step)

    def validated(self, result: Validated) -> None:
        """A validation."""
        score = result.macro_average_precision
        loss = "not finite" if score is None else f"{-score:.4f}"
        best = "  (best so far)" if result.best else ""
        self._observer.stage(f"  epoch {result.epoch:.2f}  held-out loss of masked tokens {loss}{best}")


def _facts(parts: _Parts, report: AdaptReport, job: AdaptJob) -> Mapping[str, Any]:
    """What adaptation.json records; no times and no paths, so that equal runs give equal bytes."""
    settings, outcome, former = parts.settings, report.outcome, read_adaptation(parts.source)
    num_pairs = parts.examples.epoch(0).num_pairs
    return {
        "encoder": {
            "sha256": folder_fingerprint(parts.source),
            "heads_found": sorted(parts.loaded.found),
            "adapted_before": former,
        },
        "texts": {**parts.gathered.to_json(), "language": job.sources.language},
        "training": {
            "examples": len(parts.examples),
            "pairs": num_pairs,
            "steps": outcome.steps,
            "best_step": outcome.best_step,
            "tokens": outcome.tokens,
            "ending": outcome.ending,
        },
        "held_out": {"before": _finite(report.before), "after": _finite(report.after)},
        "pooler_trained": has_trained_pooler(parts.source)
        or (settings.pretraining.next_sentence and num_pairs > 0 and outcome.best_step > 0),
        "settings": _used(settings),
        "versions": describe_versions(),
        "hardware": describe_hardware(settings),
    }


def _finite(figures: MaskedFigures) -> dict[str, float | int | None]:
    """The figures for a JSON file, in which an undefined one is null."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in figures.to_json().items()
    }


def _not_finite(outcome: Outcome, parts: _Parts, out: Path) -> Finding:
    """The step, and where the texts at fault stand, whose ids are `document 1,234`."""
    words = [name.rpartition(" ")[2] for name in outcome.ids_at_fault]
    numbers = dict.fromkeys(int(word.replace(",", "")) - 1 for word in words)
    places = "; ".join(parts.gathered.place_of(number) for number in list(numbers)[:MAX_ROWS_SHOWN])
    found = f"the loss or gradient of step {outcome.steps + 1:,} was not a number; texts: {places}"
    step = (
        f"{out} holds the last good weights (step {outcome.best_step:,}); look at these texts, or adapt with "
        "--set training.precision=fp32 or a lower --set training.learning_rate"
    )
    return Finding("T301", "adaptation", found, next_step=step)
