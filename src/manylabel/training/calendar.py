"""Which examples a step of a run sees, at which rate it learns and when validation is due; asked by the loop.

Steps count from 1, epochs from 0. All of it is a function of the settings and the step.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from manylabel.config.schema import TrainingSettings
from manylabel.text.buckets import epoch_batches
from manylabel.training.examples import Epoch, Examples
from manylabel.training.schedule import rate_multiplier

Indices = npt.NDArray[np.int64]


class Calendar:
    """The steps of a run over some examples."""

    def __init__(self, examples: Examples, settings: TrainingSettings) -> None:
        self._examples, self._settings = examples, settings
        self.steps_per_epoch = -(-len(examples) // settings.batch_size)
        self.num_steps = self.steps_per_epoch * settings.epochs
        self._shown: tuple[int, Epoch, list[Indices]] | None = None

    def epoch(self, step: int) -> int:
        """The epoch of a step."""
        return (step - 1) // self.steps_per_epoch

    def is_validation(self, step: int) -> bool:
        """Whether validation is due after it: `validations_per_epoch` times an epoch, always at its end."""
        position = (step - 1) % self.steps_per_epoch + 1
        every = max(self.steps_per_epoch // self._settings.validations_per_epoch, 1)
        return position == self.steps_per_epoch or (
            position % every == 0 and self.steps_per_epoch - position >= every
        )

    def rate_multiplier(self, step: int) -> float:
        """What the peak rates are multiplied by in a step."""
        settings = self._settings
        return rate_multiplier(settings.schedule, step - 1, num_steps=self.num_steps, warmup=settings.warmup)

    def batch(self, step: int) -> tuple[Indices, Epoch]:
        """The examples of a step, of all processes, and the epoch they belong to."""
        epoch, settings = self.epoch(step), self._settings
        if self._shown is None or self._shown[0] != epoch:
            num, size, seed = len(self._examples), settings.batch_size, settings.seed
            batches = epoch_batches(num, batch_size=size, seed=seed, epoch=epoch)
            self._shown = (epoch, self._examples.epoch(epoch), batches)
        return self._shown[2][(step - 1) % self.steps_per_epoch], self._shown[1]
