"""Tokenised texts on disk, as flat memory-mapped arrays; called by recipes/run.py.

A run that goes on, and every process but the first, reads what was tokenised once. Arrays are mapped, not read, so that
many processes on one machine share the memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from manylabel.digest import sha256_of
from manylabel.values import Encodings

INDEX = "tokens.json"
ARRAYS = ("ids_T", "segments_T", "offsets_N1", "truncated_N")
HALF_WRITTEN = INDEX + ".half-written"
FILES = (INDEX, HALF_WRITTEN, *(f"tokens-{name}.npy" for name in ARRAYS))
"""Every name this module writes."""


def stored_encodings(folder: Path, key: str) -> Encodings | None:
    """The encodings stored under `key` in `folder`; None where there are none, or where a byte of them changed.

    `key` stands for the texts, the tokenizer and its settings.
    """
    try:
        index = json.loads((folder / INDEX).read_bytes())
        if index["key"] != key:
            return None
        for name in ARRAYS:
            if sha256_of(_place(folder, name)) != index["sha256"][name]:
                return None
        ids_T, segments_T, offsets_N1, truncated_N = (
            np.load(_place(folder, name), mmap_mode="r", allow_pickle=False) for name in ARRAYS
        )
        return Encodings(ids_T, segments_T, offsets_N1, truncated_N)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def store_encodings(folder: Path, key: str, encodings: Encodings) -> None:
    """Store them in `folder` in place of what is there; raises OSError, for example on a full disk.

    The index is written last and names the hash of every array, so what a killed process left counts as nothing.
    """
    (folder / INDEX).unlink(missing_ok=True)
    for name in ARRAYS:
        with _place(folder, name).open("wb") as file:
            np.save(file, getattr(encodings, name), allow_pickle=False)
    hashes = {name: sha256_of(_place(folder, name)) for name in ARRAYS}
    temporary = folder / HALF_WRITTEN
    temporary.write_text(json.dumps({"key": key, "sha256": hashes}), encoding="utf-8")
    temporary.replace(folder / INDEX)


def cached_encodings(folder: Path, key: str, make: Callable[[], Encodings], *, may_write: bool) -> Encodings:
    """What is stored under `key`, else what `make` gives, stored if `may_write` and the disk takes it."""
    stored = stored_encodings(folder, key)
    if stored is not None:
        return stored
    made = make()
    if may_write:
        try:
            store_encodings(folder, key, made)
        except OSError:
            # A cache that cannot be kept costs time, never the run.
            for name in FILES:
                (folder / name).unlink(missing_ok=True)
    return made


def _place(folder: Path, name: str) -> Path:
    return folder / f"tokens-{name}.npy"
