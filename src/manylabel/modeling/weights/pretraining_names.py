"""BERT's pretraining heads from and to folders in transformers' layout; called by recipes/adapt.py.

`BertForPreTraining` loads what is written here: the decoder's matrix is the word embedding and stands in the file once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from manylabel.errors import EncoderError, Finding
from manylabel.modeling.encoder import PackedEncoder
from manylabel.modeling.pretraining import PretrainingHead, PretrainingModel
from manylabel.modeling.shape import from_config
from manylabel.modeling.weights import names
from manylabel.modeling.weights.hugging_face import in_float32, read_config, read_weights

ARCHITECTURE = "BertForPreTraining"

MASKED_HEAD: names.Table = {
    "head.dense.weight": ("cls.predictions.transform.dense.weight",),
    "head.dense.bias": ("cls.predictions.transform.dense.bias",),
    "head.norm.weight": ("cls.predictions.transform.LayerNorm.weight",),
    "head.norm.bias": ("cls.predictions.transform.LayerNorm.bias",),
    "head.bias": ("cls.predictions.bias",),
}
POOLER: names.Table = {
    "head.pooler.weight": ("bert.pooler.dense.weight",),
    "head.pooler.bias": ("bert.pooler.dense.bias",),
}
RELATION: names.Table = {
    "head.relation.weight": ("cls.seq_relationship.weight",),
    "head.relation.bias": ("cls.seq_relationship.bias",),
}
PARTS = {"masked words": MASKED_HEAD, "pooler": POOLER, "next sentence": RELATION}
DECODER = "cls.predictions.decoder.weight"
DECODER_BIAS = "cls.predictions.decoder.bias"
WORDS = "bert.embeddings.word_embeddings.weight"


@dataclass(frozen=True, eq=False)
class LoadedPretraining:
    """The model, and which parts of its heads the checkpoint had: names in `PARTS`."""

    model: PretrainingModel
    found: frozenset[str]


def load_pretraining(
    folder: Path,
    *,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    seed: int = 1,
    learns_next: bool = True,
) -> LoadedPretraining:
    """The encoder of a folder with the heads it has; those it lacks are fresh, a function of `seed`.

    Raises EncoderError for another architecture than BERT's, a decoder of its own, or tensors that are missing, of
    the wrong shape or not finite.
    """
    config = read_config(folder)
    _require_bert(config, folder)
    shape = from_config(config)
    encoder = PackedEncoder(shape, dropout=dropout, attention_dropout=attention_dropout)
    head = PretrainingHead(shape)
    head.initialise(torch.Generator().manual_seed(seed))
    model = PretrainingModel(encoder, head, learns_next=learns_next)
    checkpoint = names.normalise(read_weights(folder), shape.layout)
    _require_tied(checkpoint, folder)
    checkpoint.setdefault("cls.predictions.bias", checkpoint.get(DECODER_BIAS, torch.zeros(shape.vocab_size)))
    table = names.encoder_table(shape.layout, shape.num_layers)
    has = {name: all(theirs in checkpoint for (theirs,) in part.values()) for name, part in PARTS.items()}
    for name, part in PARTS.items():
        table |= part if has[name] else {}
    wanted = {name for theirs in table.values() for name in theirs}
    prefix = names.CHECKPOINT_PREFIX[shape.layout]
    found = (name for name in checkpoint if name in wanted or not names.is_ignorable(name, prefix))
    names.require_names(found, wanted, str(folder))
    tensors = names.to_ours(checkpoint, table)
    expected = model.state_dict()
    names.require_shapes(tensors, expected, str(folder))
    model.load_state_dict({**expected, **tensors})
    return LoadedPretraining(model, frozenset(name for name, present in has.items() if present))


def to_hugging_face(
    model: PretrainingModel, config: Mapping[str, object]
) -> tuple[dict[str, object], dict[str, Tensor]]:
    """`config.json` and tensors of a folder that `BertForPreTraining` and `load_pretraining` read, fp32 on the CPU."""
    written = in_float32({key: value for key, value in config.items() if key != "_name_or_path"})
    written["architectures"] = [ARCHITECTURE]
    shape = model.encoder.shape
    table = names.encoder_table(shape.layout, shape.num_layers) | MASKED_HEAD | POOLER | RELATION
    state = {name: tensor.detach().to("cpu", torch.float32) for name, tensor in model.state_dict().items()}
    return written, names.to_theirs(state, table)


def _require_bert(config: Mapping[str, object], folder: Path) -> None:
    kind = config.get("model_type")
    if kind != "bert":
        shown = repr(kind) if isinstance(kind, str) else "no architecture"
        step = "adapt a BERT encoder, or --encoder default"
        place = f'{folder / "config.json"}, "model_type"'
        raise EncoderError(Finding("E181", place, f"{shown} has other pretraining heads", "bert", step))


def _require_tied(checkpoint: Mapping[str, Tensor], folder: Path) -> None:
    decoder = checkpoint.get(DECODER)
    if decoder is not None and not torch.equal(decoder, checkpoint.get(WORDS, decoder)):
        found = f"{DECODER} is not the word embedding"
        step = "choose an encoder whose decoder is tied to it, as BERT's, or --encoder default"
        raise EncoderError(Finding("E182", str(folder), found, "tied weights", step))
