"""Read a bundle: verify every file, then build the values. Called by inference/load.py, which runs the probes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file as load_tensors

from manylabel.bundle import files
from manylabel.bundle.contents import Bundle, FittedBaseline
from manylabel.bundle.manifest import RESTORE, Manifest, read_manifest, verify_files
from manylabel.bundle.model_type import from_saved
from manylabel.bundle.probes import Probes
from manylabel.config.load import load_settings
from manylabel.data.layout import Layout
from manylabel.decisions.abstain import Zones
from manylabel.decisions.calibration import Calibration
from manylabel.decisions.thresholds import Thresholds
from manylabel.errors import BundleError, Finding
from manylabel.evaluation.baseline import LinearBaseline
from manylabel.modeling.weights.hugging_face import load_classifier
from manylabel.text.tokenizer import TextTokenizer


def load_bundle(folder: Path) -> Bundle:
    """The bundle in `folder`, every hash checked before a file is interpreted.

    Raises BundleError naming each damaged, missing or extra file, or a contradiction between files.
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    config = from_saved(_read_json(folder / files.CONFIG))
    decisions = _read_json(folder / files.DECISIONS)
    thresholds = Thresholds.from_json(decisions["thresholds"])
    _check_labels(folder, manifest, config, thresholds)
    settings = load_settings(folder / files.SETTINGS, ())
    evaluation, report = folder / files.EVALUATION, folder / files.REPORT
    seen = load_arrays(folder / files.SEEN_TEXTS)
    return Bundle(
        classifier=load_classifier(
            config, load_tensors(folder / files.WEIGHTS), num_labels=len(manifest.labels), head=manifest.head
        ),
        encoder_config=config,
        tokenizer=TextTokenizer.from_folder(folder, max_length=manifest.max_length),
        thresholds=thresholds,
        layout=Layout.from_json(manifest.layout),
        settings=settings,
        provenance=manifest.provenance,
        seen_texts=seen["fingerprints"],
        seen_sketches=seen.get("word_sketches"),  # Before format 2 they were of word triples: of no use now.
        seen_parts={name[5:]: array for name, array in sorted(seen.items()) if name.startswith("part.")},
        calibration=_calibration(folder, manifest, decisions),
        zones=_zones(folder, manifest, decisions),
        baseline=FittedBaseline(
            LinearBaseline.from_arrays(load_arrays(folder / files.BASELINE), manifest.labels),
            Thresholds.from_json(decisions["baseline_thresholds"]),
        ),
        evaluation=_read_json(evaluation) if evaluation.is_file() else None,
        report=report.read_text(encoding="utf-8") if report.is_file() else None,
        probes=Probes.from_json(_read_json(folder / files.PROBES)),
    )


def _calibration(folder: Path, manifest: Manifest, decisions: dict[str, Any]) -> Calibration:
    """What the model calibrates with; nothing in one saved before there was any."""
    content = decisions.get("calibration")
    if content is None:
        return Calibration.identity(manifest.labels)
    calibration = Calibration.from_json(content)
    if calibration.labels != manifest.labels:
        found = "decisions.json calibrates other labels than manifest.json names"
        raise BundleError(Finding("B411", str(folder), found, next_step=RESTORE))
    return calibration


def _zones(folder: Path, manifest: Manifest, decisions: dict[str, Any]) -> Zones | None:
    """What the model sends to a human; None where there are no zones."""
    content = decisions.get("zones")
    if content is None:
        return None
    zones = Zones.from_json(content)
    if zones.labels != manifest.labels:
        found = "decisions.json has zones of other labels than manifest.json names"
        raise BundleError(Finding("B412", str(folder), found, next_step=RESTORE))
    return zones


def _check_labels(folder: Path, manifest: Manifest, config: dict[str, Any], thresholds: Thresholds) -> None:
    """The label order stands in three files; they must agree."""
    id2label = {int(index): name for index, name in config["id2label"].items()}
    ordered = tuple(id2label[index] for index in sorted(id2label))
    if not manifest.labels == ordered == thresholds.labels:
        raise BundleError(
            Finding("B410", str(folder), "config.json, decisions.json and manifest.json disagree on the labels",
                    next_step=RESTORE)
        )  # fmt: skip


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
