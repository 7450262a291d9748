"""Read a bundle: verify every file, then build the values. Called by inference/load.py, which runs the probes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.numpy import load_file as load_arrays

from manylabel.bundle import files
from manylabel.bundle.contents import Bundle, FittedBaseline
from manylabel.bundle.ensemble import Ensemble, NetworkModel
from manylabel.bundle.manifest import ENSEMBLE_VERSION, RESTORE, Manifest, read_manifest, verify_files
from manylabel.bundle.model_files import read_ensemble, read_json, read_network
from manylabel.bundle.probes import Probes
from manylabel.config.load import load_settings
from manylabel.data.layout import Layout
from manylabel.decisions.abstain import Zones
from manylabel.decisions.calibration import Calibration
from manylabel.decisions.thresholds import Thresholds
from manylabel.errors import BundleError, Finding
from manylabel.evaluation.baseline import LinearBaseline


def load_bundle(folder: Path) -> Bundle:
    """The bundle in `folder`, every hash checked before a file is interpreted.

    Raises BundleError naming each damaged, missing or extra file, or a contradiction between files.
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    decisions = read_json(folder / files.DECISIONS)
    thresholds = Thresholds.from_json(decisions["thresholds"])
    if manifest.labels != thresholds.labels:
        found = "decisions.json and manifest.json disagree on the labels"
        raise BundleError(Finding("B410", str(folder), found, next_step=RESTORE))
    settings = load_settings(folder / files.SETTINGS, ())
    evaluation, report = folder / files.EVALUATION, folder / files.REPORT
    seen = load_arrays(folder / files.SEEN_TEXTS)
    return Bundle(
        model=_model(folder, manifest),
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
        evaluation=read_json(evaluation) if evaluation.is_file() else None,
        report=report.read_text(encoding="utf-8") if report.is_file() else None,
        probes=Probes.from_json(read_json(folder / files.PROBES)),
    )


def _model(folder: Path, manifest: Manifest) -> NetworkModel | Ensemble:
    """What computes the logits."""
    if manifest.format_version >= ENSEMBLE_VERSION:
        return read_ensemble(folder, manifest.labels)
    if manifest.head is None or manifest.max_length is None:
        found = "the manifest of one network names no head or no length"
        raise BundleError(Finding("B424", str(folder / files.MANIFEST), found, next_step=RESTORE))
    return read_network(
        folder, manifest.labels, name="model", head=manifest.head, max_length=manifest.max_length
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
