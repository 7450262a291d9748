"""An adapted encoder as a folder, and what it says of itself; called by recipes/adapt.py and by training.

config.json, model.safetensors    transformers' layout, with pooler and pretraining heads
tokenizer.json, tokenizer_config.json
adaptation.json                   where the weights come from: texts by fingerprint, settings, figures
encoder.json                      see bundle/encoder_folder.py
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from manylabel.bundle.encoder_folder import ORIGIN, published_encoder, read_origin, write_origin
from manylabel.bundle.files import CONFIG, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS
from manylabel.digest import sha256_of
from manylabel.errors import EncoderError, Finding
from manylabel.modeling.pretraining import PretrainingModel
from manylabel.modeling.weights.hugging_face import read_config
from manylabel.modeling.weights.pretraining_names import to_hugging_face
from manylabel.text.tokenizer import TextTokenizer

ADAPTATION = "adaptation.json"
FORMAT_VERSION = 1
WEIGHTS_SHA256 = "weights_sha256"
"""Key of the origin in encoder.json, written by recipes/import_tf.py too."""
SHOWN = 12


def save_encoder(
    model: PretrainingModel, source: Path, out: Path, *, adaptation: Mapping[str, Any], overwrite: bool
) -> None:
    """Publish the folder `out`; configuration and tokenizer are those of the encoder in `source`.

    Equal weights and facts give equal bytes. Raises UsageError where `out` may not be written.
    """
    config, tensors = to_hugging_face(model, read_config(source))
    tokenizer = TextTokenizer.from_folder(source, max_length=model.encoder.max_tokens)
    with published_encoder(out, overwrite=overwrite) as folder:
        _write_json(folder / CONFIG, config)
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        (folder / TOKENIZER).write_text(tokenizer.to_json(), encoding="utf-8")
        if (source / TOKENIZER_CONFIG).is_file():
            shutil.copyfile(source / TOKENIZER_CONFIG, folder / TOKENIZER_CONFIG)
        else:
            _write_json(folder / TOKENIZER_CONFIG, tokenizer.transformers_config())
        _write_json(folder / ADAPTATION, {"format_version": FORMAT_VERSION, **adaptation})
        origin = {"described_in": ADAPTATION, WEIGHTS_SHA256: sha256_of(folder / WEIGHTS)}
        write_origin(folder, made_by="manylabel adapt", origin=origin)


def require_unchanged(folder: Path) -> None:
    """Raise EncoderError where the weights are not those that `encoder.json` of an encoder of ours records."""
    content = read_origin(folder) or {}
    origin, made_by = content.get("origin"), content.get("made_by", "manylabel")
    recorded = origin.get(WEIGHTS_SHA256) if isinstance(origin, dict) else None
    weights = folder / WEIGHTS
    if not isinstance(recorded, str) or not weights.is_file():
        return
    found = sha256_of(weights)
    if found != recorded:
        raise EncoderError(
            Finding("E184", str(weights), f"its SHA-256 is {found[:SHOWN]}...",
                    f"{recorded[:SHOWN]}..., as {made_by} recorded it in {ORIGIN}",
                    f"run {made_by} again or restore the file; where the change is meant, remove {ORIGIN}")
        )  # fmt: skip


def read_adaptation(folder: Path) -> dict[str, Any] | None:
    """What an encoder's folder says of its adaptation; None where it was not adapted.

    Raises EncoderError when that is damaged.
    """
    path = folder / ADAPTATION
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        texts, steps = content["texts"], content["training"]["steps"]
        types = (
            type(texts["sha256"]),
            type(texts["documents"]),
            type(steps),
            type(content["pooler_trained"]),
        )
        is_known = content["format_version"] == FORMAT_VERSION and types == (str, int, int, bool)
    except (OSError, ValueError, KeyError, TypeError):
        is_known = False
    if not is_known:
        step = "restore the file, or adapt the encoder again"
        raise EncoderError(Finding("E183", str(path), "damaged, or of another version", next_step=step))
    result: dict[str, Any] = content
    return result


def adaptation_facts(folder: Path) -> dict[str, str | int] | None:
    """Of an adapted encoder what a model made from it records of the texts; None where it was not adapted."""
    found = read_adaptation(folder)
    if found is None:
        return None
    sources = ", ".join(str(each["source"]) for each in found["texts"]["sources"])
    return {
        "source": sources,
        "rows": found["texts"]["documents"],
        "sha256": found["texts"]["sha256"],
        "steps": found["training"]["steps"],
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(
        json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
    )
