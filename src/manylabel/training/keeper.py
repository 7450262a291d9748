"""When a checkpoint is due and where it goes; called by the loop, made by recipes/train.py."""

from __future__ import annotations

import time
from typing import Protocol

from manylabel.config.schema import CheckpointSettings
from manylabel.training.checkpoints import BackgroundWriter, Checkpoint, CheckpointStore


class Keeper(Protocol):
    """Takes the checkpoints of a run."""

    def is_due(self, step: int) -> bool:
        """Whether a checkpoint is wanted after this step."""
        ...

    def keep(self, checkpoint: Checkpoint, *, wait: bool) -> None:
        """Write it, in the background unless `wait`; raises TrainingError when it or the one before failed."""
        ...


class NoKeeper:
    """Keeps nothing."""

    def is_due(self, step: int) -> bool:
        """Never."""
        return False

    def keep(self, checkpoint: Checkpoint, *, wait: bool) -> None:
        """Forget it."""


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

    def keep(self, checkpoint: Checkpoint, *, wait: bool) -> None:
        """Hand it to the writer; waits for the one before, so that at most one copy of the weights is on its way."""
        self._writer.submit(checkpoint)
        if wait:
            self._writer.wait()
        self._last = time.monotonic()

    def close(self) -> None:
        """Wait for what is being written; raises TrainingError when it failed."""
        self._writer.close()
