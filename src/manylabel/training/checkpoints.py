"""Checkpoints that survive any crash: a published one is always whole, and a damaged one is never used.

    FOLDER/step-00001234/{state.safetensors, state.json, manifest.json}

A checkpoint is written under a temporary name, synced, renamed, and only then are older ones removed; so whenever
the process or the machine stops, at least one whole checkpoint is there. No pickle. Called by the training loop,
which alone knows what the tensors and facts mean; only one process may write to a folder (see run_folder.py).
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import JsonValue
from torch import Tensor

from manylabel.bundle.exchange import exchange
from manylabel.bundle.files import sync
from manylabel.errors import Finding, TrainingError, UsageError
from manylabel.training import checkpoint_files
from manylabel.training.checkpoint_files import DTYPE_NAMES, NAMES, RESERVED_NAME, DamagedError
from manylabel.training.folder_lock import is_running

STEP_NAME = re.compile(r"step-(\d{8,})")
TEMPORARY_NAME = re.compile(r"\.(writing|replaced|removing)-(step-\d{8,})-(.*)-(\d+)")
"""What is done, to which checkpoint, on which host, by which process."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """All that a run needs to go on after `step` optimizer steps.

    `tensors` are contiguous and on the CPU, and must not change while they are written. `facts` is plain JSON: None,
    bool, int, float (also NaN and infinite), str, list, and dict with str keys. Raises ValueError for anything else.
    """

    step: int
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, JsonValue]

    def __post_init__(self) -> None:
        if self.step < 0:
            raise ValueError(f"step must not be negative, got {self.step}")
        for name, tensor in self.tensors.items():
            _check_tensor(name, tensor)
        _check_plain(dict(self.facts), "facts")


@dataclass(frozen=True, eq=False)
class Found:
    """The newest whole checkpoint, None where there is none, and a warning for each newer one that is damaged."""

    checkpoint: Checkpoint | None
    damaged: tuple[Finding, ...]


class CheckpointStore:
    """The checkpoints of one run in one folder, of which the newest `keep` stay."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        """Remove what processes of this machine that are gone have left half done; the folder need not exist."""
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}")
        self._folder, self._keep = folder, keep
        self._damaged: set[int] = set()
        self.remove_leftovers()

    def steps(self) -> tuple[int, ...]:
        """Steps of all published checkpoints, oldest first; they are not verified."""
        matches = (STEP_NAME.fullmatch(name) for name in self._names())
        steps = (int(match[1]) for match in matches if match)
        return tuple(sorted(step for step in steps if self._place(step).is_dir()))

    def save(self, checkpoint: Checkpoint) -> Path:
        """Publish a checkpoint, then remove older ones beyond `keep`; its folder.

        A checkpoint of the same step is replaced. Those of later steps and those known as damaged go too: the run
        was continued from before them. Raises TrainingError, with all former checkpoints as they were, when the disk
        is full or fails.
        """
        target = self._place(checkpoint.step)
        temporary = self._temporary(target, "writing")
        try:
            if not self._folder.is_dir():
                self._folder.mkdir(parents=True)
                sync(self._folder.parent)
            _remove(temporary)
            temporary.mkdir()
            checkpoint_files.write_files(
                temporary, checkpoint.step, tensors=checkpoint.tensors, facts=checkpoint.facts
            )
            self._publish(temporary, target)
        except OSError as error:
            _remove(temporary)  # Before the free bytes are counted.
            raise TrainingError(self._failure(checkpoint, error)) from error
        finally:
            _remove(temporary)
        self._damaged.discard(checkpoint.step)
        self._retire(checkpoint.step)
        return target

    def newest(self) -> Found:
        """The newest whole checkpoint; every byte of it is verified before any is used.

        Its tensors have memory of their own.
        """
        skipped: list[DamagedError] = []
        checkpoint = None
        for step in reversed(self.steps()):
            place = self._place(step)
            try:
                facts = checkpoint_files.verify_files(place, step)
                checkpoint = Checkpoint(step, checkpoint_files.read_tensors(place), facts)
                break
            except DamagedError as error:
                self._damaged.add(step)
                skipped.append(error)
        return Found(checkpoint, tuple(_warning(error, checkpoint) for error in skipped))

    def clear(self) -> None:
        """Remove every checkpoint and everything half done; what this module did not write stays."""
        for step in reversed(self.steps()):
            self._discard(step)
        self._damaged.clear()
        self.remove_leftovers(of_everyone=True)
        with suppress(OSError):
            self._folder.rmdir()

    def foreign_names(self) -> tuple[str, ...]:
        """What is in the folder but was not written by this module, in order."""
        foreign = []
        for name in self._names():
            place = self._folder / name
            if not (STEP_NAME.fullmatch(name) or TEMPORARY_NAME.fullmatch(name)) or not place.is_dir():
                foreign.append(name)
            else:
                foreign += [f"{name}/{inner}" for inner in sorted(set(os.listdir(place)) - NAMES)]
        return tuple(foreign)

    def remove_leftovers(self, *, of_everyone: bool = False) -> None:
        """Remove what was left half done, and put back what was about to be replaced.

        Only that of processes of this machine that are gone, unless the caller holds the run's lock and so knows
        that nobody else works here.
        """
        for match in map(TEMPORARY_NAME.fullmatch, self._names()):
            if match is None:
                continue
            place, target = self._folder / match[0], self._folder / match[2]
            if not of_everyone and (match[3] != platform.node() or is_running(int(match[4]))):
                continue
            if match[1] == "replaced" and not target.exists():
                with suppress(OSError):
                    place.rename(target)
            else:
                _remove(place)

    def _names(self) -> list[str]:
        return sorted(os.listdir(self._folder)) if self._folder.is_dir() else []

    def _place(self, step: int) -> Path:
        return self._folder / f"step-{step:08d}"

    def _temporary(self, target: Path, kind: str) -> Path:
        return self._folder / f".{kind}-{target.name}-{platform.node()}-{os.getpid()}"

    def _publish(self, temporary: Path, target: Path) -> None:
        """Give a written checkpoint its name; one that had it before goes only afterwards."""
        replaced = None
        if not target.exists():
            temporary.rename(target)
        elif exchange(temporary, target):
            replaced = temporary
        else:
            replaced = self._temporary(target, "replaced")
            target.rename(replaced)
            try:
                temporary.rename(target)
            except OSError:
                replaced.rename(target)
                raise
        sync(self._folder)
        if replaced is not None:
            _remove(replaced)

    def _retire(self, saved: int) -> None:
        """Remove what the checkpoint just saved has made superfluous; what cannot be removed is tried again later."""
        good = [step for step in self.steps() if step <= saved and step not in self._damaged]
        for step in set(self.steps()) - set(good[-self._keep :]):
            self._discard(step)

    def _discard(self, step: int) -> None:
        """Take the name away first, so that half of a checkpoint is never seen as one; foreign files stop it."""
        place = self._place(step)
        removing = self._temporary(place, "removing")
        with suppress(OSError):
            if set(os.listdir(place)) <= NAMES:
                _remove(removing)
                place.rename(removing)
                _remove(removing)
                self._damaged.discard(step)

    def _failure(self, checkpoint: Checkpoint, error: OSError) -> Finding:
        """What to tell when a checkpoint could not be written."""
        former = "there is no earlier checkpoint"
        for step in reversed(self.steps()):
            with suppress(DamagedError):
                checkpoint_files.verify_files(self._place(step), step)
                former = f"the checkpoint of step {step:,} is intact"
                break
        needed = checkpoint_files.required_bytes(checkpoint.tensors)
        found = (
            f"the checkpoint of step {checkpoint.step:,} could not be written ({error.strerror}): "
            f"{needed:,} bytes needed, {_free_bytes(self._folder):,} free"
        )
        next_step = "make room, then give the same command again to go on"
        return Finding("T314", str(self._folder), f"{found}; {former}", next_step=next_step)


class BackgroundWriter:
    """Saves checkpoints in a thread while training goes on; hashing and writing leave the interpreter free.

    The thread does not keep a process from ending; what it was writing then is removed at the next start.
    """

    def __init__(self, store: CheckpointStore) -> None:
        """Nothing is being written."""
        self._store = store
        self._saving: Future[Path] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._saving is not None and not self._saving.done()

    def submit(self, checkpoint: Checkpoint) -> None:
        """Begin to save a checkpoint, after the former one is done.

        Raises what went wrong with the former one (TrainingError); the new one is then not begun.
        """
        self.wait()
        saving: Future[Path] = Future()
        self._saving = saving
        threading.Thread(
            target=self._save, args=(checkpoint, saving), name="checkpoint writer", daemon=True
        ).start()

    def wait(self) -> Path | None:
        """Wait until nothing is being written; the folder of the checkpoint saved since the last call.

        Raises what went wrong with it, once.
        """
        if self._saving is None:
            return None
        try:
            return self._saving.result()
        finally:
            if self._saving.done():  # An interrupt while waiting leaves it to the next call.
                self._saving = None

    def close(self) -> None:
        """Wait for the last checkpoint; raises what went wrong with it."""
        self.wait()

    def _save(self, checkpoint: Checkpoint, saving: Future[Path]) -> None:
        try:
            path = self._store.save(checkpoint)
        except BaseException as error:  # Whatever it is, the thread that waits raises it.
            saving.set_exception(error)
        else:
            saving.set_result(path)


def required_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Bytes on disk of one checkpoint; while one is written there are `keep` older ones beside it."""
    return checkpoint_files.required_bytes(tensors)


def check_space(folder: Path, num_bytes: int, *, what: str = "checkpoints") -> None:
    """Find out before the first step whether the disk that holds `folder` has `num_bytes` left for `what`.

    `folder` need not exist. Raises UsageError with both figures.
    """
    free = _free_bytes(folder)
    if free < num_bytes:
        found = f"{what} need {num_bytes:,} bytes and {free:,} are free"
        next_step = "make room, choose another --out, or lower checkpoints.keep"
        raise UsageError(Finding("U222", str(folder), found, next_step=next_step))


def _free_bytes(folder: Path) -> int:
    """Bytes a user may still write on the disk that holds the folder, or would hold it."""
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def _remove(folder: Path) -> None:
    """Remove the files of a checkpoint and the folder if nothing else is in it; what cannot be removed stays."""
    with suppress(OSError):
        for name in NAMES:
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _warning(error: DamagedError, fallback: Checkpoint | None) -> Finding:
    going_on = (
        "no whole checkpoint is left, so training begins anew"
        if fallback is None
        else f"falling back to step {fallback.step:,}"
    )
    return Finding("T311", str(error.path), f"{error.what}; {going_on}", severity="warning")


def _check_tensor(name: str, tensor: Tensor) -> None:
    if name == RESERVED_NAME or not isinstance(name, str):
        raise ValueError(f"a tensor of a checkpoint may not be called {name!r}")
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or not tensor.is_contiguous():
        raise ValueError(f"tensor {name} of a checkpoint must be contiguous and on the CPU")
    if tensor.dtype not in DTYPE_NAMES:
        raise ValueError(f"tensor {name} of a checkpoint has numbers of format {tensor.dtype}")


def _check_plain(value: object, place: str) -> None:
    """Refuse what JSON would not give back as it was."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{place} has a key that is not text: {key!r}")
            _check_plain(inner, f"{place}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _check_plain(inner, f"{place}[{index}]")
    elif value is not None and not isinstance(value, (bool, int, float, str)):
        raise ValueError(f"{place} is a {type(value).__name__}, which JSON does not know")
