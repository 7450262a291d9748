"""An encoder with BERT's two pretraining heads: masked words and next sentence; called by recipes/adapt.py.

Letters: M masked tokens of a batch; the others as in `values`. Devlin et al. 2019, section 3.1 and the release's
`run_pretraining.py`; transformers' `BertForPreTraining` computes the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from manylabel.modeling.classifier import Classifier
from manylabel.modeling.encoder import ACTIVATION_FUNCTIONS, INITIAL_STD, PackedEncoder
from manylabel.modeling.packed import PackedBatch
from manylabel.modeling.shape import EncoderShape
from manylabel.values import IntArray


@dataclass(frozen=True, eq=False)
class PretrainingLogits:
    """`masked_MV` over the vocabulary for every masked token; `next_B2`: column 0 the second segment follows, 1 not.

    `next_B2` is None where the model does not learn it.
    """

    masked_MV: Tensor
    next_B2: Tensor | None


class PretrainingHead(nn.Module):
    """Both heads; the decoder's matrix is the encoder's word embedding and not held here."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        width = shape.hidden_size
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=shape.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(shape.vocab_size))
        self.pooler = nn.Linear(width, width)
        self.relation = nn.Linear(width, 2)
        self._activation = ACTIVATION_FUNCTIONS[shape.activation]

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Fresh weights N(0, 0.02), biases 0, normalisation 1."""
        for linear in (self.dense, self.pooler, self.relation):
            nn.init.normal_(linear.weight, 0.0, INITIAL_STD, generator=generator)
            nn.init.zeros_(linear.bias)
        nn.init.ones_(self.norm.weight)
        nn.init.zeros_(self.norm.bias)
        nn.init.zeros_(self.bias)

    @torch.no_grad()
    def set_prior(self, counts_V: IntArray) -> None:
        """Let a fresh head begin with how often each token occurs, as the log of its share (each counted once more)."""
        shares_V = (counts_V + 1.0) / (counts_V.sum() + len(counts_V))
        self.bias.copy_(torch.from_numpy(np.log(shares_V)))

    def decode(self, hidden_MD: Tensor, words_VD: Tensor) -> Tensor:
        """Logits [M, V] of what stood where the hidden states come from."""
        changed_MD = self.norm(self._activation(self.dense(hidden_MD)))
        return functional.linear(changed_MD, words_VD, self.bias)

    def relate(self, hidden_BD: Tensor) -> Tensor:
        """Logits [B, 2] from first tokens: the second segment follows the first, or does not."""
        result: Tensor = self.relation(torch.tanh(self.pooler(hidden_BD)))
        return result


class PretrainingModel(nn.Module):
    """The encoder that learns, under the two heads."""

    def __init__(self, encoder: PackedEncoder, head: PretrainingHead, *, learns_next: bool = True) -> None:
        """Without `learns_next` pooler and relation keep their weights."""
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.learns_next = learns_next
        if not learns_next:
            self.head.pooler.requires_grad_(False)
            self.head.relation.requires_grad_(False)

    def forward(self, batch: PackedBatch, places_M: Tensor) -> PretrainingLogits:
        """Both logits; `places_M` (int64) are the rows among the batch's T tokens whose words are asked for.

        Only those rows go through the decoder, whose product with the vocabulary would cost more than a small encoder.
        """
        hidden_TD = self.encoder(batch, first_only=False)
        words_VD = self.encoder.embeddings.word.weight
        masked_MV = self.head.decode(hidden_TD.index_select(0, places_M), words_VD)
        next_B2 = self.head.relate(hidden_TD.index_select(0, batch.firsts_B)) if self.learns_next else None
        return PretrainingLogits(masked_MV, next_B2)


TrainableModel = Classifier | PretrainingModel
"""What the loop can train: an `encoder` with layers and a `head` above them."""
