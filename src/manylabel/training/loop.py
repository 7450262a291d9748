"""THE training loop; called by recipes/train.py.

Knows batches, gradients and when to stop; what is minimised is an `Objective`, what counts as better is the
`validate` function it is given.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from manylabel.config.schema import TrainingSettings
from manylabel.modeling.classifier import Classifier
from manylabel.modeling.packed import to_device
from manylabel.modeling.precision import autocast, resolve_precision
from manylabel.text.buckets import epoch_batches, split_batch
from manylabel.text.pack import pack
from manylabel.training.allocator import keeping_freed_memory
from manylabel.training.objectives import Objective
from manylabel.training.observers import Observer, Step, Validated
from manylabel.training.optimizer import build_optimizer, set_rate
from manylabel.training.schedule import linear_warmup_decay
from manylabel.values import Encodings

Ending = Literal["finished", "stopped early", "interrupted", "non-finite loss"]
Weights = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What is learned from: encodings of N texts, their targets (-1 not annotated) and ids for messages."""

    encodings: Encodings
    targets_NL: npt.NDArray[np.integer]
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Rates:
    """Peak learning rates of the two parts."""

    encoder: float
    head: float


@dataclass(frozen=True)
class Outcome:
    """How training ended; the classifier then holds the best weights seen by validation (or the last good ones)."""

    ending: Ending
    steps: int
    best_step: int
    best_score: float | None
    seconds: float
    tokens: int
    ids_at_fault: tuple[str, ...] = ()


class NonFiniteError(ArithmeticError):
    """The loss or gradient of a batch is not a number; the weights are still those from before it."""

    def __init__(self, ids: tuple[str, ...]) -> None:
        """Name the texts by id."""
        super().__init__("loss or gradient is not finite")
        self.ids = ids


class _Best:
    """The best validation so far and the weights it was made with; before any validation, the initial weights."""

    def __init__(self, classifier: Classifier) -> None:
        self.score: float | None = None
        self.step = 0
        self.validations_since = 0
        self.was_validated = False
        self.weights = _copy_of(classifier)

    def offer(self, score: float | None, step: int, classifier: Classifier) -> bool:
        """Keep these weights if they are better, or if nothing can be judged; never if their logits are not finite."""
        if score is not None and math.isnan(score):
            better = False
        else:
            better = not self.was_validated or score is None or self.score is None or score > self.score
        if better:
            self.was_validated = True
            self.score, self.step, self.validations_since = score, step, 0
            self.weights = _copy_of(classifier)
        else:
            self.validations_since += 1
        return better


def _copy_of(classifier: Classifier) -> Weights:
    return {name: tensor.detach().clone() for name, tensor in classifier.state_dict().items()}


class Trainer:
    """One run: `fit` goes through the epochs, `_step` through one batch."""

    def __init__(
        self,
        classifier: Classifier,
        data: TrainingData,
        *,
        objective: Objective,
        settings: TrainingSettings,
        rates: Rates,
        observer: Observer,
        should_stop: Callable[[], bool],
    ) -> None:
        """Prepare optimizer and precision on the device the classifier is on."""
        self._classifier, self._data, self._objective = classifier, data, objective
        self._settings, self._observer, self._should_stop = settings, observer, should_stop
        self._device = next(classifier.parameters()).device
        self._dtype = resolve_precision(settings.precision, self._device)
        self._optimizer = build_optimizer(
            classifier.encoder,
            classifier.head,
            learning_rate=rates.encoder,
            head_learning_rate=rates.head,
            weight_decay=settings.weight_decay,
        )
        self._steps_per_epoch = -(-len(data.encodings) // settings.batch_size)
        self._num_steps = self._steps_per_epoch * settings.epochs

    def fit(self, validate: Callable[[], float | None]) -> Outcome:
        """Train for all epochs or until stopped; afterwards the classifier holds the best weights.

        `validate` returns the macro average precision on the validation rows, None where it is undefined and NaN
        where the logits are not finite; such weights are never kept.
        """
        torch.manual_seed(self._settings.seed)
        with keeping_freed_memory() if self._device.type == "cpu" else nullcontext():
            return self._run(validate)

    def _run(self, validate: Callable[[], float | None]) -> Outcome:
        """Every epoch, step and validation."""
        began, tokens, done = time.monotonic(), 0, 0
        best = _Best(self._classifier)
        ending: Ending = "finished"
        ids_at_fault: tuple[str, ...] = ()
        self._classifier.train()
        for epoch, step, indices in self._schedule():
            try:
                tokens += self._step(indices, step=step, epoch=epoch)
            except NonFiniteError as error:
                ending, ids_at_fault = "non-finite loss", error.ids
                break
            done = step
            if self._should_stop():
                ending = "interrupted"
                break
            if self._is_validation(step):
                self._validate(validate, best, step)
                if 0 < self._settings.patience <= best.validations_since:
                    ending = "stopped early"
                    break
        if ending in {"interrupted", "non-finite loss"} and best.step != done:
            self._validate(validate, best, done)
        self._classifier.load_state_dict(best.weights)
        self._classifier.eval()
        seconds = time.monotonic() - began
        return Outcome(ending, done, best.step, best.score, seconds, tokens, ids_at_fault)

    def _schedule(self) -> Iterator[tuple[int, int, npt.NDArray[np.int64]]]:
        """(epoch from 0, step from 1, text indices) of every batch of the run."""
        settings, step = self._settings, 0
        for epoch in range(settings.epochs):
            for indices in epoch_batches(
                len(self._data.encodings), batch_size=settings.batch_size, seed=settings.seed, epoch=epoch
            ):
                step += 1
                yield epoch, step, indices

    def _step(self, indices: npt.NDArray[np.int64], *, step: int, epoch: int) -> int:
        """One optimizer step over one batch, in micro-batches that add up to its exact gradient."""
        began = time.monotonic()
        multiplier = linear_warmup_decay(step - 1, num_steps=self._num_steps, warmup=self._settings.warmup)
        set_rate(self._optimizer, multiplier)
        self._optimizer.zero_grad(set_to_none=True)
        count = max(self._objective.count(torch.from_numpy(self._data.targets_NL[indices])), 1)
        lengths_N, loss = self._data.encodings.lengths_N, 0.0
        for part in split_batch(indices, lengths_N, self._settings.token_budget):
            loss += self._backward(part, count)
        norm = torch.nn.utils.clip_grad_norm_(self._classifier.parameters(), self._settings.clip_norm)
        if not torch.isfinite(norm):
            raise NonFiniteError(tuple(self._data.ids[i] for i in indices))
        self._optimizer.step()
        tokens = int(lengths_N[indices].sum())
        rate = multiplier * float(self._optimizer.param_groups[0]["peak"])
        seconds = time.monotonic() - began
        self._observer.step(
            Step(step, self._num_steps, epoch, loss, float(norm), rate, len(indices), tokens, seconds)
        )
        return tokens

    def _backward(self, indices: npt.NDArray[np.int64], count: int) -> float:
        """Add the gradient of one micro-batch; its share of the batch's mean loss."""
        batch = to_device(pack(self._data.encodings, indices), self._device)
        targets_BL = torch.from_numpy(self._data.targets_NL[indices]).to(self._device)
        with autocast(self._dtype, self._device):
            logits_BL = self._classifier(batch)
        loss = self._objective.summed_loss(logits_BL, targets_BL) / count
        value = float(loss.detach())
        if not np.isfinite(value):
            finite_B = torch.isfinite(logits_BL.detach()).all(dim=1).cpu().numpy()
            at_fault = indices[~finite_B] if not finite_B.all() else indices
            raise NonFiniteError(tuple(self._data.ids[i] for i in at_fault))
        loss.backward()  # type: ignore[no-untyped-call]
        return value

    def _is_validation(self, step: int) -> bool:
        """Whether validation is due: `validations_per_epoch` times an epoch, always at its end."""
        position = (step - 1) % self._steps_per_epoch + 1
        every = max(self._steps_per_epoch // self._settings.validations_per_epoch, 1)
        return position == self._steps_per_epoch or (
            position % every == 0 and self._steps_per_epoch - position >= every
        )

    def _validate(self, validate: Callable[[], float | None], best: _Best, step: int) -> None:
        self._classifier.eval()
        score = validate()
        better = best.offer(score, step, self._classifier)
        shown = None if score is not None and math.isnan(score) else score
        self._observer.validated(Validated(step, step / self._steps_per_epoch, shown, better))
        self._classifier.train()
