"""What an import takes from a checkpoint of Google's BERT, checked against its configuration; used by import_tf.py.

Nothing is read but the index, so that whatever does not fit is refused, all at once, before a byte is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from manylabel.errors import EncoderError, Finding
from manylabel.modeling.shape import from_config
from manylabel.modeling.weights.names import PRETRAINING_PARTS, Variable, tensorflow_table
from manylabel.modeling.weights.tf_checkpoint import INDEX_SUFFIX, TensorflowCheckpoint

LAYER_NAME = re.compile(r"bert/encoder/layer_(\d+)/")
OPTIMIZER_NAMES = re.compile(
    r"(.*/)?(adam_[mv]|Adam(_\d+)?|lamb_[mv]|Momentum|m|v)|(.*/)?(beta\d_power|global_step)(_\d+)?"
)
"""Slots of the optimizers in google-research/bert, of TensorFlow's Adam and of LAMB, and counters of steps."""
NUM_SHOWN = 8
OTHER_CHECKPOINT = "take bert_config.json and the checkpoint from one release of BERT"

D, INNER, V = "hidden_size", "intermediate_size", "vocab_size"
SHAPES: dict[str, tuple[str | int, ...]] = {
    "word_embeddings.weight": (V, D),
    "position_embeddings.weight": ("max_position_embeddings", D),
    "token_type_embeddings.weight": ("type_vocab_size", D),
    "LayerNorm.weight": (D,),
    "LayerNorm.bias": (D,),
    "intermediate.dense.weight": (INNER, D),
    "intermediate.dense.bias": (INNER,),
    "attention.output.dense.weight": (D, D),
    "pooler.dense.weight": (D, D),
    "transform.dense.weight": (D, D),
    "query.weight": (D, D),
    "key.weight": (D, D),
    "value.weight": (D, D),
    "output.dense.weight": (D, INNER),
    "predictions.bias": (V,),
    "seq_relationship.weight": (2, D),
    "seq_relationship.bias": (2,),
    "bias": (D,),
}
"""Ends of names in transformers -> the keys of the configuration that are its shape; the first row that fits holds."""


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor to write: its name and shape in transformers, and the variable it comes from."""

    name: str
    shape: tuple[int, ...]
    variable: Variable


@dataclass(frozen=True)
class ImportPlan:
    """The tensors to write in order of their names, which parts the checkpoint has, and what is left out."""

    tensors: tuple[PlannedTensor, ...]
    parts: tuple[str, ...]
    num_optimizer: int
    other_names: tuple[str, ...]

    @property
    def architecture(self) -> str:
        """The class of transformers that has a place for each tensor."""
        has_masked, has_next = (
            part in self.parts for part in ("masked language model head", "next sentence head")
        )
        if has_masked and has_next:
            return "BertForPreTraining"
        if has_masked and "pooler" not in self.parts:
            return "BertForMaskedLM"
        return "BertModel"


def plan_import(checkpoint: TensorflowCheckpoint, config: Mapping[str, object]) -> ImportPlan:
    """What to read from `checkpoint` for a transformers configuration.

    Raises `EncoderError` where tensors are missing, where shapes or the number of layers contradict the
    configuration, or where the checkpoint cannot be read.
    """
    shape = from_config(config)
    place = f"{checkpoint.prefix}{INDEX_SUFFIX}"
    if checkpoint.is_object_based:
        found = "a checkpoint of TensorFlow 2 objects, whose variables have other names"
        next_step = "use the original release with bert_model.ckpt, or convert it with the tools it came from"
        raise EncoderError(
            Finding("E168", place, found, "names as bert/embeddings/word_embeddings", next_step)
        )
    _require_layers(checkpoint.entries, shape.num_layers, place)
    parts = tuple(part for part in PRETRAINING_PARTS if _has_any(checkpoint.entries, part))
    table = tensorflow_table(shape.num_layers, parts)
    _require_tensors(checkpoint.entries, table, place)
    tensors = tuple(
        PlannedTensor(name, tuple(_sizes(name, config)), variable) for name, variable in sorted(table.items())
    )
    _require_shapes(checkpoint, tensors, place)
    used = {tensor.variable.name for tensor in tensors}
    checkpoint.require_readable(used)
    left_out = [name for name in checkpoint.entries if name not in used]
    others = tuple(name for name in left_out if not OPTIMIZER_NAMES.fullmatch(name))
    return ImportPlan(tensors, parts, len(left_out) - len(others), others)


def _has_any(entries: Iterable[str], part: str) -> bool:
    """Whether the checkpoint has anything of a part; then it must have all of it."""
    present = set(entries)
    whole, without = tensorflow_table(0, [part]), tensorflow_table(0, [])
    return any(whole[name].name in present for name in whole.keys() - without.keys())


def _require_layers(entries: Iterable[str], num_layers: int, place: str) -> None:
    found = {int(match[1]) for name in entries if (match := LAYER_NAME.match(name))}
    if found and found != set(range(num_layers)):
        words = (
            f"{len(found):,} layers (the highest is layer_{max(found)}), bert_config.json says {num_layers:,}"
        )
        raise EncoderError(Finding("E162", place, words, next_step=OTHER_CHECKPOINT))


def _require_tensors(entries: Iterable[str], table: Mapping[str, Variable], place: str) -> None:
    present = set(entries)
    missing = sorted(variable.name for variable in table.values() if variable.name not in present)
    if missing:
        found = f"without {len(missing):,} of {len(table):,} tensors: {_listed(missing)}"
        raise EncoderError(
            Finding("E161", place, found, "all tensors of a BERT", "use a complete BERT checkpoint")
        )


def _require_shapes(checkpoint: TensorflowCheckpoint, tensors: Iterable[PlannedTensor], place: str) -> None:
    wrong = list(_contradictions(checkpoint, tensors))
    if wrong:
        found = f"{len(wrong):,} tensors contradict bert_config.json: {_listed(wrong, '; ')}"
        raise EncoderError(Finding("E162", place, found, next_step=OTHER_CHECKPOINT))


def _contradictions(checkpoint: TensorflowCheckpoint, tensors: Iterable[PlannedTensor]) -> Iterator[str]:
    for tensor in tensors:
        stored = checkpoint.entries[tensor.variable.name].shape
        expected = tensor.shape[::-1] if tensor.variable.is_transposed else tensor.shape
        if stored != expected:
            keys = _keys(tensor.name)
            keys = keys[::-1] if tensor.variable.is_transposed else keys
            words = ", ".join(map(str, keys))
            yield f"{tensor.variable.name} is {list(stored)}, it says {list(expected)} ({words})"


def _sizes(name: str, config: Mapping[str, object]) -> Iterator[int]:
    for key in _keys(name):
        size = config.get(key, 2) if isinstance(key, str) else key
        assert isinstance(size, int)  # from_config has checked all of them
        yield size


def _keys(name: str) -> tuple[str | int, ...]:
    return next(keys for end, keys in SHAPES.items() if name.endswith(end))


def _listed(names: list[str], separator: str = ", ") -> str:
    more = f" and {len(names) - NUM_SHOWN:,} more" if len(names) > NUM_SHOWN else ""
    return separator.join(names[:NUM_SHOWN]) + more
