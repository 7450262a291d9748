"""The story of a training run, top to bottom; called by the Python interface and `manylabel train`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from manylabel.bundle.contents import Bundle
from manylabel.bundle.files import check_target, require_writable
from manylabel.bundle.probes import Probes
from manylabel.bundle.save import save_bundle
from manylabel.config.schema import Precision, RunSettings, TrainingSettings
from manylabel.data.duplicates import text_fingerprints
from manylabel.errors import EncoderError, Finding, TrainingError, UsageError
from manylabel.inference.backends.torch_backend import TorchBackend
from manylabel.inference.predictor import Predictor
from manylabel.modeling.classifier import Classifier
from manylabel.modeling.precision import choose_device, resolve_precision
from manylabel.modeling.weights.hugging_face import has_pooler, load_pretrained, read_config
from manylabel.modeling.weights.locate import locate_encoder
from manylabel.recipes.corpora import Corpora, Source, all_texts, gather_corpora
from manylabel.recipes.evaluate import evaluate_rows
from manylabel.recipes.judge import default_thresholds, fit_baseline_beside, tune_thresholds, validation_score
from manylabel.recipes.provenance import describe_run
from manylabel.text.tokenizer import TextTokenizer
from manylabel.training.head_start import start_head
from manylabel.training.loop import Outcome, Rates, Trainer, TrainingData
from manylabel.training.objectives import MultiLabelObjective
from manylabel.training.observers import Observer
from manylabel.values import Encodings

RATE_BY_WIDTH = ((384, 2e-4), (512, 1e-4))
"""Peak rate up to a hidden width; small encoders bear larger steps. 2e-4 was the best of the rates tried with the
default encoder (width 384) on GoEmotions; see benchmarks/results."""
RATE_ABOVE = 3e-5
"""As BERT-Base and -Large were fine-tuned (Devlin et al. 2019, appendix A.3: 5e-5, 3e-5, 2e-5)."""
HEAD_FACTOR = 10.0


@dataclass(frozen=True, eq=False)
class TrainReport:
    """What a run left: where, how it ended, and the test figures (None without test rows)."""

    folder: Path
    outcome: Outcome
    evaluation: Mapping[str, Any] | None


def train_model(
    source: Source,
    *,
    out: Path,
    settings: RunSettings,
    observer: Observer,
    validation: Source | None = None,
    test: Source | None = None,
    overwrite: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainReport:
    """Train on `source` and publish the model as the folder `out`.

    Raises DataError or EncoderError before training, TrainingError after saving the last good weights when a
    loss was not finite, UsageError when `out` exists and `overwrite` is not set.
    """
    check_target(out, overwrite)
    require_writable(out)
    encoder_folder = locate_encoder(settings.model.encoder)
    corpora = gather_corpora(source, validation, test, settings=settings, observer=observer)
    classifier = _new_classifier(encoder_folder, len(corpora.train.labels), settings)
    tokenizer = _tokenizer(encoder_folder, classifier, settings)
    observer.stage("Tokenising")
    encodings = tokenizer.encode(corpora.train.texts, corpora.train.pairs)
    _tell_tokens(encodings, tokenizer.max_length, observer)
    data = TrainingData(encodings, corpora.train.targets_NL, corpora.train.ids)
    if should_stop():
        raise KeyboardInterrupt
    start_head(classifier, data, seed=settings.training.seed, keep_pooler=has_trained_pooler(encoder_folder))
    outcome = _fit(
        classifier, data, corpora, tokenizer, settings=settings, observer=observer, should_stop=should_stop
    )

    observer.stage("Choosing thresholds on the validation rows")
    predictor = _predictor(classifier, tokenizer, corpora, settings, precision=settings.inference.precision)
    predictor = predictor.with_thresholds(tune_thresholds(predictor, corpora.validation, settings.decisions))
    observer.stage("Training the baseline (TF-IDF + logistic regression)")
    baseline = fit_baseline_beside(corpora, settings)
    evaluation = None
    if outcome.ending == "interrupted":
        observer.stage("Interrupted: saving now, the test rows are left for manylabel evaluate")
    elif corpora.test is not None:
        observer.stage(f"Evaluating on {len(corpora.test):,} test rows")
        evaluation = evaluate_rows(predictor, baseline, corpora.test, seen_N=corpora.seen_test_rows).to_json()
    exact = _predictor(classifier, tokenizer, corpora, settings, precision="fp32")
    takes_pairs = corpora.layout.pair_column is not None
    bundle = Bundle(
        classifier=classifier,
        encoder_config=read_config(encoder_folder),
        tokenizer=tokenizer,
        thresholds=predictor.thresholds,
        layout=corpora.layout,
        settings=settings,
        provenance=describe_run(corpora, outcome, encoder_folder, settings),
        seen_texts=np.unique(text_fingerprints([*all_texts(corpora.train), *all_texts(corpora.validation)])),
        baseline=baseline,
        evaluation=evaluation,
        probes=Probes.record(exact.probabilities, predictor.labels, takes_pairs=takes_pairs),
    )
    observer.stage(f"Saving {out}")
    save_bundle(bundle, out, overwrite=overwrite)
    if outcome.ending == "non-finite loss":
        raise TrainingError(_non_finite(outcome, out))
    return TrainReport(out, outcome, evaluation)


def choose_rates(settings: TrainingSettings, width: int) -> Rates:
    """The peak rates: what was set, else by the encoder's hidden width, the head ten times as fast."""
    by_width = next((rate for limit, rate in RATE_BY_WIDTH if width <= limit), RATE_ABOVE)
    encoder = settings.learning_rate or by_width
    return Rates(encoder, settings.head_learning_rate or min(encoder * HEAD_FACTOR, 1.0))


def _tell_tokens(encodings: Encodings, max_length: int, observer: Observer) -> None:
    cut = f"{encodings.truncated_N.mean():.1%} of the texts are longer than {max_length} tokens and were cut"
    observer.stage(f"  {encodings.lengths_N.sum():,} tokens; {cut}")


def has_trained_pooler(folder: Path) -> bool:
    """Whether the checkpoint brings a pooler that something was trained through.

    sentence-transformers' folders (modules.json) carry BERT's pooler but pool otherwise, so theirs was never trained.
    """
    return has_pooler(folder) and not (folder / "modules.json").is_file()


def _new_classifier(folder: Path, num_labels: int, settings: RunSettings) -> Classifier:
    """The encoder's weights with a fresh head, on the best device."""
    classifier = load_pretrained(
        folder,
        num_labels=num_labels,
        head=settings.model.head,
        dropout=settings.model.dropout,
        attention_dropout=settings.model.attention_dropout,
        seed=settings.training.seed,
    )
    return classifier.to(choose_device())


def _tokenizer(folder: Path, classifier: Classifier, settings: RunSettings) -> TextTokenizer:
    """The encoder's tokenizer; texts may be no longer than its positions."""
    wanted, possible = settings.text.max_length, classifier.encoder.max_tokens
    if wanted > possible:
        raise UsageError(
            Finding("U202", "setting text.max_length", str(wanted), f"8 to {possible} for this encoder",
                    f"--set text.max_length={possible}")
        )  # fmt: skip
    tokenizer = TextTokenizer.from_folder(
        folder, max_length=wanted, normalization=settings.text.normalization
    )
    if tokenizer.vocabulary_size > classifier.encoder.vocabulary_size:
        found = f"token ids up to {tokenizer.vocabulary_size - 1:,}"
        allowed = f"below {classifier.encoder.vocabulary_size:,}, as the encoder's embeddings"
        step = "use the tokenizer the encoder was trained with, or --encoder default"
        raise EncoderError(Finding("E304", f"tokenizer in {folder}", found, allowed, step))
    return tokenizer


def _predictor(
    classifier: Classifier,
    tokenizer: TextTokenizer,
    corpora: Corpora,
    settings: RunSettings,
    *,
    precision: Precision,
) -> Predictor:
    """A predictor over the classifier in memory, with default thresholds."""
    dtype = resolve_precision(precision, next(classifier.parameters()).device)
    thresholds = default_thresholds(corpora.train.labels.names, settings.decisions)
    backend = TorchBackend(classifier, dtype=dtype)
    return Predictor(
        backend,
        tokenizer,
        thresholds,
        token_budget=settings.inference.token_budget,
        takes_pairs=corpora.layout.pair_column is not None,
    )


def _fit(
    classifier: Classifier,
    data: TrainingData,
    corpora: Corpora,
    tokenizer: TextTokenizer,
    *,
    settings: RunSettings,
    observer: Observer,
    should_stop: Callable[[], bool],
) -> Outcome:
    """Run the loop, validating in the precision of training."""
    rates = choose_rates(settings.training, classifier.encoder.hidden_size)
    device = next(classifier.parameters()).device
    dtype = resolve_precision(settings.training.precision, device)
    num_parameters = sum(parameter.numel() for parameter in classifier.parameters())
    observer.stage(f"Training {num_parameters / 1e6:.1f}M parameters on {device.type} in {str(dtype)[6:]}, "
                   f"rates {rates.encoder:g} and {rates.head:g} (head)")  # fmt: skip
    trainer = Trainer(
        classifier,
        data,
        objective=MultiLabelObjective(),
        settings=settings.training,
        rates=rates,
        observer=observer,
        should_stop=should_stop,
    )
    backend = TorchBackend(classifier, dtype=dtype)
    outcome = trainer.fit(validation_score(backend, tokenizer, corpora.validation, settings))
    speed = outcome.tokens / max(outcome.seconds, 1e-9)
    observer.stage(
        f"  {outcome.ending} after {outcome.steps:,} steps and {outcome.seconds:,.0f} s, {speed:,.0f} tokens/s; "
        f"best at step {outcome.best_step:,}"
    )
    return outcome


def _non_finite(outcome: Outcome, out: Path) -> Finding:
    return Finding(
        "T301",
        "training",
        f"the loss or gradient of step {outcome.steps + 1:,} was not a number; texts with ids "
        + ", ".join(outcome.ids_at_fault[:8]),
        next_step=f"{out} holds the last good weights (step {outcome.best_step:,}); look at these rows, or train with "
        "--set training.precision=fp32 or a lower --set training.learning_rate",
    )
