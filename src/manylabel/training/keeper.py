"""When a checkpoint is due and where it goes; called by the loop, made by recipes/train.py."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Protocol

from manylabel.config.schema import CheckpointSettings
from manylabel.errors import TrainingError
from manylabel.training.checkpoints import BackgroundWriter, Checkpoint, CheckpointStore


class Keeper(Protocol):
    """Takes the checkpoints of a run."""

    def is_due(self, step: int) -> bool:
        """Whether a checkpoint is wanted after this step."""
        ...

    def keep(self, make: Callable[[], Checkpoint], *, wait: bool) -> None:
        """Write what `make` gives, in the background unless `wait`.

        Raises TrainingError when it failed, or when the one before did and nobody waits for this one.
        """
        ...


class NoKeeper:
    """Keeps nothing."""

    def is_due(self, step: int) -> bool:
        """Never."""
        return False

    def keep(self, make: Callable[[], Checkpoint], *, wait: bool) -> None:
        """Not even make it."""


class CheckpointKeeper:
    """Checkpoints by the clock or by steps, written while training goes on."""

    def __init__(self, store: CheckpointStore, settings: CheckpointSettings) -> None:
        """The clock starts now."""
        self._writer = BackgroundWriter(store)
        self._settings = settings
        self._last = time.monotonic()

    def is_due(self, step: int) -> bool:
        """After `minutes` since the last one, or every `steps`."""
        minutes, steps = self._settings.minutes, self._settings.steps
        by_clock = minutes > 0 and time.monotonic() - self._last >= minutes * 60
        return by_clock or (steps > 0 and step % steps == 0)

    def keep(self, make: Callable[[], Checkpoint], *, wait: bool) -> None:
        """Hand it to the writer, after the one before was written: at most one copy of the weights is on its way.

        When a run ends here (`wait`), an earlier failure does not count: the disk may have room again.
        """
        with suppress(TrainingError) if wait else nullcontext():
            self._writer.wait()
        self._writer.submit(make())
        if wait:
            self._writer.wait()
        self._last = time.monotonic()

    def close(self) -> None:
        """Wait for what is being written; raises TrainingError when it failed."""
        self._writer.close()
