"""Every architecture that is not BERT-like, through `transformers`' own models behind the `Encoder` protocol.

Slower than `PackedEncoder`, because it pads, but it works. Built by `classifier.build_classifier`; the only module that
imports transformers, and only when such an encoder is built. Models come from the installed package, never from code
beside the weights.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from manylabel.errors import EncoderError, Finding
from manylabel.modeling.packed import PackedBatch, to_device
from manylabel.values import Batch

ALLOWED_TYPES = (
    "albert",
    "camembert",
    "deberta",
    "deberta-v2",
    "distilbert",
    "electra",
    "ernie",
    "mobilebert",
    "modernbert",
    "mpnet",
    "rembert",
)
"""Values of `model_type` that are known to give one hidden state a token; each is built by a test. Any other type that
transformers knows is tried on two texts when it is built."""

DROPOUT_KEYS = ("hidden_dropout_prob", "dropout", "embedding_dropout", "mlp_dropout")
ATTENTION_DROPOUT_KEYS = ("attention_probs_dropout_prob", "attention_dropout")
FIRST_POSITION_AFTER_PADDING = ("camembert", "mpnet")
"""Types whose position table starts at `pad_token_id + 1`, as RoBERTa's."""


class TransformersEncoder(nn.Module):
    """A model of `transformers` that takes packed texts: padded on the way in, unpadded on the way out."""

    def __init__(
        self, config: Mapping[str, object], *, dropout: float = 0.0, attention_dropout: float = 0.0
    ) -> None:
        super().__init__()
        refuse_foreign_code(config)
        self.model, settings = _build(config, dropout, attention_dropout)
        if not hasattr(settings, "hidden_size") or not hasattr(settings, "max_position_embeddings"):
            raise EncoderError(
                _unusable(f"{settings.model_type!r} is no text encoder of fixed width and length")
            )
        self._hidden_size = int(settings.hidden_size)
        self._max_tokens = _max_tokens(settings)
        self._pad_id = int(settings.pad_token_id or 0)
        self._takes_segments = "token_type_ids" in inspect.signature(self.model.forward).parameters
        self._num_segments = int(getattr(settings, "type_vocab_size", 0) or 0)
        if settings.model_type not in ALLOWED_TYPES:
            self._try_out()

    def recompute_layers(self) -> None:
        """Gradient checkpointing as transformers has it; an architecture without it stays as it is."""
        if self.model.supports_gradient_checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})

    @property
    def hidden_size(self) -> int:
        """D."""
        return self._hidden_size

    @property
    def max_tokens(self) -> int:
        """Longest text in tokens, special tokens included."""
        return self._max_tokens

    @property
    def vocabulary_size(self) -> int:
        """V, the rows of the word embedding."""
        return int(self.model.config.vocab_size)

    @property
    def prefix(self) -> str:
        """What this architecture's checkpoints may put before every name, with the dot."""
        return f"{self.model.base_model_prefix}."

    def forward(self, batch: PackedBatch, *, first_only: bool) -> Tensor:
        """Hidden states [T, D] of all tokens, or [B, D] of first tokens when `first_only`.

        Raises ValueError when a text is longer than `max_tokens`.
        """
        if batch.plan.longest > self.max_tokens:
            raise ValueError(
                f"a text has {batch.plan.longest} tokens, the encoder takes at most {self.max_tokens}"
            )
        positions_l = torch.arange(batch.plan.longest, device=batch.ids_T.device)
        is_token_Bl = positions_l < batch.lengths_B[:, None]
        rows_Bl = torch.where(is_token_Bl, batch.firsts_B[:, None] + positions_l, batch.firsts_B[:, None])
        inputs = {
            "input_ids": torch.where(is_token_Bl, batch.ids_T[rows_Bl], self._pad_id),
            "attention_mask": is_token_Bl.long(),
        }
        if self._takes_segments:
            has_segments = self._num_segments > 1
            inputs["token_type_ids"] = batch.segments_T[rows_Bl] * is_token_Bl * has_segments
        hidden_BlD: Tensor = self.model(**inputs).last_hidden_state
        return hidden_BlD[:, 0] if first_only else hidden_BlD[batch.texts_T, batch.positions_T]

    @torch.no_grad()
    def _try_out(self) -> None:
        """Raise `EncoderError` unless every token's state depends on its whole text, and on no other text."""
        short, long, changed = [3, 4], [3, 4, 5], [3, 6]
        self.eval()
        try:
            together = self.forward(_batch_of(long, short), first_only=False)
            alone, other = (self.forward(_batch_of(ids), first_only=False) for ids in (short, changed))
        except (TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError) as error:
            raise EncoderError(
                _unusable(f"it does not read token ids alone ({type(error).__name__})")
            ) from error
        if together.shape != (5, self._hidden_size) or not torch.allclose(together[3:], alone, atol=1e-4):
            raise EncoderError(_unusable("its states are not one a token, or depend on other texts"))
        if torch.allclose(alone[0], other[0], atol=1e-6):
            raise EncoderError(_unusable("it reads in one direction only"))


def _batch_of(*texts: list[int]) -> PackedBatch:
    """Token ids as a batch on the CPU."""
    lengths = [len(text) for text in texts]
    ids_T = np.array([token for text in texts for token in text], np.int64)
    positions_T = np.concatenate([np.arange(length) for length in lengths])
    starts_B1 = np.concatenate([[0], np.cumsum(lengths)])
    return to_device(Batch(ids_T, np.zeros_like(ids_T), positions_T, starts_B1), "cpu")


def refuse_foreign_code(config: Mapping[str, object]) -> None:
    """Raise `EncoderError` for a configuration that asks for code of its own or names no architecture."""
    findings = []
    if config.get("auto_map"):
        findings.append(
            _refusal("E111", "auto_map", "the model wants to run its own code", "models without code")
        )
    if not isinstance(config.get("model_type"), str):
        findings.append(_unusable("no architecture is named"))
    if findings:
        raise EncoderError(*findings)


def _unusable(found: str) -> Finding:
    tested = ", ".join(("bert", "roberta", "xlm-roberta", *ALLOWED_TYPES))
    return _refusal(
        "E112", "model_type", found, f"text encoders that transformers knows; tested are {tested}"
    )


def _refusal(code: str, key: str, found: str, allowed: str) -> Finding:
    return Finding(
        code=code,
        place=f'config.json, "{key}"',
        found=found,
        allowed=allowed,
        next_step="choose another encoder, or --encoder default",
    )


def _build(config: Mapping[str, object], dropout: float, attention_dropout: float) -> tuple[Any, Any]:
    """The transformers model with fresh weights, without its pooler, and its settings."""
    try:
        from transformers import AutoConfig, AutoModel
    except ImportError as error:
        next_step = "pip install transformers, or --encoder default"
        raise EncoderError(Finding("E113", "transformers", "not installed", next_step=next_step)) from error
    given = {key: value for key, value in config.items() if key not in ("model_type", "transformers_version")}
    try:
        settings = AutoConfig.for_model(str(config["model_type"]), **given)
    except ValueError as error:
        raise EncoderError(_unusable(f"transformers does not know {config['model_type']!r}")) from error
    for keys, value in ((DROPOUT_KEYS, dropout), (ATTENTION_DROPOUT_KEYS, attention_dropout)):
        for key in keys:
            if hasattr(settings, key):
                setattr(settings, key, value)
    build: Any = AutoModel.from_config
    try:
        model = build(settings, trust_remote_code=False, dtype=torch.float32)
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        raise EncoderError(
            _unusable(f"{config['model_type']!r} cannot be built ({type(error).__name__})")
        ) from error
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model, settings


def _max_tokens(settings: Any) -> int:  # noqa: ANN401
    table = int(settings.max_position_embeddings)
    if settings.model_type in FIRST_POSITION_AFTER_PADDING:
        return table - int(settings.pad_token_id) - 1
    return table
