"""Folders in transformers' layout to classifiers, and classifiers to `config.json` and tensors for such a folder.

Called by training (`load_pretrained`) and by the bundle (`to_hugging_face`, `load_classifier`). Reads safetensors only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from manylabel.errors import BundleError, EncoderError, Finding
from manylabel.modeling.auto_encoder import TransformersEncoder
from manylabel.modeling.classifier import HEADS, Classifier, HeadName, build_classifier
from manylabel.modeling.encoder import PackedEncoder
from manylabel.modeling.shape import PACKED_LAYOUTS
from manylabel.modeling.weights import names

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
HEAD_KEY = "manylabel_head"
"""Key of config.json that says which head the weights have."""

LEFT_OUT = ("_name_or_path", "architectures")
DTYPE_KEYS = ("torch_dtype", "dtype")
"""Keys of config.json by which older and newer transformers say in which number format the weights are."""

RESTORE = "restore the saved folder, or train again"

ARCHITECTURES = {
    "bert": "BertForSequenceClassification",
    "roberta": "RobertaForSequenceClassification",
    "xlm-roberta": "XLMRobertaForSequenceClassification",
}
OWN_PREFIX = "encoder.model."
"""Names of a `TransformersEncoder` inside `Classifier`; in the file they carry `encoder.` only."""


def read_config(folder: Path) -> dict[str, object]:
    """The `config.json` of a folder; raises `EncoderError` when it is absent or no JSON object."""
    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EncoderError(
            _finding("E131", path, "no such file", "give a folder in transformers' layout")
        ) from None
    except (OSError, ValueError) as error:
        raise EncoderError(
            _finding("E132", path, "cannot be read as JSON", "fetch the file again")
        ) from error
    if not isinstance(config, dict):
        raise EncoderError(_finding("E132", path, "is not a JSON object", "fetch the file again"))
    return config


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder, floating ones as fp32, from `model.safetensors` or its shards.

    Raises `EncoderError` when there are none, when a file is damaged, or when a weight is not finite.
    """
    state: dict[str, Tensor] = {}
    for path in _weight_files(folder):
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise EncoderError(
                _finding("E134", path, "damaged or incomplete", "fetch the file again")
            ) from error
        for name, tensor in tensors.items():
            state[name] = (
                tensor.to(torch.float32, copy=True) if tensor.is_floating_point() else tensor.clone()
            )
    _require_finite(state, str(folder))
    return state


def _require_finite(state: Mapping[str, Tensor], place: str) -> None:
    broken = sorted(name for name, tensor in state.items() if not _is_finite(tensor))
    if broken:
        found = f"{len(broken):,} tensors with NaN or infinity: {', '.join(broken)}"
        next_step = "use an undamaged checkpoint, or --encoder default"
        raise EncoderError(Finding("E135", place, found, next_step=next_step))


def _is_finite(tensor: Tensor) -> bool:
    """Whether no entry is NaN or infinite; one pass, since NaN and infinity survive in minimum or maximum."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    return bool(torch.isfinite(torch.stack(tensor.aminmax())).all())


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    index = folder / INDEX_FILE
    if index.is_file():
        return _shards(index)
    if any(folder.glob("pytorch_model*.bin")):
        next_step = f"save it as {WEIGHTS_FILE} with transformers' save_pretrained, or --encoder default"
        raise EncoderError(_finding("E133", folder, "weights only as pickle, which can run code", next_step))
    next_step = "give a folder in transformers' layout, or --encoder default"
    raise EncoderError(_finding("E133", folder, f"no {WEIGHTS_FILE}", next_step))


def _shards(index: Path) -> list[Path]:
    try:
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EncoderError(
            _finding("E132", index, "cannot be read as a list of shards", "fetch it again")
        ) from error
    if any(not isinstance(shard, str) or Path(shard).name != shard for shard in shards):
        raise EncoderError(
            _finding("E132", index, "names files outside its folder", "use a trusted checkpoint")
        )
    missing = [shard for shard in shards if not (index.parent / shard).is_file()]
    if missing:
        raise EncoderError(_finding("E134", index, f"missing shards: {', '.join(missing)}", "fetch them"))
    return [index.parent / shard for shard in shards]


def _finding(code: str, path: Path, found: str, next_step: str) -> Finding:
    return Finding(code=code, place=str(path), found=found, next_step=next_step)


def load_pretrained(
    folder: Path,
    *,
    num_labels: int,
    head: HeadName,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    seed: int = 1,
) -> Classifier:
    """The encoder of a folder under a fresh head.

    The head's weights depend on `seed` alone; BERT's pooler is taken over by the `cls` head when the folder has one.
    Raises `EncoderError` for anything missing, unexpected (see `names.IGNORABLE`) or unsupported.
    """
    config = read_config(folder)
    sizes: dict[str, Any] = {
        "num_labels": num_labels,
        "dropout": dropout,
        "attention_dropout": attention_dropout,
    }
    classifier = _build(config, head=head, **sizes)
    state = read_weights(folder)
    place = str(folder)
    if isinstance(classifier.encoder, TransformersEncoder):
        _assign(classifier.encoder.model, _foreign_state(classifier.encoder, state), place)
        classifier.head.initialise(torch.Generator().manual_seed(seed))
        return classifier
    shape = classifier.encoder.shape
    table = names.encoder_table(shape.layout, shape.num_layers)
    prefix = names.CHECKPOINT_PREFIX[shape.layout]
    checkpoint = names.normalise(state, shape.layout)
    wanted = {name for theirs in table.values() for name in theirs}
    names.require_names(
        (name for name in checkpoint if name in wanted or not names.is_ignorable(name, prefix)), wanted, place
    )
    new_head = HEADS[head](shape.hidden_size, num_labels, dropout=dropout)
    new_head.initialise(torch.Generator().manual_seed(seed))
    tensors = names.to_ours(checkpoint, table) | {
        f"head.{key}": value for key, value in new_head.state_dict().items()
    }
    if head == "cls" and shape.layout == "bert":
        tensors |= _pooler(checkpoint)
    _assign(classifier, tensors, place)
    return classifier


def has_pooler(folder: Path) -> bool:
    """Whether the weights of a folder include BERT's pooler; reads the names only."""
    for path in _weight_files(folder):
        with safe_open(path, framework="pt") as file:
            if any(name.endswith("pooler.dense.weight") for name in file.keys()):  # noqa: SIM118 - not a mapping
                return True
    return False


def _pooler(checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {f"head.dense.{key}": checkpoint.get(f"bert.pooler.dense.{key}") for key in names.PARAMETERS}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def _build(config: Mapping[str, object], **arguments: Any) -> Classifier:  # noqa: ANN401
    """The classifier without memory for its weights when all of them will be set anyway."""
    with torch.device("meta" if config.get("model_type") in PACKED_LAYOUTS else "cpu"):
        return build_classifier(config, **arguments)


def _assign(module: torch.nn.Module, tensors: Mapping[str, Tensor], place: str) -> None:
    expected = module.state_dict()
    names.require_names(tensors, expected, place)
    names.require_shapes(tensors, expected, place)
    module.load_state_dict(tensors, assign=True)
    module.requires_grad_(True)


def _foreign_state(encoder: TransformersEncoder, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint of another architecture under the names of its base model; task heads are left out.

    With the architecture's prefix in the file, what lacks it belongs to a task head.
    """
    expected = encoder.model.state_dict()
    modern = {name if name in expected else names.modern_name(name): tensor for name, tensor in state.items()}
    has_prefix = any(name.startswith(encoder.prefix) for name in modern)
    if has_prefix:
        modern = {
            name.removeprefix(encoder.prefix): tensor
            for name, tensor in modern.items()
            if name.startswith(encoder.prefix)
        }
    return {
        name: tensor
        for name, tensor in modern.items()
        if name in expected or not names.is_ignorable(name, "")
    }


def to_hugging_face(
    classifier: Classifier, config: Mapping[str, object], labels: Sequence[str]
) -> tuple[dict[str, object], dict[str, Tensor]]:
    """`config.json` and tensors of a classifier, as fp32 on the CPU.

    With the `cls` head on a BERT-like encoder both load in AutoModelForSequenceClassification and give the same
    logits. Raises ValueError when `labels` are not as many as the classifier has.
    """
    if len(labels) != classifier.num_labels:
        raise ValueError(f"{len(labels)} label names for {classifier.num_labels} labels")
    written = in_float32({key: value for key, value in config.items() if key not in LEFT_OUT})
    written |= {
        "problem_type": "multi_label_classification",
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
        HEAD_KEY: classifier.head_name,
    }
    if loads_in_transformers(config, classifier.head_name):
        written["architectures"] = [ARCHITECTURES[str(config["model_type"])]]
    state = {
        name: tensor.detach().to("cpu", torch.float32) for name, tensor in classifier.state_dict().items()
    }
    return written, names.to_theirs(state, _file_table(classifier))


def in_float32(config: Mapping[str, object]) -> dict[str, object]:
    """A configuration that says of the weights beside it what is true; without a word of them it stays so."""
    return {key: "float32" if key in DTYPE_KEYS else value for key, value in config.items()}


def loads_in_transformers(config: Mapping[str, object], head: HeadName) -> bool:
    """Whether AutoModelForSequenceClassification can represent this head on this encoder."""
    return head == "cls" and config.get("model_type") in ARCHITECTURES


def _file_table(classifier: Classifier) -> names.Table:
    """Our names of the whole classifier against those in a saved file."""
    encoder = classifier.encoder
    if isinstance(encoder, PackedEncoder):
        shape = encoder.shape
        return names.encoder_table(shape.layout, shape.num_layers) | names.head_table(
            shape.layout, classifier.head_name
        )
    return {name: (name.replace(OWN_PREFIX, "encoder.", 1),) for name in classifier.state_dict()}


def load_classifier(
    config: Mapping[str, object],
    state: Mapping[str, Tensor],
    *,
    num_labels: int,
    head: HeadName,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
) -> Classifier:
    """The classifier that `to_hugging_face` wrote; the way back.

    Raises `BundleError` when a tensor is missing, unexpected, of the wrong shape or not finite, or when the
    configuration is damaged or names another head.
    """
    sizes: dict[str, Any] = {"dropout": dropout, "attention_dropout": attention_dropout}
    try:
        _require_head(config, head)
        classifier = _build(config, head=head, num_labels=num_labels, **sizes)
        table = _file_table(classifier)
        names.require_names(state, (name for theirs in table.values() for name in theirs), WEIGHTS_FILE)
        _require_finite(state, WEIGHTS_FILE)
        _assign(classifier, names.to_ours(state, table), WEIGHTS_FILE)
    except EncoderError as error:
        raise BundleError(*(replace(finding, next_step=RESTORE) for finding in error.findings)) from error
    return classifier


def _require_head(config: Mapping[str, object], head: HeadName) -> None:
    if config.get(HEAD_KEY, head) != head:
        place = f'{CONFIG_FILE}, "{HEAD_KEY}"'
        raise EncoderError(Finding("E136", place, "names another head than the manifest", allowed=head))
