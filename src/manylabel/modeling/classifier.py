"""Encoder and head as one module, and the choice of both from a configuration.

Used by training and inference; `build_classifier` is called by `weights/hugging_face.py` and by tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from manylabel.errors import EncoderError, Finding
from manylabel.modeling.auto_encoder import TransformersEncoder
from manylabel.modeling.encoder import PackedEncoder
from manylabel.modeling.heads import ClsHead, MeanHead
from manylabel.modeling.packed import PackedBatch
from manylabel.modeling.shape import PACKED_LAYOUTS, from_config

HeadName = Literal["mean", "cls"]

HEADS: dict[HeadName, type[MeanHead] | type[ClsHead]] = {"mean": MeanHead, "cls": ClsHead}


class Classifier(nn.Module):
    """One logit a text and label."""

    def __init__(self, encoder: PackedEncoder | TransformersEncoder, head: MeanHead | ClsHead) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    @property
    def num_labels(self) -> int:
        """L."""
        return self.head.projection.out_features

    @property
    def max_tokens(self) -> int:
        """Longest text in tokens, special tokens included."""
        return self.encoder.max_tokens

    @property
    def head_name(self) -> HeadName:
        """The head as the setting `model.head` names it."""
        return "cls" if isinstance(self.head, ClsHead) else "mean"

    @torch.no_grad()
    def rescale_logits(self, slopes_L: Tensor, intercepts_L: Tensor) -> None:
        """Change the last layer so that each logit z of label l becomes slopes_L[l] z + intercepts_L[l]."""
        projection = self.head.projection
        slopes = slopes_L.to(projection.weight)
        projection.weight.mul_(slopes[:, None])
        projection.bias.mul_(slopes).add_(intercepts_L.to(projection.bias))

    def forward(self, batch: PackedBatch, *, offset_TD: Tensor | None = None) -> Tensor:
        """Logits [B, L]; `offset_TD` is added to the embeddings of the tokens, which only the packed encoder can."""
        # Other encoders know no offset and are never given one.
        moved = {} if offset_TD is None else {"offset_TD": offset_TD}
        hidden = self.encoder(batch, first_only=self.head.first_only, **moved)
        result: Tensor = self.head(hidden, batch)
        return result

    def pooled(self, batch: PackedBatch) -> Tensor:
        """Features [B, D], one row a text: what the head reads, pooled."""
        return self.head.pool(self.encoder(batch, first_only=self.head.first_only), batch)

    def classify(self, features_BD: Tensor) -> Tensor:
        """Logits [B, L] from pooled features; of those from `pooled` they are the logits of the batch."""
        return self.head.classify(features_BD)


def build_classifier(
    config: Mapping[str, object],
    *,
    num_labels: int,
    head: HeadName,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
) -> Classifier:
    """A classifier for a transformers `config.json`, with weights that still have to be set.

    BERT-like layouts get the packed encoder, other architectures the one of transformers. Raises `EncoderError` when
    the configuration cannot be followed exactly.
    """
    if config.get("model_type") in PACKED_LAYOUTS:
        if config.get("auto_map"):
            raise EncoderError(_foreign_code())
        shape = from_config(config)
        packed = PackedEncoder(shape, dropout=dropout, attention_dropout=attention_dropout)
        return Classifier(packed, HEADS[head](packed.hidden_size, num_labels, dropout=dropout))
    encoder = TransformersEncoder(config, dropout=dropout, attention_dropout=attention_dropout)
    return Classifier(encoder, HEADS[head](encoder.hidden_size, num_labels, dropout=dropout))


def _foreign_code() -> Finding:
    return Finding(
        code="E111",
        place='config.json, "auto_map"',
        found="the model wants to run its own code",
        allowed="models without code",
        next_step="choose another encoder, or --encoder default",
    )
