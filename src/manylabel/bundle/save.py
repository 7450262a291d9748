"""Write a bundle: every file, then the manifest with their hashes, then one rename. Called by recipes/train.py."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file as save_tensors

from manylabel.bundle import files
from manylabel.bundle.card import model_card
from manylabel.bundle.contents import Bundle
from manylabel.bundle.manifest import FORMAT_VERSION, Manifest, describe_files
from manylabel.bundle.model_type import to_saved
from manylabel.config.load import dump_settings
from manylabel.decisions.calibration import Calibration
from manylabel.errors import Finding, UsageError
from manylabel.modeling.weights.hugging_face import to_hugging_face


def save_bundle(bundle: Bundle, target: Path, *, overwrite: bool = False) -> None:
    """Publish `bundle` as the folder `target`; whole or not at all.

    The same bundle gives the same bytes. Raises OSError when the disk is full; `target` is then untouched.
    Raises UsageError when `target` holds something that may not be replaced, after saving the bundle under a
    free name beside it: what took hours to train is not lost to a folder that appeared in the meantime.
    """
    try:
        _publish(bundle, target, overwrite)
    except UsageError as refused:
        aside = _free_name(target)
        _publish(bundle, aside, overwrite=False)
        kept = Finding("U211", str(aside), "the model was saved under this name instead",
                       next_step="rename the folder as you like")  # fmt: skip
        raise UsageError(*refused.findings, kept) from refused


def _publish(bundle: Bundle, target: Path, overwrite: bool) -> None:
    with files.published_folder(target, overwrite=overwrite) as folder:
        _write_model(bundle, folder)
        _write_decisions(bundle, folder)
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            labels=bundle.labels,
            head=bundle.settings.model.head,
            max_length=bundle.tokenizer.max_length,
            takes_pairs=bundle.takes_pairs,
            layout=bundle.layout.to_json(),
            provenance=bundle.provenance,
            files=describe_files(folder),
        )
        (folder / files.MANIFEST).write_text(manifest.to_text(), encoding="utf-8")
        _same_mode(folder, folder / files.MANIFEST)


def _free_name(target: Path) -> Path:
    """`model-2`, or the next number that is not taken."""
    target = target.resolve()
    names = (target.with_name(f"{target.name}-{number}") for number in count(2))
    return next(name for name in names if not name.exists())


def _write_model(bundle: Bundle, folder: Path) -> None:
    """The part that transformers reads: config, weights, tokenizer."""
    config, weights = to_hugging_face(bundle.classifier, bundle.encoder_config, bundle.labels)
    _write_json(folder / files.CONFIG, to_saved(config, head=bundle.settings.model.head))
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(weights.items())}
    save_tensors(tensors, folder / files.WEIGHTS, metadata={"format": "pt"})
    (folder / files.TOKENIZER).write_text(bundle.tokenizer.to_json(), encoding="utf-8")
    _write_json(folder / files.TOKENIZER_CONFIG, bundle.tokenizer.transformers_config())


def _write_decisions(bundle: Bundle, folder: Path) -> None:
    """The part that transformers forgot: thresholds, zones, baseline, seen texts, probes, settings, figures, card."""
    decisions = {
        "calibration": (bundle.calibration or Calibration.identity(bundle.labels)).to_json(),
        "thresholds": bundle.thresholds.to_json(),
        "baseline_thresholds": bundle.baseline.thresholds.to_json(),
    }
    if bundle.zones is not None:
        decisions["zones"] = bundle.zones.to_json()
    _write_json(folder / files.DECISIONS, decisions)
    save_arrays(dict(sorted(bundle.baseline.model.to_arrays().items())), folder / files.BASELINE)
    seen: dict[str, npt.NDArray[np.unsignedinteger]] = {"fingerprints": bundle.seen_texts}
    if bundle.seen_sketches is not None:
        seen["word_sketches"] = bundle.seen_sketches
    seen |= {f"part.{name}": fingerprints for name, fingerprints in sorted(bundle.seen_parts.items())}
    save_arrays(seen, folder / files.SEEN_TEXTS)
    _write_json(folder / files.PROBES, bundle.probes.to_json())
    if bundle.evaluation is not None:
        _write_json(folder / files.EVALUATION, dict(bundle.evaluation))
    if bundle.report is not None:
        (folder / files.REPORT).write_text(bundle.report, encoding="utf-8")
    (folder / files.SETTINGS).write_text(dump_settings(bundle.settings), encoding="utf-8")
    (folder / files.CARD).write_text(model_card(bundle), encoding="utf-8")


def _same_mode(folder: Path, model: Path) -> None:
    """Let everyone read the tensors who may read the rest; safetensors makes its files for their owner alone."""
    mode = model.stat().st_mode & 0o777
    for path in folder.glob("*.safetensors"):
        path.chmod(mode)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(
        json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8"
    )
