"""Write a bundle: every file, then the manifest with their hashes, then one rename. Called by recipes/train.py."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file as save_arrays

from manylabel.bundle import files
from manylabel.bundle.card import model_card
from manylabel.bundle.contents import Bundle
from manylabel.bundle.ensemble import Ensemble, NetworkModel
from manylabel.bundle.manifest import ENSEMBLE_VERSION, FORMAT_VERSION, Manifest, describe_files
from manylabel.bundle.model_files import write_ensemble, write_json, write_network
from manylabel.config.load import dump_settings
from manylabel.decisions.calibration import Calibration
from manylabel.errors import Finding, UsageError


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
        one = bundle.model if isinstance(bundle.model, NetworkModel) else None
        if isinstance(bundle.model, Ensemble):
            write_ensemble(bundle.model, folder)
        else:
            write_network(bundle.model, folder, bundle.labels)
        _write_decisions(bundle, folder)
        manifest = Manifest(
            format_version=FORMAT_VERSION if one else ENSEMBLE_VERSION,
            labels=bundle.labels,
            head=one.head if one else None,
            max_length=one.tokenizer.max_length if one else None,
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


def _write_decisions(bundle: Bundle, folder: Path) -> None:
    """The part that transformers forgot: thresholds, zones, baseline, seen texts, probes, settings, figures, card."""
    decisions = {
        "calibration": (bundle.calibration or Calibration.identity(bundle.labels)).to_json(),
        "thresholds": bundle.thresholds.to_json(),
        "baseline_thresholds": bundle.baseline.thresholds.to_json(),
    }
    if bundle.zones is not None:
        decisions["zones"] = bundle.zones.to_json()
    write_json(folder / files.DECISIONS, decisions)
    save_arrays(dict(sorted(bundle.baseline.model.to_arrays().items())), folder / files.BASELINE)
    seen: dict[str, npt.NDArray[np.unsignedinteger]] = {"fingerprints": bundle.seen_texts}
    if bundle.seen_sketches is not None:
        seen["word_sketches"] = bundle.seen_sketches
    seen |= {f"part.{name}": fingerprints for name, fingerprints in sorted(bundle.seen_parts.items())}
    save_arrays(seen, folder / files.SEEN_TEXTS)
    write_json(folder / files.PROBES, bundle.probes.to_json())
    if bundle.evaluation is not None:
        write_json(folder / files.EVALUATION, dict(bundle.evaluation))
    if bundle.report is not None:
        (folder / files.REPORT).write_text(bundle.report, encoding="utf-8")
    (folder / files.SETTINGS).write_text(dump_settings(bundle.settings), encoding="utf-8")
    (folder / files.CARD).write_text(model_card(bundle), encoding="utf-8")


def _same_mode(folder: Path, model: Path) -> None:
    """Let everyone read the tensors who may read the rest; safetensors makes its files for their owner alone."""
    mode = model.stat().st_mode & 0o777
    for path in folder.rglob("*.safetensors"):
        path.chmod(mode)
