"""The network, the tokenizer and the rates of a run; called by recipes/train.py."""

from __future__ import annotations

from pathlib import Path

import torch

from manylabel.config.schema import Precision, RunSettings, TrainingSettings
from manylabel.errors import EncoderError, Finding, UsageError
from manylabel.inference.backends.torch_backend import TorchBackend
from manylabel.inference.predictor import Predictor
from manylabel.inference.scorer import SingleScorer
from manylabel.modeling.classifier import Classifier
from manylabel.modeling.precision import resolve_precision
from manylabel.modeling.weights.hugging_face import has_pooler, load_pretrained
from manylabel.recipes.adapted_encoder import read_adaptation, require_unchanged
from manylabel.recipes.check import max_length_findings
from manylabel.recipes.corpora import Corpora
from manylabel.recipes.judge import default_thresholds
from manylabel.text.tokenizer import TextTokenizer
from manylabel.training.optimizer import Rates

RATE_BY_WIDTH = ((384, 2e-4), (512, 1e-4))
"""Peak rate up to a hidden width; small encoders bear larger steps. 2e-4 was the best of the rates tried with the
default encoder (width 384) on GoEmotions; see benchmarks/results."""
RATE_ABOVE = 3e-5
"""As BERT-Base and -Large were fine-tuned (Devlin et al. 2019, appendix A.3: 5e-5, 3e-5, 2e-5)."""
HEAD_FACTOR = 10.0


def choose_rates(settings: TrainingSettings, width: int) -> Rates:
    """The peak rates: what was set, else by the encoder's hidden width, the head ten times as fast."""
    by_width = next((rate for limit, rate in RATE_BY_WIDTH if width <= limit), RATE_ABOVE)
    encoder = settings.learning_rate or by_width
    return Rates(encoder, settings.head_learning_rate or min(encoder * HEAD_FACTOR, 1.0))


def has_trained_pooler(folder: Path) -> bool:
    """Whether the checkpoint brings a pooler that something was trained through.

    sentence-transformers' folders (modules.json) carry BERT's pooler but pool otherwise, so theirs was never trained.
    An adapted encoder has one that was trained if its source had, or if pairs of segments were learned from.
    """
    adaptation = read_adaptation(folder)
    if adaptation is not None:
        return has_pooler(folder) and bool(adaptation["pooler_trained"])
    return has_pooler(folder) and not (folder / "modules.json").is_file()


def new_classifier(folder: Path, num_labels: int, settings: RunSettings, device: torch.device) -> Classifier:
    """The encoder's weights with a fresh head; raises EncoderError where they cannot be loaded or were changed."""
    require_unchanged(folder)
    classifier = load_pretrained(
        folder,
        num_labels=num_labels,
        head=settings.model.head,
        dropout=settings.model.dropout,
        attention_dropout=settings.model.attention_dropout,
        seed=settings.training.seed,
    )
    return classifier.to(device)


def tokenizer_for(folder: Path, classifier: Classifier, settings: RunSettings) -> TextTokenizer:
    """The encoder's tokenizer; texts may be no longer than its positions."""
    wanted, possible = settings.text.max_length, classifier.encoder.max_tokens
    if findings := max_length_findings(wanted, possible):
        raise UsageError(*findings)
    tokenizer = TextTokenizer.from_folder(
        folder, max_length=wanted, normalization=settings.text.normalization
    )
    if tokenizer.vocabulary_size > classifier.encoder.vocabulary_size:
        found = f"token ids up to {tokenizer.vocabulary_size - 1:,}"
        allowed = f"below {classifier.encoder.vocabulary_size:,}, as the encoder's embeddings"
        step = "use the tokenizer the encoder was trained with, or --encoder default"
        raise EncoderError(Finding("E305", f"tokenizer in {folder}", found, allowed, step))
    return tokenizer


def predictor_of(
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
        SingleScorer(backend, tokenizer, token_budget=settings.inference.token_budget),
        thresholds,
        takes_pairs=corpora.layout.pair_column is not None,
    )
