"""The names in a bundle's folder, and how a file or folder is published whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
DECISIONS = "decisions.json"
BASELINE = "baseline.safetensors"
SEEN_TEXTS = "seen_texts.safetensors"
PROBES = "probes.json"
EVALUATION = "evaluation.json"
SETTINGS = "settings.yaml"
CARD = "README.md"
MANIFEST = "manifest.json"

HASH_CHUNK_BYTES = 1 << 20


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes in hexadecimal; about 0.2 s for 90 MB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Wait until the file or folder is on the disk, so that a rename after it never publishes less."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def published_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its name when the block ends well.

    Every file is synced before the rename. When the block fails or is interrupted nothing appears under `target`
    and the temporary folder is removed; what a killed process left is removed the next time. A folder that was
    there before is replaced, and stays as it was when anything fails.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    temporary = target.parent / f".{target.name}.writing-{os.getpid()}"
    replaced = target.parent / f".{target.name}.replaced-{os.getpid()}"
    temporary.mkdir()
    try:
        yield temporary
        for path in temporary.iterdir():
            sync(path)
        sync(temporary)
        if target.exists():
            target.rename(replaced)
        temporary.rename(target)
        sync(target.parent)
        shutil.rmtree(replaced, ignore_errors=True)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if replaced.exists() and not target.exists():
            replaced.rename(target)
        raise


@contextmanager
def published_file(target: Path) -> Iterator[Path]:
    """A temporary path beside `target` that takes its name when the block ends well; removed when it fails.

    The suffixes stay the same, so that writers which look at them see the right format.
    """
    temporary = target.with_name(f".writing-{os.getpid()}-{target.name}")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(target)
        sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_leftovers(target: Path) -> None:
    """Remove temporary folders of processes that are gone; put a half-replaced bundle back first."""
    for leftover in target.parent.glob(f".{target.name}.replaced-*"):
        if not _is_running(leftover) and not target.exists():
            leftover.rename(target)
    for pattern in ("writing", "replaced"):
        for leftover in target.parent.glob(f".{target.name}.{pattern}-*"):
            if not _is_running(leftover):
                shutil.rmtree(leftover, ignore_errors=True)


def _is_running(leftover: Path) -> bool:
    process = leftover.name.rpartition("-")[2]
    if not process.isdigit() or int(process) == os.getpid():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
