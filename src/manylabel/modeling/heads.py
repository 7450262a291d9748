"""From hidden states to one logit a label: two heads, chosen by the setting `model.head`.

`MeanHead` pools all tokens and normalises, which sentence encoders with small features need; `ClsHead` is BERT's own
pooler and loads in transformers. Built by `classifier.build_classifier`; called by `classifier.Classifier`.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from manylabel.modeling.dropout import Dropout
from manylabel.modeling.encoder import INITIAL_STD
from manylabel.modeling.packed import PackedBatch

SMALLEST_STD = 1e-3
SMALLEST_PREVALENCE = 1e-4


class MeanHead(nn.Module):
    """Mean over the tokens of a text, layer normalisation, dropout, linear."""

    first_only: ClassVar[bool] = False

    def __init__(self, hidden_size: int, num_labels: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size)
        self.dropout = Dropout(dropout)
        self.projection = nn.Linear(hidden_size, num_labels)

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Fresh weights N(0, 0.02), biases 0, normalisation 1."""
        nn.init.ones_(self.norm.weight)
        nn.init.zeros_(self.norm.bias)
        _initialise_linear(self.projection, generator)

    def set_prior(self, prevalence_L: Tensor) -> None:
        """Start from the share of texts that carry each label, in [0, 1], as log-odds."""
        _set_prior(self.projection, prevalence_L)

    def pool(self, hidden_TD: Tensor, batch: PackedBatch) -> Tensor:
        """What `classify` takes of each text [B, D]: the mean hidden state of its tokens."""
        return mean_of_texts(hidden_TD, batch).to(self.norm.weight.dtype)

    def classify(self, pooled_BD: Tensor) -> Tensor:
        """Logits [B, L]."""
        result: Tensor = self.projection(self.dropout(self.norm(pooled_BD)))
        return result

    def forward(self, hidden_TD: Tensor, batch: PackedBatch) -> Tensor:
        """Logits [B, L]."""
        return self.classify(self.pool(hidden_TD, batch))


class ClsHead(nn.Module):
    """First token, linear, tanh, dropout, linear: BertForSequenceClassification's pooler and classifier."""

    first_only: ClassVar[bool] = True

    def __init__(self, hidden_size: int, num_labels: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.dropout = Dropout(dropout)
        self.projection = nn.Linear(hidden_size, num_labels)

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Fresh weights N(0, 0.02), biases 0."""
        _initialise_linear(self.dense, generator)
        _initialise_linear(self.projection, generator)

    @torch.no_grad()
    def initialise_from(self, features_BD: Tensor, *, gain: float = 1.0) -> None:
        """Give the tanh inputs of mean 0 and standard deviation `gain` in every dimension on these features.

        `features_BD` are first-token states of a few hundred texts (at least 2). A pooler that was never trained
        strangles encoders with small features; this one passes them on whole: weight = diag(gain / std),
        bias = -gain mean / std. Raises ValueError with fewer than two texts.
        """
        if len(features_BD) < 2:
            raise ValueError("features of at least two texts are needed")
        features = features_BD.to(self.dense.weight)
        scale_D = gain / features.std(0, unbiased=False).clamp_min(SMALLEST_STD)
        self.dense.weight.copy_(torch.diag(scale_D))
        self.dense.bias.copy_(-features.mean(0) * scale_D)

    def set_prior(self, prevalence_L: Tensor) -> None:
        """Start from the share of texts that carry each label, in [0, 1], as log-odds."""
        _set_prior(self.projection, prevalence_L)

    def pool(self, hidden_BD: Tensor, batch: PackedBatch) -> Tensor:
        """What `classify` takes of each text [B, D]: BERT's pooler output, from -1 to 1."""
        return torch.tanh(self.dense(hidden_BD.to(self.dense.weight.dtype)))

    def classify(self, pooled_BD: Tensor) -> Tensor:
        """Logits [B, L]."""
        result: Tensor = self.projection(self.dropout(pooled_BD))
        return result

    def forward(self, hidden_BD: Tensor, batch: PackedBatch) -> Tensor:
        """Logits [B, L]."""
        return self.classify(self.pool(hidden_BD, batch))


def mean_of_texts(hidden_TD: Tensor, batch: PackedBatch) -> Tensor:
    """Mean hidden state of each text [B, D], summed in fp32."""
    # index_add sums in order on a CPU; on CUDA it uses atomics, so two runs may differ in the last bits there.
    sums_BD = torch.zeros(batch.num_texts, hidden_TD.shape[1], dtype=torch.float32, device=hidden_TD.device)
    sums_BD = sums_BD.index_add(0, batch.texts_T, hidden_TD.float())
    return sums_BD / batch.lengths_B[:, None]


def _initialise_linear(linear: nn.Linear, generator: torch.Generator | None) -> None:
    nn.init.normal_(linear.weight, 0.0, INITIAL_STD, generator=generator)
    nn.init.zeros_(linear.bias)


def _set_prior(linear: nn.Linear, prevalence_L: Tensor) -> None:
    with torch.no_grad():
        linear.bias.copy_(torch.logit(prevalence_L.to(linear.bias), eps=SMALLEST_PREVALENCE))
