"""THE training loop, in one process or many; called by recipes, for classifiers and for language models.

Knows batches, gradients and when to stop; what is learned from are `Examples`, what is minimised is an `Objective`, how
a micro-batch becomes a gradient is a `Pass`, what counts as better is the `validate` function it is given, where
checkpoints go is a `Keeper`'s business. Everything random is a function of the
seed, the step and the process, so a run that goes on from a checkpoint ends with the same weights as one that was never
stopped.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import JsonValue
from torch import Tensor

from manylabel.config.schema import TrainingSettings
from manylabel.errors import TrainingError
from manylabel.modeling.classifier import Classifier
from manylabel.modeling.encoder import PackedEncoder
from manylabel.modeling.packed import to_device
from manylabel.modeling.precision import autocast, resolve_precision
from manylabel.modeling.pretraining import TrainableModel
from manylabel.modeling.transfer import send
from manylabel.text.buckets import share_batch, split_batch
from manylabel.training.allocator import give_back_freed_memory, keeping_freed_memory
from manylabel.training.best import Best
from manylabel.training.calendar import Calendar
from manylabel.training.checkpoints import Checkpoint, required_bytes
from manylabel.training.examples import Epoch, Examples
from manylabel.training.keeper import Keeper, NoKeeper
from manylabel.training.objectives import Objective
from manylabel.training.observers import Observer, Step, Validated
from manylabel.training.optimizer import Rates, awake_groups, plan_groups
from manylabel.training.passes import Pass, PlainPass
from manylabel.training.preflight import Estimate, memory_needed
from manylabel.training.processes import Processes
from manylabel.training.readings import Guard, MadeStep, Reading, Scale, clipped
from manylabel.training.weights import Weights

Ending = Literal["finished", "stopped early", "interrupted", "non-finite loss"]
Indices = npt.NDArray[np.int64]

GRADIENT_FORMATS = {"none": None, "bf16": torch.bfloat16}
STEPS_BETWEEN_TRIMS = 50
WORD_TABLE = "encoder.embeddings.word.weight"


@dataclass(frozen=True)
class Outcome:
    """How training ended; the model then holds the best weights seen by validation (or the last good ones)."""

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


class StoppedInValidation(Exception):
    """Raised by `validate` when the run was asked to stop meanwhile."""


@dataclass
class _Progress:
    """How far the run is, apart from its weights."""

    step: int = 0
    validated: int = 0
    tokens: int = 0
    seconds_before: float = 0.0
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.began


class Trainer:
    """One run: `fit` goes through the steps, `_step` through one batch."""

    def __init__(
        self,
        model: TrainableModel,
        examples: Examples,
        *,
        objective: Objective,
        settings: TrainingSettings,
        rates: Rates,
        observer: Observer,
        should_stop: Callable[[], bool],
        processes: Processes | None = None,
    ) -> None:
        """Take over the model's weights, on the device they are on, until `fit` returns."""
        self._model, self._examples, self._objective = model, examples, objective
        self._settings, self._observer, self._should_stop = settings, observer, should_stop
        self._processes = processes or Processes.alone()
        self._device = next(model.parameters()).device
        self._dtype = resolve_precision(settings.precision, self._device)
        self._calendar = Calendar(examples, settings)
        if settings.gradient_checkpointing:
            model.encoder.recompute_layers()
        self._groups = plan_groups(model, settings, rates)
        self._peak = rates.encoder
        self._best = Best(model)
        table = self._sparse_table()
        self._reads_rows = table is not None
        self._weights = Weights(
            model,
            self._groups.groups,
            dtype=self._dtype,
            ema_decay=settings.ema_decay,
            sparse_table=table,
            num_steps=self._calendar.num_steps,
        )
        self._weights.copy_from(self._processes.copy_from_first_)
        self._progress = _Progress()
        self._pass: Pass = PlainPass()
        self._guard = Guard(self._device) if self._reads_late() else None
        self._made: deque[MadeStep] = deque()
        self._looked = 0.0

    def fit(
        self, validate: Callable[[], float | None], keeper: Keeper | None = None, a_pass: Pass | None = None
    ) -> Outcome:
        """Train to the end or until stopped; afterwards the model holds the best weights.

        `validate` returns a score of the validation rows, higher is better: None where it is undefined and NaN where
        the outputs are not finite; such weights are never kept. `a_pass` is a `PlainPass` by default.
        """
        keeper, self._pass = keeper or NoKeeper(), a_pass or self._pass
        self._progress.began = time.monotonic()
        self._model.train()
        with keeping_freed_memory() if self._device.type == "cpu" else nullcontext():
            ending, ids_at_fault = self._run(validate, keeper)
        seconds = self._progress.seconds
        self._weights.release()
        self._best.install(self._model)
        self._model.eval()
        best, progress = self._best, self._progress
        return Outcome(ending, progress.step, best.step, best.score, seconds, progress.tokens, ids_at_fault)

    def _run(self, validate: Callable[[], float | None], keeper: Keeper) -> tuple[Ending, tuple[str, ...]]:
        """Every step and validation that is left."""
        while True:
            try:
                ending = self._advance(validate, keeper)
            except NonFiniteError as error:
                if self._best.step != self._progress.step:
                    with suppress(StoppedInValidation):
                        self._validate(validate)
                return "non-finite loss", error.ids
            if ending is not None:
                return ending, ()

    def _advance(self, validate: Callable[[], float | None], keeper: Keeper) -> Ending | None:
        """Validate where it is due, then make a step; why the run is over, None while it goes on."""
        progress = self._progress
        with suppress(StoppedInValidation):
            if self._calendar.is_validation(progress.step) and progress.validated < progress.step:
                self._validate(validate)
            ending = self._natural_ending()
            if ending is not None:
                with suppress(TrainingError):  # A full disk must not take a model that is finished.
                    keeper.keep(self.checkpoint, wait=False)
                return ending
            self._step(progress.step + 1)
        should_stop = self._processes.any(self._should_stop())
        if should_stop or self._calendar.is_validation(progress.step):
            self._look_at_steps()
        if should_stop:
            keeper.keep(self.checkpoint, wait=True)
            self._processes.barrier()  # Only when the first process has saved may any of them end.
            return "interrupted"
        if keeper.is_due(progress.step) and self._is_finite():
            self._look_at_steps()
            keeper.keep(self.checkpoint, wait=False)
        return None

    def _sum_gradient(self, gradient: Tensor) -> None:
        """Add up over processes."""
        self._processes.sum_(gradient, dtype=GRADIENT_FORMATS[self._settings.gradient_compression])

    def _natural_ending(self) -> Ending | None:
        """Why the run is over after this step; None while it goes on."""
        if 0 < self._settings.patience <= self._best.validations_since:
            return "stopped early"
        return "finished" if self._progress.step == self._calendar.num_steps else None

    def _step(self, step: int) -> None:
        """One optimizer step over one batch, in micro-batches over all processes that add up to its exact gradient."""
        began, settings = time.monotonic(), self._settings
        indices, examples = self._calendar.batch(step)
        lengths_N = examples.lengths_N
        share = share_batch(indices, lengths_N, self._processes.size)[self._processes.rank]
        torch.manual_seed(_seed_of(settings.seed, step, self._processes.rank))
        counts = self._objective.counts(examples.targets(indices))
        parts = split_batch(share, lengths_N, settings.token_budget) if len(share) else []
        is_awake = awake_groups(self._groups, self._calendar.epoch(step), settings)
        self._weights.begin(self._tokens_of(examples, share), is_awake)
        sums = [self._backward(examples, part, counts) for part in parts]
        norm = self._weights.collect(self._sum_gradient if self._processes.size > 1 else None)
        loss = torch.as_tensor(sum(total for total, _ in sums), dtype=torch.float64, device=self._device)
        reading = Reading(self._processes.sum_(loss), norm)
        multiplier = self._calendar.rate_multiplier(step)
        told = Step(
            step,
            self._calendar.num_steps,
            self._calendar.epoch(step),
            math.nan,
            math.nan,
            self._peak * multiplier,
            len(indices),
            int(lengths_N[indices].sum()),
            math.nan,
        )
        made = MadeStep(told, began, indices, parts, [outputs for _, outputs in sums], reading)
        scale = self._scale(made, loss, norm)
        rates = [
            group.peak * multiplier * awake
            for group, awake in zip(self._groups.groups, is_awake, strict=True)
        ]
        self._weights.step(rates, scale)
        self._progress.step, self._progress.tokens = step, self._progress.tokens + told.num_tokens
        self._made.append(made)
        self._look_at_steps(but=0 if self._guard is None else 1)
        if self._device.type == "cpu" and step % STEPS_BETWEEN_TRIMS == 0:
            give_back_freed_memory()

    def _scale(self, made: MadeStep, loss: Tensor, norm: Tensor) -> Scale:
        """How the gradient is clipped; raises NonFiniteError where the step is looked at before it changes weights."""
        if self._guard is not None:
            return self._guard.clipped(loss, norm, self._settings.clip_norm)
        self._refuse_non_finite(made)
        return clipped(float(norm), self._settings.clip_norm)

    def _is_finite(self) -> bool:
        """Whether no step was left out that nobody has looked at; asked by one process, so it must not raise."""
        return all(math.isfinite(figure) for made in self._made for figure in made.reading.wait())

    def _look_at_steps(self, but: int = 0) -> None:
        """Tell of the steps made but for the last `but`; raises NonFiniteError where the guard left one out."""
        while len(self._made) > but:
            self._refuse_non_finite(self._made[0])
            made, now = self._made.popleft(), time.monotonic()
            began = max(made.began, self._looked)
            self._looked = now
            self._observer.step(made.with_figures(seconds=now - began))

    def _refuse_non_finite(self, made: MadeStep) -> None:
        """Raise NonFiniteError unless loss and norm are finite, with the run set back to before the step."""
        if all(map(math.isfinite, made.reading.wait())):
            return
        self._progress.step = made.told.step - 1
        self._progress.tokens -= sum(one.told.num_tokens for one in self._made)
        self._made.clear()
        at_fault = made.texts_at_fault(self._processes.sum_)
        raise NonFiniteError(tuple(self._examples.ids[i] for i in at_fault))

    def _backward(self, examples: Epoch, indices: Indices, counts: object) -> tuple[Tensor, Tensor]:
        """Add the gradient of one micro-batch; its share of the batch's mean loss, and its outputs."""
        batch = to_device(examples.batch(indices), self._device)
        targets = send(examples.targets(indices), self._device)
        with autocast(self._dtype, self._device):
            return self._pass.backward(self._model, batch, targets, objective=self._objective, counts=counts)

    def rehearse(self, a_pass: Pass | None = None) -> Estimate:
        """What the rest of the run will take, from one pass over a part of the next batch; changes nothing.

        `a_pass` is the one that `fit` will be given.
        """
        self._pass = a_pass or self._pass
        step = min(self._progress.step + 1, self._calendar.num_steps)
        indices, examples = self._calendar.batch(step)
        lengths_N = examples.lengths_N
        part = split_batch(indices, lengths_N, self._settings.token_budget)[0]
        self._model.train()
        seconds = math.inf
        for _ in range(2):  # The first pass also allocates.
            began = time.monotonic()
            # Without its token ids: bringing word rows up to date here would change when that is done in a step.
            self._weights.begin(
                torch.zeros(0, dtype=torch.int64),
                # As at the end: where layers wake one after the other, that is what memory must hold.
                awake_groups(self._groups, self._settings.epochs - 1, self._settings),
            )
            self._backward(examples, part, self._objective.counts(examples.targets(part)))[0].item()
            seconds = min(seconds, time.monotonic() - began)
        left = 1 - self._progress.step / self._calendar.num_steps
        tokens = int(lengths_N.sum()) * self._settings.epochs * left / self._processes.size
        encoder = self._model.encoder
        memory = memory_needed(
            sum(parameter.numel() for parameter in self._model.parameters()),
            tokens=int(lengths_N[part].sum()),
            width=encoder.hidden_size,
            num_layers=self._groups.num_layers,
            dtype=self._dtype,
        )
        pace = seconds / int(lengths_N[part].sum())
        return Estimate(pace * tokens, pace, memory, required_bytes(self._tensors()))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._device

    def checkpoint(self) -> Checkpoint:
        """All that `restore` needs, copied."""
        progress = self._progress
        copies = {name: value.to("cpu", copy=True) for name, value in self._tensors().items()}
        facts: dict[str, JsonValue] = {
            "validated": progress.validated,
            "tokens": progress.tokens,
            "seconds": progress.seconds,
            "best": self._best.facts(),
        }
        return Checkpoint(progress.step, copies, facts)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of the same run."""
        facts: Mapping[str, Any] = checkpoint.facts
        best = {name: value for name, value in checkpoint.tensors.items() if name.startswith("best.")}
        self._weights.restore(checkpoint.tensors)
        self._best.restore({name.removeprefix("best."): value for name, value in best.items()}, facts["best"])
        self._progress = _Progress(
            step=checkpoint.step,
            validated=facts["validated"],
            tokens=facts["tokens"],
            seconds_before=facts["seconds"],
        )

    def _tensors(self) -> dict[str, Tensor]:
        """The tensors of a checkpoint, not copied."""
        best = {f"best.{name}": value for name, value in self._best.tensors().items()}
        return {name: value.detach() for name, value in (self._weights.state() | best).items()}

    def _validate(self, validate: Callable[[], float | None]) -> None:
        step = self._progress.step
        self._model.eval()
        try:
            with self._weights.exposed():
                score = validate()
                better = self._best.offer(score, step, self._model)
        finally:
            self._model.train()
        self._progress.validated = step
        shown = None if score is not None and math.isnan(score) else score
        self._observer.validated(Validated(step, step / self._calendar.steps_per_epoch, shown, better))

    def _sparse_table(self) -> str | None:
        """The word embeddings, where updating only the rows of a batch pays and is possible.

        Not in a language model: its decoder is the same table, so every row has a gradient in every step.
        """
        model = self._model
        is_possible = (
            isinstance(model, Classifier)
            and isinstance(model.encoder, PackedEncoder)
            and model.encoder.embeddings.word.weight.requires_grad
        )
        alone = self._processes.size == 1 and not self._settings.ema_decay
        is_watched = self._device.type == "cpu" and not self._reads_late()  # A guard does not hold rows back.
        return WORD_TABLE if is_possible and alone and is_watched else None

    def _reads_late(self) -> bool:
        """Whether loss and norm of a step are read when the next one is queued (see `readings`)."""
        return self._device.type == "cuda"

    def _tokens_of(self, examples: Epoch, share: Indices) -> Tensor:
        """Token ids that the passes of this process will read, where the weights need to know."""
        if not self._reads_rows:
            return torch.zeros(0, dtype=torch.int64)
        return torch.from_numpy(examples.batch(share).ids_T).to(self._device)


def _seed_of(seed: int, step: int, rank: int) -> int:
    """Seed of the dropout of one step on one process."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1)
