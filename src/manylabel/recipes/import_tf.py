"""An original BERT folder of Google, written by TensorFlow, as an encoder folder; called by `manylabel import-tf`.

No TensorFlow is needed. One tensor after the other goes from the checkpoint to the new file, so that the memory holds
the largest of them and not the model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel.bundle.encoder_folder import check_encoder_target, published_encoder, write_origin
from manylabel.bundle.files import require_writable
from manylabel.digest import sha256_of
from manylabel.errors import EncoderError, Finding, UsageError
from manylabel.modeling.weights.hugging_face import CONFIG_FILE, WEIGHTS_FILE
from manylabel.modeling.weights.names import PRETRAINING_PARTS
from manylabel.modeling.weights.stream import write_float32
from manylabel.modeling.weights.tf_checkpoint import INDEX_SUFFIX, TensorflowCheckpoint, open_checkpoint
from manylabel.modeling.weights.tf_plan import ImportPlan, plan_import
from manylabel.recipes.adapted_encoder import WEIGHTS_SHA256
from manylabel.text.wordpiece_files import (
    TOKENIZER_CONFIG,
    VOCABULARY,
    Casing,
    decide_casing,
    read_vocabulary,
    require_size,
    write_word_piece_files,
)

BERT_CONFIG = "bert_config.json"
USUAL_PREFIX = "bert_model.ckpt"
OTHERS_SHOWN = 5
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ImportedEncoder:
    """What was imported: sizes, casing with its reason, the parts that pretraining left, and what was left out."""

    encoder: str
    checkpoint: str
    num_layers: int
    hidden_size: int
    vocab_size: int
    num_tensors: int
    num_parameters: int
    casing: str
    casing_reason: str
    casing_doubt: str
    parts: tuple[str, ...]
    missing_parts: tuple[str, ...]
    optimizer_tensors_left_out: int
    other_tensors_left_out: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)


def import_tensorflow(
    source: Path,
    out: Path,
    *,
    lowercase: bool | None = None,
    overwrite: bool = False,
    on_progress: Progress = lambda done, total: None,
) -> ImportedEncoder:
    """Write the encoder folder `out` from the folder `source`, or from the `.index` file of one checkpoint in it.

    `lowercase` overrides what the files say. `on_progress` hears parameters done and in all. Raises `EncoderError`
    that names what is damaged, missing or contradictory, UsageError for an `out` that may not be written.
    """
    _check_out(out, source, overwrite=overwrite)
    prefix = find_checkpoint(source)
    config = read_bert_config(prefix.with_name(BERT_CONFIG))
    checkpoint = open_checkpoint(prefix)
    plan = _plan(checkpoint, config)
    vocabulary = read_vocabulary(prefix.with_name(VOCABULARY))
    require_size(vocabulary, _integer(config, "vocab_size"), prefix.with_name(VOCABULARY))
    config |= {"architectures": [plan.architecture], "pad_token_id": vocabulary.index("[PAD]")}
    casing = _casing(vocabulary, lowercase, config=config, prefix=prefix)
    result = _describe(out, prefix, config, plan, casing)
    with published_encoder(out, overwrite=overwrite) as folder:
        max_length = _integer(config, "max_position_embeddings")
        write_word_piece_files(folder, vocabulary, lowercase=casing.lowercase, max_length=max_length)
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        _write_weights(folder / WEIGHTS_FILE, checkpoint, plan, on_progress)
        write_origin(folder, made_by="manylabel import-tf", origin=_origin(prefix, folder, result))
    return result


def find_checkpoint(source: Path) -> Path:
    """The prefix of the checkpoint in a folder, or of the `.index` file that was named.

    `bert_model.ckpt` comes first where a folder has several. Raises `EncoderError` where there is none, or several of
    other names.
    """
    if source.name.endswith(INDEX_SUFFIX) and source.is_file():
        return source.with_name(source.name.removesuffix(INDEX_SUFFIX))
    if not source.is_dir():
        what = (
            "the folder" if not source.exists() else f"the {INDEX_SUFFIX} file of a checkpoint, or its folder"
        )
        next_step = f"give {what} with {BERT_CONFIG}, {VOCABULARY} and {USUAL_PREFIX}{INDEX_SUFFIX}"
        found = "a file, not a folder" if source.exists() else "no such folder"
        raise EncoderError(Finding("E152", str(source), found, next_step=next_step))
    names = sorted(path.name.removesuffix(INDEX_SUFFIX) for path in source.glob(f"*{INDEX_SUFFIX}"))
    if USUAL_PREFIX in names or len(names) == 1:
        return source / (USUAL_PREFIX if USUAL_PREFIX in names else names[0])
    if names:
        found = f"several checkpoints: {', '.join(names[:OTHERS_SHOWN])}"
        next_step = f"name the {INDEX_SUFFIX} file of one of them"
    else:
        found = f"no {USUAL_PREFIX}{INDEX_SUFFIX}"
        next_step = "give the unpacked folder of a BERT release, with its .index and .data files"
    raise EncoderError(
        Finding("E152", str(source), found, "one TensorFlow checkpoint of version 2", next_step)
    )


def read_bert_config(path: Path) -> dict[str, Any]:
    """`bert_config.json` as transformers' configuration: the same keys, and what Google's code has as constants.

    Raises `EncoderError` when the file is missing or no JSON object.
    """
    config = _read_object(path)
    if config.get("model_type", "bert") != "bert":
        found = 'its "model_type" is not bert'
        raise EncoderError(Finding("E164", str(path), found, "bert", "use a checkpoint of BERT"))
    return {"model_type": "bert", "layer_norm_eps": 1e-12, "type_vocab_size": 2, **config}


def _read_object(path: Path) -> dict[str, Any]:
    next_step = "take the file from the release of this checkpoint"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EncoderError(Finding("E164", str(path), "no such file", next_step=next_step)) from None
    except ValueError:
        raise EncoderError(Finding("E164", str(path), "not readable as JSON", next_step=next_step)) from None
    if not isinstance(content, dict):
        raise EncoderError(Finding("E164", str(path), "no JSON object", next_step=next_step))
    return content


def _check_out(out: Path, source: Path, *, overwrite: bool) -> None:
    """Before anything takes time: `out` may be written, and is not the release itself."""
    if out.resolve() == source.resolve():
        found = "the folder of the checkpoint itself"
        raise UsageError(Finding("U210", str(out), found, "another folder", "choose another --out"))
    check_encoder_target(out.resolve(), overwrite=overwrite)
    require_writable(out)


def _plan(checkpoint: TensorflowCheckpoint, config: Mapping[str, object]) -> ImportPlan:
    """`plan_import`; findings about a setting name the file the user has."""
    try:
        return plan_import(checkpoint, config)
    except EncoderError as error:
        file = str(checkpoint.prefix.with_name(BERT_CONFIG))
        raise EncoderError(*(_renamed(finding, file) for finding in error.findings)) from error


def _renamed(finding: Finding, file: str) -> Finding:
    is_setting = finding.place.startswith(f'{CONFIG_FILE}, "')
    return replace(finding, place=file + finding.place.removeprefix(CONFIG_FILE)) if is_setting else finding


def _casing(
    vocabulary: tuple[str, ...], flag: bool | None, *, config: Mapping[str, object], prefix: Path
) -> Casing:
    configs = {BERT_CONFIG: config}
    tokenizer_config = prefix.with_name(TOKENIZER_CONFIG)
    if tokenizer_config.is_file():
        configs[TOKENIZER_CONFIG] = _read_object(tokenizer_config)
    names = (prefix.resolve().parent.name, prefix.name)
    return decide_casing(vocabulary, flag=flag, configs=configs, names=names)


def _write_weights(
    path: Path, checkpoint: TensorflowCheckpoint, plan: ImportPlan, on_progress: Progress
) -> None:
    """Every planned tensor, read, checked and turned one at a time."""
    variables = {tensor.name: tensor.variable for tensor in plan.tensors}
    total = _num_parameters(plan)
    done = 0

    def read(name: str) -> npt.NDArray[np.float32]:
        nonlocal done
        array = checkpoint.read(variables[name].name)
        done += array.size
        on_progress(done, total)
        return variables[name].turned(array)

    write_float32(path, [(tensor.name, tensor.shape) for tensor in plan.tensors], read)


def _num_parameters(plan: ImportPlan) -> int:
    return sum(int(np.prod(tensor.shape)) for tensor in plan.tensors)


def _describe(
    out: Path, prefix: Path, config: Mapping[str, object], plan: ImportPlan, casing: Casing
) -> ImportedEncoder:
    return ImportedEncoder(
        encoder=str(out),
        checkpoint=str(prefix),
        num_layers=_integer(config, "num_hidden_layers"),
        hidden_size=_integer(config, "hidden_size"),
        vocab_size=_integer(config, "vocab_size"),
        num_tensors=len(plan.tensors),
        num_parameters=_num_parameters(plan),
        casing=casing.word,
        casing_reason=casing.reason,
        casing_doubt=casing.doubt,
        parts=plan.parts,
        missing_parts=tuple(part for part in PRETRAINING_PARTS if part not in plan.parts),
        optimizer_tensors_left_out=plan.num_optimizer,
        other_tensors_left_out=plan.other_names,
    )


def _origin(prefix: Path, folder: Path, result: ImportedEncoder) -> dict[str, object]:
    """What `encoder.json` records; names of files but no paths, which mean nothing on another machine."""
    return {
        "checkpoint": prefix.name,
        "folder": prefix.resolve().parent.name,
        "index_sha256": sha256_of(prefix.with_name(prefix.name + INDEX_SUFFIX)),
        WEIGHTS_SHA256: sha256_of(folder / WEIGHTS_FILE),
        "casing": result.casing,
        "casing_reason": result.casing_reason,
        "parts": list(result.parts),
    }


def _integer(config: Mapping[str, object], key: str) -> int:
    value = config[key]
    assert isinstance(value, int)  # `plan_import` has checked the sizes.
    return value
