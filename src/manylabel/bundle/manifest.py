"""What a bundle says of itself: every file with its hash, the labels, where it came from. Checked at every load."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from manylabel.bundle.files import (
    CONFIG,
    DECISIONS,
    MANIFEST,
    PROBES,
    SEEN_TEXTS,
    SETTINGS,
    names_in,
    replaced_leftovers,
)
from manylabel.digest import sha256_of
from manylabel.errors import BundleError, Finding

FORMAT_VERSION = 2
"""2 since a model may be calibrated: a reader of version 1 would leave that out."""
ENSEMBLE_VERSION = 3
"""Several models in folders of their own under models/, and ensemble.json; one network stays in version 2."""
RESTORE = "copy the model again from where it is intact, or train it again"
OF_EVERY_MODEL = {DECISIONS, PROBES, SEEN_TEXTS, SETTINGS}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Part):
    """One file: its SHA-256 in hexadecimal and its size in bytes."""

    sha256: str
    num_bytes: int


class Provenance(_Part):
    """Where a model came from: data, versions, seed, course of training. No times, so equal runs give equal bytes."""

    data: dict[str, dict[str, str | int]]
    versions: dict[str, str]
    encoder_sha256: str
    training: dict[str, str | int | float | None]
    hardware: dict[str, str] = {}
    """What the last digits of the weights depend on: device, number format and threads of the training."""


class Manifest(_Part):
    """manifest.json. `files` has paths relative to the folder, parts divided by a slash on every system.

    `head` and `max_length` are those of the network; None for an ensemble, whose ensemble.json has those of each.
    """

    format_version: int
    labels: tuple[str, ...]
    head: Literal["mean", "cls"] | None
    max_length: int | None
    takes_pairs: bool
    layout: dict[str, Any]
    provenance: Provenance
    files: dict[str, FileEntry]

    def to_text(self) -> str:
        """Canonical JSON with a checksum of its own, so that a change in the manifest is found too."""
        return _to_text(self.model_dump(mode="json"))


def _to_text(content: dict[str, Any]) -> str:
    return json.dumps({**content, "checksum": _checksum(content)}, indent=2, sort_keys=True) + "\n"


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def describe_files(folder: Path) -> dict[str, FileEntry]:
    """Hash and size of every file of a folder about to be published, and of its folders."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {
        name: FileEntry(sha256=sha256_of(folder / name), num_bytes=(folder / name).stat().st_size)
        for name in names
    }


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a bundle, its own checksum verified.

    Raises BundleError when there is no bundle, the manifest is damaged or its format is of another version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(_no_model(folder))
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        content = json.loads(text)
        stated = content.pop("checksum")
        version = content["format_version"]
        if isinstance(version, int) and version > ENSEMBLE_VERSION:
            raise BundleError(_newer_format(path, version))
        manifest = Manifest.model_validate(content)
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
        raise BundleError(_damaged(path)) from error
    # Compared as read, not as validated, so that fields that came later do not make an older model damaged.
    if stated != _checksum(content) or _to_text(content) != text:
        raise BundleError(_damaged(path))
    return manifest


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Compare every file with its hash; all differences at once, by file name.

    Raises BundleError naming missing, extra and changed files.
    """
    present = names_in(folder, manifest.files) - {MANIFEST}
    findings = _missing(folder, sorted(set(manifest.files) - present), of=len(manifest.files))
    findings += [
        Finding("B404", str(folder / name), "not a file of this model", "only the files in manifest.json",
                "move it elsewhere")
        for name in sorted(present - set(manifest.files))
    ]  # fmt: skip
    for name in sorted(present & set(manifest.files)):
        entry, path = manifest.files[name], folder / name
        if not path.is_file() or path.is_symlink():
            findings.append(Finding("B405", str(path), "not a plain file", next_step=RESTORE))
        elif path.stat().st_size != entry.num_bytes:
            found = f"{path.stat().st_size:,} bytes instead of {entry.num_bytes:,}"
            findings.append(Finding("B406", str(path), found, next_step=RESTORE))
        elif sha256_of(path) != entry.sha256:
            findings.append(
                Finding(
                    "B407",
                    str(path),
                    "the content changed since it was saved (SHA-256 differs)",
                    next_step=RESTORE,
                )
            )
    if findings:
        raise BundleError(*findings)


def _missing(folder: Path, names: list[str], *, of: int) -> list[Finding]:
    """One finding a missing file, and one in all for a folder that was emptied."""
    if names and len(names) == of:
        found = f"all {of} files of the model are missing, manifest.json alone is there"
        return [Finding("B403", str(folder), found, next_step=RESTORE)]
    return [Finding("B403", str(folder / name), "the file is missing", next_step=RESTORE) for name in names]


def _no_model(folder: Path) -> Finding:
    what, next_step = "no such folder", "check the path"
    if folder.is_dir():
        what, next_step = _other_folder(folder)
    elif folder.exists():
        what, next_step = "it is a file, not a folder", "name the folder of the model"
        if (folder.parent / MANIFEST).is_file():
            next_step = f"name the folder that it lies in: {folder.parent}"
    if leftovers := replaced_leftovers(folder):
        next_step = (
            f"a save was cut short; the former model is in {leftovers[-1]}: rename it to {folder.name}, "
            "or save again"
        )
    return Finding("B401", str(folder), what, "a folder written by manylabel train", next_step)


def _other_folder(folder: Path) -> tuple[str, str]:
    """What a folder without manifest.json is instead of a model, and what to do."""
    names = {path.name for path in folder.iterdir()}
    if not names:
        return "the folder is empty", f"check the path, or {RESTORE}"
    if names >= OF_EVERY_MODEL:
        return "manifest.json is missing, all else looks like a model", RESTORE
    inner = sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}"))
    if inner:
        return "no manifest.json, but folders in it are models", f"name one, for example {folder / inner[0]}"
    if CONFIG in names:
        step = f"train a model from it: manylabel train FILE --encoder {folder} --out MODEL"
        return "it is an encoder, not a trained model", step
    return "no manifest.json, so not a manylabel model", "check the path"


def _damaged(path: Path) -> Finding:
    return Finding("B402", str(path), "the manifest is damaged or was edited", next_step=RESTORE)


def _newer_format(path: Path, version: int) -> Finding:
    return Finding("B408", str(path), f"format version {version}", f"up to {ENSEMBLE_VERSION}",
                   "install a newer manylabel")  # fmt: skip
