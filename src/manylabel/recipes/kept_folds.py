"""Finished folds on disk; called by recipes/folds.py and recipes/crossfit_members.py.

Each is one safetensors file that appears whole or not at all: the logits of the fold's rows, the positions of these
rows, what else belongs to it (the weights of its model), and a hash over all of it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from manylabel.bundle.files import published_file
from manylabel.training.run_folder import RunFolder

Identity = dict[str, str | int | float | bool | None]
Logits = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Arrays = Mapping[str, npt.NDArray[Any]]

LOGITS, ROWS, OF_MODEL, TOLD = "logits_nL", "rows_n", "model.", "fold"


class DamagedFoldError(Exception):
    """A kept fold cannot be read, or is of other rows or another run."""


@dataclass(frozen=True, eq=False)
class KeptFold:
    """n rows (their positions), logits_nL by name (`logits_nL`, or `logits_nL.VIEW`), arrays and words of the model."""

    rows_n: Indices
    logits: Mapping[str, Logits]
    model: Arrays = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)


class KeptFolds:
    """The folds of one run in its folder."""

    def __init__(self, folder: RunFolder, identity: Identity, names: Sequence[str]) -> None:
        """`names` are those that `write` and `read` will be given; a file is called like its fold."""
        self._folder, self._identity, self._names = folder, identity, tuple(names)
        self._key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    @property
    def place(self) -> Path:
        """The folder."""
        return self._folder.path

    @property
    def num_done(self) -> int:
        """Folds that are kept, whole or damaged."""
        return sum(self.path(name).exists() for name in self._names)

    def path(self, name: str) -> Path:
        """Where a fold is kept."""
        return self.place / file_name(name)

    def open(self, *, fresh: bool) -> None:
        """Raise UsageError where the folder holds another run and `fresh` is not set."""
        half_written = re.compile(
            r"\.writing-.+-(" + "|".join(re.escape(file_name(name)) for name in self._names) + ")"
        )
        for path in self.place.iterdir():
            if half_written.fullmatch(path.name):
                path.unlink()  # The lock says that nobody writes it any more.
        self._folder.open(self._identity, fresh=fresh)

    def write(self, name: str, fold: KeptFold) -> None:
        """Keep a finished fold."""
        arrays: dict[str, npt.NDArray[Any]] = {ROWS: fold.rows_n.astype(np.int64), **fold.logits}
        arrays |= {OF_MODEL + key: array for key, array in fold.model.items()}
        arrays = {key: np.ascontiguousarray(arrays[key]) for key in sorted(arrays)}
        words = dict(fold.words)
        told = {"identity": self._key, "sha256": _digest(arrays, words), "words": words}
        # One entry: the library writes several in an order of its own.
        metadata = {TOLD: json.dumps(told, sort_keys=True)}
        with published_file(self.path(name)) as temporary:
            save_file(arrays, temporary, metadata=metadata)

    def read(self, name: str, rows: Indices, *, logits: Sequence[str], num_labels: int) -> KeptFold | None:
        """A fold with everything it holds; None where it is not kept.

        Raises DamagedFoldError unless it is whole, of these rows, and has these logits, all of them finite.
        """
        path = self.path(name)
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                told = json.loads((file.metadata() or {})[TOLD])
                arrays = {key: file.get_tensor(key) for key in sorted(file.keys())}
            is_ours = told["identity"] == self._key and told["sha256"] == _digest(arrays, told["words"])
        except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
            raise DamagedFoldError from error
        found = {key: arrays[key] for key in arrays if key.startswith(LOGITS)}
        fits = set(found) == set(logits) and np.array_equal(arrays.get(ROWS, np.zeros(0)), rows)
        shape = (len(rows), num_labels)
        if not (is_ours and fits and all(_is_right(each, shape) for each in found.values())):
            raise DamagedFoldError
        model = {
            key.removeprefix(OF_MODEL): array for key, array in arrays.items() if key.startswith(OF_MODEL)
        }
        return KeptFold(rows, found, model, told["words"])

    def forget(self, name: str) -> None:
        """Remove a fold that is damaged."""
        self.path(name).unlink(missing_ok=True)


def file_name(name: str) -> str:
    """What the file of a fold is called."""
    return f"{name}.safetensors"


def _is_right(logits_nL: npt.NDArray[Any], shape: tuple[int, int]) -> bool:
    return logits_nL.shape == shape and logits_nL.dtype == np.float32 and bool(np.isfinite(logits_nL).all())


def _digest(arrays: Arrays, words: Mapping[str, str]) -> str:
    """SHA-256 over names, types, shapes and values, and the words."""
    digest = hashlib.sha256(json.dumps(words, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data if array.size else b"")
    return digest.hexdigest()
