"""The three files of one checkpoint: how they are written, and how they are proved whole before any is used.

state.safetensors   the tensors
state.json          everything else
manifest.json       format version, step, size and SHA-256 of the other two, and a checksum over itself

Called by training/checkpoints.py, which gives the folder its name only when all of it is on the disk. The tensors
are written by hand rather than with safetensors' own writer, which copies all of them in memory first; they are
hashed on the way, so what a faulty disk changes is found too. Reading is safetensors' own.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from safetensors.torch import load_file
from torch import Tensor

from manylabel.bundle.files import MANIFEST, sync
from manylabel.bundle.manifest import FileEntry
from manylabel.digest import sha256_of

TENSORS = "state.safetensors"
FACTS = "state.json"
NAMES = frozenset({TENSORS, FACTS, MANIFEST})
FORMAT_VERSION = 1
CHUNK_BYTES = 1 << 20
RESERVED_NAME = "__metadata__"
"""The one name that safetensors keeps for itself."""

DTYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Number formats as safetensors calls them; https://huggingface.co/docs/safetensors, section Format."""


class DamagedError(Exception):
    """A checkpoint that may not be used: which file of it, and what is wrong with that."""

    def __init__(self, path: Path, what: str) -> None:
        """Say where and what."""
        super().__init__(f"{path}: {what}")
        self.path, self.what = path, what


class _Manifest(BaseModel):
    """manifest.json without its checksum."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format_version: int
    step: int
    files: dict[str, FileEntry]


def write_files(
    folder: Path, step: int, *, tensors: Mapping[str, Tensor], facts: Mapping[str, JsonValue]
) -> None:
    """Write a checkpoint into an empty folder and wait until all of it is on the disk.

    `tensors` are on the CPU, contiguous and of a format in DTYPE_NAMES. Numbers in `facts` that are not finite are
    written as NaN and Infinity, which Python reads back. Raises OSError.
    """
    # Everything that is torch's work comes first: from then on only C code without the interpreter lock runs.
    header, parts = _layout(tensors)
    content = json.dumps(dict(facts), sort_keys=True).encode()
    files = {TENSORS: _write(folder / TENSORS, [header, *parts]), FACTS: _write(folder / FACTS, [content])}
    manifest = _Manifest(format_version=FORMAT_VERSION, step=step, files=files)
    _write(folder / MANIFEST, [_to_bytes(manifest.model_dump(mode="json"))])
    sync(folder)


def verify_files(folder: Path, step: int) -> dict[str, Any]:
    """Prove every file of the checkpoint whole and of this step; the facts in it.

    Raises DamagedError for the first file that is not.
    """
    manifest = _read_manifest(folder / MANIFEST)
    if manifest.step != step:
        raise DamagedError(folder / MANIFEST, f"it belongs to step {manifest.step:,}, not to step {step:,}")
    _verify_tensors(folder / TENSORS, manifest.files[TENSORS])
    path, entry = folder / FACTS, manifest.files[FACTS]
    content = _read(path)
    if len(content) != entry.num_bytes:
        raise DamagedError(path, _other_size(len(content), entry))
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise DamagedError(path, OTHER_CONTENT)
    try:
        facts = json.loads(content)
    except ValueError as error:
        raise DamagedError(path, "it is not JSON") from error
    if not isinstance(facts, dict):
        raise DamagedError(path, "it is not what a checkpoint holds")
    return facts


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of a verified checkpoint, in memory of their own.

    Raises DamagedError when they cannot be read.
    """
    path = folder / TENSORS
    try:
        # Copied: what safetensors gives is a view of the file, which may be gone soon.
        return {name: tensor.clone() for name, tensor in load_file(path).items()}
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise DamagedError(path, "it cannot be read") from error


def required_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Bytes on disk of one checkpoint with these tensors, with a megabyte for everything else.

    While one is written there are `keep` older ones beside it.
    """
    return len(_header(tensors)) + sum(tensor.nbytes for tensor in tensors.values()) + (1 << 20)


OTHER_CONTENT = "the content changed since it was written (SHA-256 differs)"


def _other_size(num_bytes: int, entry: FileEntry) -> str:
    return f"{num_bytes:,} bytes instead of {entry.num_bytes:,}"


def _ordered(tensors: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    """Widest numbers first, so that every tensor starts at a multiple of its number's size; then by name."""
    return sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))


def _header(tensors: Mapping[str, Tensor]) -> bytes:
    """Length and JSON that come before the data, filled with spaces to a multiple of 8 bytes."""
    entries, begin = {}, 0
    for name, tensor in _ordered(tensors):
        end = begin + tensor.nbytes
        entries[name] = {
            "dtype": DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _layout(tensors: Mapping[str, Tensor]) -> tuple[bytes, list[memoryview]]:
    """The header and the bytes of every tensor in the order of the header; nothing is copied."""
    flat = [tensor.detach().reshape(-1).view(torch.uint8).numpy() for _, tensor in _ordered(tensors)]
    return _header(tensors), [array.data for array in flat]


def _chunks(parts: Iterable[bytes | memoryview]) -> Iterator[memoryview]:
    for part in parts:
        view = memoryview(part)
        for begin in range(0, len(view), CHUNK_BYTES):
            yield view[begin : begin + CHUNK_BYTES]


def _write(path: Path, parts: Iterable[bytes | memoryview]) -> FileEntry:
    """Write a new file and wait for the disk; its size and the hash of what it was meant to hold."""
    digest, num_bytes = hashlib.sha256(), 0
    with path.open("xb") as file:
        for chunk in _chunks(parts):
            digest.update(chunk)
            file.write(chunk)
            num_bytes += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    return FileEntry(sha256=digest.hexdigest(), num_bytes=num_bytes)


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise DamagedError(path, "the file is missing")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DamagedError(path, f"it cannot be read ({error.strerror})") from error


def _verify_tensors(path: Path, entry: FileEntry) -> None:
    """Compare size and hash without holding the file in memory."""
    if not path.is_file():
        raise DamagedError(path, "the file is missing")
    try:
        if (num_bytes := path.stat().st_size) != entry.num_bytes:
            raise DamagedError(path, _other_size(num_bytes, entry))
        if sha256_of(path) != entry.sha256:
            raise DamagedError(path, OTHER_CONTENT)
    except OSError as error:
        raise DamagedError(path, f"it cannot be read ({error.strerror})") from error


def _read_manifest(path: Path) -> _Manifest:
    """The manifest, byte by byte as it was written."""
    text = _read(path)
    try:
        content = json.loads(text)
        stated = content.pop("checksum")
        intact = stated == _checksum(content) and _to_bytes(content) == text
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(path, "the manifest is damaged") from error
    if not intact:
        raise DamagedError(path, "the manifest is damaged (its checksum differs)")
    if content.get("format_version") != FORMAT_VERSION:
        found = f"format version {content.get('format_version')} instead of {FORMAT_VERSION}"
        raise DamagedError(path, f"{found}: written by another manylabel")
    try:
        manifest = _Manifest.model_validate(content)
    except ValidationError as error:
        raise DamagedError(path, "it is not the manifest of a checkpoint") from error
    if set(manifest.files) != {TENSORS, FACTS}:
        raise DamagedError(path, "it is not the manifest of a checkpoint")
    return manifest


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _to_bytes(content: dict[str, Any]) -> bytes:
    """Canonical JSON with its checksum."""
    text = json.dumps({**content, "checksum": _checksum(content)}, indent=2, sort_keys=True)
    return (text + "\n").encode()
