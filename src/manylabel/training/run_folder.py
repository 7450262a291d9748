"""The folder of a running training: who works in it, and which run its checkpoints belong to.

    OUT.run/lock.json       the process that trains, while it does
    OUT.run/run.json        identity of the run: settings, data, everything that must be the same to go on
    OUT.run/checkpoints/    see checkpoints.py

Called by recipes/train.py, which removes the folder when the model is saved. Only names listed here are ever
removed; a file that someone else put there is left alone.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal

from manylabel.bundle.files import published_file, sync
from manylabel.errors import Finding, UsageError
from manylabel.training.checkpoints import CheckpointStore
from manylabel.training.folder_lock import FolderLock

Value = str | int | float | bool | None

LOCK = "lock.json"
IDENTITY = "run.json"
CHECKPOINTS = "checkpoints"
FORMAT_VERSION = 1
HALF_WRITTEN = re.compile(rf"\.writing-.+-{re.escape(IDENTITY)}|{re.escape(LOCK)}\.\d+")
FINGERPRINT = re.compile(r'"[0-9a-f]{16}"')
DIFFERENCES_SHOWN = 8
CHARACTERS_SHOWN = 60
NAMES_SHOWN = 3
FRESH = "add --fresh to discard that run, or choose another --out"


class RunFolder:
    """A run's folder, held by this process while the `with` block lasts.

    Entering raises UsageError when another training holds it; an empty folder is removed at the end.
    """

    def __init__(self, path: Path, *, own_files: tuple[str, ...] = ()) -> None:
        """Nothing is made yet; `own_files` are names of further files that the caller writes into the folder."""
        self._path = path.resolve()
        self._own_files = own_files
        self._lock = FolderLock(self._path / LOCK)
        self._is_held = False

    @property
    def path(self) -> Path:
        """The folder."""
        return self._path

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints of the run belong; made by the first one."""
        return self._path / CHECKPOINTS

    def __enter__(self) -> RunFolder:
        """Make the folder and take the lock."""
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            sync(self._path.parent)
        except OSError as error:
            raise UsageError(_unwritable(self._path, error)) from error
        self._lock.acquire()
        self._is_held = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let others in."""
        self._is_held = False
        self._lock.release()
        with suppress(OSError):
            self._path.rmdir()

    def open(self, identity: Mapping[str, Value], *, fresh: bool) -> Literal["new", "continued"]:
        """Begin a run with this identity, or go on with the one that is there if its identity is the same.

        With `fresh` a former run is discarded. Raises UsageError, and nothing is changed, when the former run has
        another identity or cannot be read, or when files that are not ours would be mixed with it or lost.
        """
        self._require_held()
        _check_identity(identity)
        store = CheckpointStore(self.checkpoints, keep=1)
        if not fresh and (self._path / IDENTITY).exists():
            self._compare(identity)
            self._remove_half_done(store)
            return "continued"
        self._refuse_foreign(store)
        if not fresh and store.steps():
            found = f"it holds checkpoints without {IDENTITY}, so nobody knows of which run"
            raise UsageError(Finding("U224", str(self._path), found, next_step=FRESH))
        # A crash in between leaves the former identity with fewer checkpoints, never the new one with old ones.
        self._discard(store)
        self._write_identity(identity)
        return "new"

    def holds_nothing_to_go_on_from(self) -> bool:
        """Whether there is no checkpoint, whole or not."""
        return not CheckpointStore(self.checkpoints, keep=1).steps()

    def remove(self) -> None:
        """Remove the run, after its model was saved; files that are not ours stay, and with them the folder."""
        self._require_held()
        self._discard(CheckpointStore(self.checkpoints, keep=1))
        with suppress(OSError):
            (self._path / IDENTITY).unlink()

    def _require_held(self) -> None:
        if not self._is_held:
            raise RuntimeError("use the run folder in a with block")

    def _write_identity(self, identity: Mapping[str, Value]) -> None:
        """Write run.json, whole or not at all."""
        path = self._path / IDENTITY
        content = {"format_version": FORMAT_VERSION, "identity": dict(identity)}
        try:
            with published_file(path) as temporary:
                temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        except OSError as error:
            raise UsageError(_unwritable(path, error)) from error

    def _discard(self, store: CheckpointStore) -> None:
        """Remove everything of a run but its identity, which goes last or is replaced."""
        store.clear()
        self._remove_half_done(store)
        for name in self._own_files:
            with suppress(OSError):
                (self._path / name).unlink()

    def _remove_half_done(self, store: CheckpointStore) -> None:
        """Everything temporary is left over, whoever made it: the lock says that nobody else works here."""
        store.remove_leftovers(of_everyone=True)
        for name in filter(HALF_WRITTEN.fullmatch, os.listdir(self._path)):
            (self._path / name).unlink(missing_ok=True)

    def _refuse_foreign(self, store: CheckpointStore) -> None:
        """Raise UsageError when the folder holds what a run does not write."""
        known = {LOCK, IDENTITY, CHECKPOINTS, *self._own_files}
        present = sorted(os.listdir(self._path))
        foreign = [name for name in present if name not in known and not HALF_WRITTEN.fullmatch(name)]
        foreign += [f"{CHECKPOINTS}/{name}" for name in store.foreign_names()]
        if self.checkpoints.exists() and not self.checkpoints.is_dir():
            foreign.append(CHECKPOINTS)
        if not foreign:
            return
        more = f" and {len(foreign) - NAMES_SHOWN:,} more" if len(foreign) > NAMES_SHOWN else ""
        found = f"it holds {', '.join(foreign[:NAMES_SHOWN])}{more}, which no training wrote"
        next_step = "move that elsewhere, or choose another --out"
        allowed = "an empty folder, or that of a run"
        raise UsageError(Finding("U225", str(self._path), found, allowed, next_step))

    def _compare(self, identity: Mapping[str, Value]) -> None:
        """Raise UsageError with every difference between this identity and the one in the folder."""
        former = _read_identity(self._path / IDENTITY)
        names = sorted({*identity, *former})
        differing = [name for name in names if _shown(identity, name) != _shown(former, name)]
        if not differing:
            return
        count = f"{len(differing):,} thing{'s' if len(differing) > 1 else ''}"
        more = len(differing) - DIFFERENCES_SHOWN
        hidden = f" ({more:,} of them not listed)" if more > 0 else ""
        way_out = "give the same data and settings to go on, or --fresh to discard that run"
        found = f"it holds a run that was not finished, and it differs from this one in {count}{hidden}"
        raise UsageError(
            Finding("U223", str(self._path), found, next_step=way_out),
            *(
                Finding("U223", name, _difference(_shown(identity, name), _shown(former, name)))
                for name in differing[:DIFFERENCES_SHOWN]
            ),
        )


def _unwritable(path: Path, error: OSError) -> Finding:
    found = f"it cannot be written ({error.strerror})"
    return Finding("U221", str(path), found, "a folder you may write to, with room", "choose another --out")


def _check_identity(identity: Mapping[str, Value]) -> None:
    for name, value in identity.items():
        if not isinstance(value, (str, int, float, bool, type(None))):
            raise TypeError(f"{name} of a run's identity is a {type(value).__name__}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} of a run's identity is {value}")


def _read_identity(path: Path) -> dict[str, Value]:
    """The identity in a folder; raises UsageError when it cannot be read."""
    try:
        content = json.loads(path.read_bytes())
        version, identity = content["format_version"], dict(content["identity"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(Finding("U224", str(path), "it cannot be read", next_step=FRESH)) from error
    if version != FORMAT_VERSION:
        found = f"format version {version}"
        next_step = f"use the manylabel that began the run, or {FRESH}"
        raise UsageError(Finding("U224", str(path), found, str(FORMAT_VERSION), next_step))
    return identity


def _shown(identity: Mapping[str, Value], name: str) -> str:
    """A value as in the file, so that 1, 1.0 and true are three values."""
    return "not set" if identity.get(name) is None else json.dumps(identity[name], ensure_ascii=False)


def _difference(now: str, former: str) -> str:
    """Both values; of fingerprints, which mean nothing to a reader, only that they are not the same."""
    if FINGERPRINT.fullmatch(now) and FINGERPRINT.fullmatch(former):
        return "not the same now as in that run"
    return f"{_cut(now)} now, {_cut(former)} in that run"


def _cut(text: str) -> str:
    return text if len(text) <= CHARACTERS_SHOWN else f"{text[: CHARACTERS_SHOWN - 3]}..."
