"""One reversible table between our tensor names, those of transformers and those of Google's TensorFlow release.

Used by `hugging_face.py` in both directions. A row says which tensors of theirs make one of ours: a single one, or
query, key and value, stacked in this order, for the fused product. `tensorflow_table` goes on from their names to
TensorFlow's variables, one to one; `tf_plan.py` uses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from manylabel.errors import EncoderError, Finding
from manylabel.modeling.shape import Layout

Table = dict[str, tuple[str, ...]]
"""Our name -> their names, stacked along the first dimension."""

CHECKPOINT_PREFIX: dict[Layout, str] = {"bert": "bert.", "roberta": "roberta.", "xlm-roberta": "roberta."}
"""What the classification models of transformers put before the encoder's names."""

EMBEDDINGS = {
    "embeddings.word.weight": "embeddings.word_embeddings.weight",
    "embeddings.position.weight": "embeddings.position_embeddings.weight",
    "embeddings.segment.weight": "embeddings.token_type_embeddings.weight",
    "embeddings.norm": "embeddings.LayerNorm",
}
LAYER = {
    "attention.qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention.output": ("attention.output.dense",),
    "attention_norm": ("attention.output.LayerNorm",),
    "up": ("intermediate.dense",),
    "down": ("output.dense",),
    "output_norm": ("output.LayerNorm",),
}
CLS_HEADS: dict[Layout, dict[str, str]] = {
    "bert": {"head.dense": "bert.pooler.dense", "head.projection": "classifier"},
    "roberta": {"head.dense": "classifier.dense", "head.projection": "classifier.out_proj"},
    "xlm-roberta": {"head.dense": "classifier.dense", "head.projection": "classifier.out_proj"},
}
MEAN_HEAD = {"head.norm": "head.norm", "head.projection": "head.projection"}
"""transformers has no such head; its tensors keep our names."""

PARAMETERS = ("weight", "bias")

POOLER = ("bert.pooler.dense",)
MASKED_HEAD = (
    "cls.predictions.transform.dense",
    "cls.predictions.transform.LayerNorm",
    "cls.predictions.bias",
)
"""The head's product with the vocabulary is the embedding table itself and has no tensor of its own."""
NEXT_SENTENCE_HEAD = ("cls.seq_relationship",)
PRETRAINING_PARTS = {
    "pooler": POOLER,
    "masked language model head": MASKED_HEAD,
    "next sentence head": NEXT_SENTENCE_HEAD,
}
"""Parts that a checkpoint has whole or not at all, by the names that transformers' BertForPreTraining gives them."""

TENSORFLOW_PARAMETERS = {
    "LayerNorm.weight": "LayerNorm/gamma",
    "LayerNorm.bias": "LayerNorm/beta",
    "embeddings.weight": "embeddings",
    "cls.predictions.bias": "cls/predictions/output_bias",
    "cls.seq_relationship.weight": "cls/seq_relationship/output_weights",
    "cls.seq_relationship.bias": "cls/seq_relationship/output_bias",
}
"""Ends of their names against ends of TensorFlow's, where more than the separator differs."""
OLD_NORM_NAMES = {".gamma": ".weight", ".beta": ".bias"}

IGNORABLE = (
    r"(.*\.)?position_ids",
    r"(.*\.)?embeddings\.token_type_ids",
    r"cls\.predictions\..*",
    r"cls\.seq_relationship\..*",
    r"lm_head\..*",
    r"classifier\..*",
    r"pooler\..*",
    r"head\..*",
)
"""Tensors of a checkpoint that a new classifier does without: counters, pretraining heads, heads for other labels."""


def encoder_table(layout: Layout, num_layers: int) -> Table:
    """Names of the encoder inside `Classifier` against those of transformers' classification model."""
    prefix = CHECKPOINT_PREFIX[layout]
    table: Table = {}
    for ours, theirs in EMBEDDINGS.items():
        table.update(_with_parameters(f"encoder.{ours}", (prefix + theirs,)))
    for layer in range(num_layers):
        for ours, parts in LAYER.items():
            names = tuple(f"{prefix}encoder.layer.{layer}.{part}" for part in parts)
            table.update(_with_parameters(f"encoder.layers.{layer}.{ours}", names))
    return table


def head_table(layout: Layout, head: str) -> Table:
    """Names of the head (`mean` or `cls`) inside `Classifier` against those in the file."""
    table: Table = {}
    for ours, theirs in (CLS_HEADS[layout] if head == "cls" else MEAN_HEAD).items():
        table.update(_with_parameters(ours, (theirs,)))
    return table


def _with_parameters(ours: str, theirs: tuple[str, ...]) -> Table:
    if ours.endswith(PARAMETERS):
        return {ours: theirs}
    return {f"{ours}.{name}": tuple(f"{part}.{name}" for part in theirs) for name in PARAMETERS}


@dataclass(frozen=True)
class Variable:
    """A variable of Google's BERT in TensorFlow; `is_transposed` says whether its two dimensions change places."""

    name: str
    is_transposed: bool = False

    def turned(self, array: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """TensorFlow's array as transformers has it, or the other way round; a view."""
        return array.T if self.is_transposed else array


def tensorflow_table(num_layers: int, parts: Iterable[str] = tuple(PRETRAINING_PARTS)) -> dict[str, Variable]:
    """Names of the encoder and of `parts` of PRETRAINING_PARTS in transformers, against TensorFlow's variables.

    Names as in google-research/bert, modeling.py and run_pretraining.py. Its dense layers multiply by `kernel` from
    the right, those of torch by the transposed `weight`; the next sentence head is stored as in torch.
    """
    theirs = [name for row in encoder_table("bert", num_layers).values() for name in row]
    for part in parts:
        for stem in PRETRAINING_PARTS[part]:
            theirs += [name for row in _with_parameters(stem, (stem,)).values() for name in row]
    return {name: _variable(name) for name in theirs}


def _variable(theirs: str) -> Variable:
    for end, replacement in TENSORFLOW_PARAMETERS.items():
        if theirs.endswith(end):
            return Variable(_with_slashes(theirs.removesuffix(end) + replacement))
    if theirs.endswith(".weight"):
        return Variable(_with_slashes(theirs.removesuffix("weight") + "kernel"), is_transposed=True)
    return Variable(_with_slashes(theirs))


def _with_slashes(name: str) -> str:
    return re.sub(r"layer\.(\d+)", r"layer_\1", name).replace(".", "/")


def to_theirs(state: Mapping[str, Tensor], table: Table) -> dict[str, Tensor]:
    """Tensors under transformers' names; `state` must have exactly the table's names."""
    result = {}
    for ours, theirs in table.items():
        for name, part in zip(theirs, state[ours].chunk(len(theirs)), strict=True):
            result[name] = part.clone(memory_format=torch.contiguous_format)
    return result


def to_ours(state: Mapping[str, Tensor], table: Table) -> dict[str, Tensor]:
    """Tensors under our names; the inverse of `to_theirs`, other tensors of `state` are left out."""
    return {
        ours: torch.cat([state[name] for name in theirs]) if len(theirs) > 1 else state[theirs[0]]
        for ours, theirs in table.items()
    }


def normalise(state: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """The tensors of any BERT-like checkpoint under the names of transformers' classification model.

    Old checkpoints call the weight and bias of a normalisation gamma and beta; base models have no prefix.
    """
    prefix = CHECKPOINT_PREFIX[layout]
    has_prefix = any(name.startswith(prefix) for name in state)
    result = {}
    for name, tensor in state.items():
        modern = modern_name(name)
        is_bare = not has_prefix and modern.startswith(("embeddings.", "encoder.", "pooler."))
        result[prefix + modern if is_bare else modern] = tensor
    return result


def modern_name(name: str) -> str:
    """The name with `gamma` and `beta` of a normalisation replaced by `weight` and `bias`."""
    for old, new in OLD_NORM_NAMES.items():
        if name.endswith(f"LayerNorm{old}"):
            return name.removesuffix(old) + new
    return name


def is_ignorable(name: str, prefix: str) -> bool:
    """Whether a checkpoint may hold this tensor although a new classifier has no place for it."""
    bare = name.removeprefix(prefix)
    return any(re.fullmatch(pattern, bare) for pattern in IGNORABLE)


def require_names(found: Iterable[str], expected: Iterable[str], place: str) -> None:
    """Raise `EncoderError` that lists missing and unexpected tensors, unless the names are the same."""
    found_names, expected_names = set(found), set(expected)
    findings = [
        Finding(
            code=code,
            place=place,
            found=f"{len(names):,} {kind}: {', '.join(sorted(names))}",
            next_step="use a complete checkpoint of this architecture, or --encoder default",
        )
        for code, kind, names in (
            ("E121", "missing tensors", expected_names - found_names),
            ("E122", "unexpected tensors", found_names - expected_names),
        )
        if names
    ]
    if findings:
        raise EncoderError(*findings)


def require_shapes(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], place: str) -> None:
    """Raise `EncoderError` that lists tensors whose shape is not the one that the configuration asks for."""
    wrong = [
        f"{name} is {list(state[name].shape)}, expected {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if wrong:
        found = f"{len(wrong):,} tensors of the wrong shape: {'; '.join(sorted(wrong))}"
        raise EncoderError(
            Finding("E123", place, found, next_step="take config.json and weights from one model")
        )
