"""The encoder of BERT, RoBERTa and XLM-RoBERTa over packed texts, and the protocol that every encoder follows.

Built by `classifier.build_classifier`, called by `classifier.Classifier`. Linear layers, normalisation and dropout see
only real tokens; the last layer is computed for first tokens alone when the head asks for no more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from manylabel.modeling.attention import HeadPlan, attend_all, attend_first
from manylabel.modeling.dropout import Dropout
from manylabel.modeling.halves import attention_half, feed_forward_half, runs_by_halves
from manylabel.modeling.packed import PackedBatch
from manylabel.modeling.rows import Activation
from manylabel.modeling.shape import EncoderShape

INITIAL_STD = 0.02
"""Standard deviation of fresh weights (Devlin et al. 2019, code: truncated normal; transformers: normal)."""

ACTIVATION_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_new": partial(functional.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
}


class Encoder(Protocol):
    """Anything that turns packed texts into hidden states."""

    @property
    def hidden_size(self) -> int:
        """D."""

    @property
    def max_tokens(self) -> int:
        """Longest text in tokens, special tokens included."""

    @property
    def vocabulary_size(self) -> int:
        """V, the rows of the word embedding."""

    def forward(self, batch: PackedBatch, *, first_only: bool) -> Tensor:
        """Hidden states [T, D] of all tokens, or [B, D] of first tokens when `first_only`."""


class PackedEncoder(nn.Module):
    """Token, position and segment embeddings, then layers of attention and feed-forward, normalised after each."""

    def __init__(self, shape: EncoderShape, *, dropout: float = 0.0, attention_dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.embeddings = Embeddings(shape, dropout=dropout)
        self.layers = nn.ModuleList(
            Layer(shape, dropout=dropout, attention_dropout=attention_dropout)
            for _ in range(shape.num_layers)
        )
        self._recomputes = False

    def recompute_layers(self) -> None:
        """Keep only what enters each layer for the way back and compute the rest again: less memory, more time.

        Gradient checkpointing (Chen et al. 2016); the gradient stays the same, dropout included.
        """
        self._recomputes = True

    @property
    def hidden_size(self) -> int:
        """D."""
        return self.shape.hidden_size

    @property
    def max_tokens(self) -> int:
        """Longest text in tokens, special tokens included."""
        return self.shape.max_tokens

    @property
    def vocabulary_size(self) -> int:
        """V, the rows of the word embedding."""
        return self.shape.vocab_size

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Fresh weights N(0, 0.02), biases 0, normalisation 1; for an encoder without a checkpoint."""
        for name, parameter in self.named_parameters():
            is_norm = "norm." in name
            if parameter.ndim == 1:
                nn.init.constant_(parameter, float(is_norm and name.endswith("weight")))
            else:
                nn.init.normal_(parameter, 0.0, INITIAL_STD, generator=generator)

    def forward(self, batch: PackedBatch, *, first_only: bool, offset_TD: Tensor | None = None) -> Tensor:
        """Hidden states [T, D] of all tokens, or [B, D] of first tokens when `first_only`.

        `offset_TD` is added to the normalised embeddings. Raises ValueError when a text is longer than `max_tokens`.
        """
        if batch.plan.longest > self.max_tokens:
            raise ValueError(
                f"a text has {batch.plan.longest} tokens, the encoder takes at most {self.max_tokens}"
            )
        fillers = rounded_tokens(batch.num_tokens) - batch.num_tokens if _makes_kernels(batch) else 0
        plan = batch.plan.for_heads(self.shape.num_heads, fillers)
        hidden_TD: Tensor = self.embeddings(batch, fillers, offset_TD)
        for layer in list(self.layers)[:-1]:
            hidden_TD = self._through(layer, hidden_TD, plan, None)
        hidden = self._through(self.layers[-1], hidden_TD, plan, batch.firsts_B if first_only else None)
        return hidden if first_only or not fillers else hidden[: batch.num_tokens]

    def _through(
        self, layer: nn.Module, hidden_TD: Tensor, plan: HeadPlan, firsts_B: Tensor | None
    ) -> Tensor:
        """One layer, whose inside is computed again on the way back if that was asked for."""
        result: Tensor
        if self._recomputes and torch.is_grad_enabled():
            result = checkpoint(layer, hidden_TD, plan, firsts_B, use_reentrant=False)
        else:
            result = layer(hidden_TD, plan, firsts_B)
        return result


def rounded_tokens(num_tokens: int) -> int:
    """T or a little more, at most a sixteenth, so that the same sizes come again.

    oneDNN makes a kernel for every new shape of a bf16 product on a CPU and keeps the last 1,024 of them; a new one
    takes about as long as a product. With sizes that never came again a step of 32 texts took 152 ms at GoEmotions'
    lengths and 502 ms at Jigsaw's, with the same batches once more 101 and 385 ms; rounded like this the first pass
    took 107 and 410 ms (default encoder, 2 cores with AMX, forward + backward).
    """
    step = 1 << max(num_tokens.bit_length() - 5, 0)
    return -(-num_tokens // step) * step


def _makes_kernels(batch: PackedBatch) -> bool:
    """Whether products are made by oneDNN: bf16 on a CPU."""
    return batch.ids_T.device.type == "cpu" and torch.is_autocast_enabled("cpu")


class Embeddings(nn.Module):
    """Sum of token, position and segment embeddings, normalised."""

    def __init__(self, shape: EncoderShape, *, dropout: float) -> None:
        super().__init__()
        self.word = _unset_embedding(shape.vocab_size, shape.hidden_size)
        self.position = _unset_embedding(shape.max_positions, shape.hidden_size)
        self.segment = _unset_embedding(shape.type_vocab_size, shape.hidden_size)
        self.norm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)
        self.dropout = Dropout(dropout)
        self._offset = shape.position_offset

    def forward(self, batch: PackedBatch, fillers: int = 0, offset_TD: Tensor | None = None) -> Tensor:
        """Hidden states [T, D] before the first layer, and `fillers` more that repeat the last token.

        `offset_TD` is added after normalisation and before dropout, in fp32 also where the layers compute in bf16.
        An encoder with one segment embedding, as RoBERTa, gives it to both texts of a pair.
        """
        ids_T, segments_T, positions_T = (
            torch.cat([values_T, values_T[-1:].expand(fillers)]) if fillers else values_T
            for values_T in (batch.ids_T, batch.segments_T, batch.positions_T)
        )
        has_segments = self.segment.num_embeddings > 1
        segment = self.segment(segments_T) if has_segments else self.segment.weight[0]
        summed = self.word(ids_T) + segment + self.position(positions_T + self._offset)
        normal_TD = self.norm(summed)
        if offset_TD is not None:
            normal_TD = normal_TD + functional.pad(offset_TD, (0, 0, 0, fillers))
        result: Tensor = self.dropout(_in_working_precision(normal_TD))
        return result


def _unset_embedding(num_rows: int, width: int) -> nn.Embedding:
    """An embedding of zeros, since every user of the encoder replaces the constructor's random numbers.

    On the meta device drawing them imports torch._dynamo: 1.3 s of every start.
    """
    return nn.Embedding(num_rows, width, _weight=torch.zeros(num_rows, width))


def _in_working_precision(hidden_TD: Tensor) -> Tensor:
    """Hidden states in autocast's type, so that residuals and normalisation of all layers stay in it.

    Otherwise fp32 residuals would be cast for every linear layer, forward and backward. Normalisation still sums in
    fp32 inside.
    """
    device = hidden_TD.device.type
    return hidden_TD.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else hidden_TD


class Layer(nn.Module):
    """Attention and feed-forward, each added to its input and normalised afterwards (post-LN)."""

    def __init__(self, shape: EncoderShape, *, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.attention = Attention(shape, dropout=attention_dropout)
        self.attention_norm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)
        self.up = nn.Linear(shape.hidden_size, shape.intermediate_size)
        self.down = nn.Linear(shape.intermediate_size, shape.hidden_size)
        self.output_norm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)
        self.dropout = Dropout(dropout)
        self._activation = Activation(shape.activation, ACTIVATION_FUNCTIONS[shape.activation])

    def forward(self, hidden_TD: Tensor, plan: HeadPlan, firsts_B: Tensor | None = None) -> Tensor:
        """Hidden states of all tokens [T, D], or of the tokens `firsts_B` only [B, D]."""
        if firsts_B is None and runs_by_halves(hidden_TD, plan, self.attention.dropout_now):
            middle = self._attend(hidden_TD, plan)
        else:
            attended = self.attention(hidden_TD, plan, firsts_B)
            kept = hidden_TD if firsts_B is None else hidden_TD.index_select(0, firsts_B)
            middle = self.attention_norm(kept + self.dropout(attended))
        return self._feed_forward(middle)

    def _attend(self, hidden_TD: Tensor, plan: HeadPlan) -> Tensor:
        """The first half for all tokens, as one step of autograd."""
        layers = (self.attention.qkv, self.attention.output)
        return attention_half(hidden_TD, layers, self.attention_norm, self.dropout.mask(hidden_TD), plan)

    def _feed_forward(self, middle: Tensor) -> Tensor:
        """The second half; one step of autograd on a CPU."""
        if middle.device.type == "cpu" and torch.is_grad_enabled():
            layers, mask = (self.up, self.down), self.dropout.mask(middle)
            return feed_forward_half(middle, layers, self.output_norm, mask, self._activation)
        changed = self.down(self._activation.function(self.up(middle)))
        result: Tensor = self.output_norm(middle + self.dropout(changed))
        return result


class Attention(nn.Module):
    """Multi-head self-attention with one fused product for queries, keys and values."""

    def __init__(self, shape: EncoderShape, *, dropout: float) -> None:
        super().__init__()
        self.qkv = nn.Linear(shape.hidden_size, 3 * shape.hidden_size)
        self.output = nn.Linear(shape.hidden_size, shape.hidden_size)
        self._dropout = dropout

    @property
    def dropout_now(self) -> float:
        """With which probability attention weights are dropped: 0 outside training."""
        return self._dropout if self.training else 0.0

    def forward(self, hidden_TD: Tensor, plan: HeadPlan, firsts_B: Tensor | None) -> Tensor:
        """Attention of all tokens [T, D], or of the first tokens only [B, D]."""
        dropout = self.dropout_now
        if firsts_B is None:
            context = attend_all(self.qkv(hidden_TD), plan, dropout)
        else:
            width = hidden_TD.shape[1]
            weight, bias = self.qkv.weight, self.qkv.bias
            query_BD = functional.linear(hidden_TD.index_select(0, firsts_B), weight[:width], bias[:width])
            context = attend_first(
                query_BD, functional.linear(hidden_TD, weight[width:], bias[width:]), plan, dropout
            )
        result: Tensor = self.output(context)
        return result
