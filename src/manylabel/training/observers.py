"""Who watches a run: the terminal, a JSON-lines log, nobody. Called by recipes and the loop."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from manylabel.terminal import Terminal, printable


@dataclass(frozen=True)
class Step:
    """One optimizer step: `loss` in nats per annotated cell, `rate` of the encoder, tokens in the batch."""

    step: int
    num_steps: int
    epoch: int
    loss: float
    gradient_norm: float
    rate: float
    num_texts: int
    num_tokens: int
    seconds: float


@dataclass(frozen=True)
class Validated:
    """One validation: macro average precision (None where no label can be judged), and whether it is the best."""

    step: int
    epoch: float
    macro_average_precision: float | None
    best: bool


class Observer(Protocol):
    """What recipes and the loop tell while they work."""

    def stage(self, text: str) -> None:
        """A new part of the work begins, or a fact worth a line."""
        ...

    def step(self, step: Step) -> None:
        """An optimizer step was made."""
        ...

    def validated(self, result: Validated) -> None:
        """The validation rows were scored."""
        ...


SMOOTHING = 0.05
"""How much the newest step counts in what is shown."""


class SilentObserver:
    """Says nothing; the default of the Python interface inside programs."""

    def stage(self, text: str) -> None:
        """Ignore."""

    def step(self, step: Step) -> None:
        """Ignore."""

    def validated(self, result: Validated) -> None:
        """Ignore."""


class ConsoleObserver:
    """A line a stage on standard error, and while training a bar with loss, tokens/s and time left.

    Where standard error is not a terminal, ten plain lines an epoch at most. When it is gone (a closed pipe or
    terminal), the run goes on in silence.
    """

    def __init__(self, console: Console | None = None) -> None:
        """Write to `console`, standard error by default."""
        self._console = console or Terminal(stderr=True)
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._seen = 0
        self._loss = self._tokens = self._seconds = 0.0

    def stage(self, text: str) -> None:
        """Print one line; a running bar ends."""
        with self._silent_when_gone():
            self._end_bar()
            self._console.print(printable(text))

    def step(self, step: Step) -> None:
        """Move the bar; loss and tokens/s are means of the steps seen, smoothed over about 20 of them later on."""
        # The first step seen is the 1,000th where a run goes on.
        self._seen = 1 if step.step == 1 else self._seen + 1
        weight = max(1 / self._seen, SMOOTHING)
        self._loss += weight * (step.loss - self._loss)
        self._tokens += weight * (step.num_tokens - self._tokens)
        self._seconds += weight * (step.seconds - self._seconds)
        rate = self._tokens / max(self._seconds, 1e-9)
        with self._silent_when_gone():
            self._show_step(step, f"epoch {step.epoch + 1}  loss {self._loss:.4f}  {rate:,.0f} tokens/s")

    def validated(self, result: Validated) -> None:
        """Print the score of the validation rows."""
        score = result.macro_average_precision
        text = "cannot be judged" if score is None else f"macro average precision {score:.4f}"
        best = "  (best so far)" if result.best else ""
        with self._silent_when_gone():
            self._console.print(f"  epoch {result.epoch:.2f}  validation {text}{best}")

    @contextmanager
    def _silent_when_gone(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self._console.quiet = True

    def _show_step(self, step: Step, status: str) -> None:
        if not self._console.is_terminal:
            every = max(step.num_steps // 10, 1)
            if step.step % every == 0 or step.step == step.num_steps:
                self._console.print(f"  step {step.step}/{step.num_steps}  {status}")
            return
        if self._progress is None:
            self._begin_bar(step.num_steps)
        assert self._progress is not None
        assert self._task is not None
        self._progress.update(self._task, completed=step.step, status=status)
        if step.step == step.num_steps:
            self._end_bar()

    def _begin_bar(self, num_steps: int) -> None:
        self._progress = Progress(
            TextColumn("  training"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed}/{task.total}  {task.fields[status]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._progress.start()
        self._task = self._progress.add_task("training", total=num_steps, status="")

    def _end_bar(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class JsonLinesLog:
    """Everything as one JSON object a line; the file is written as the run goes, so a killed run leaves its story.

    Each start of a run begins with a line `session` and its time (UTC); `after_seconds` counts from there. Epochs of
    steps count from 1, as on the terminal.

    The file is begun with the first training step, so a run that is refused before leaves an older log as it was; a run
    that goes on from a checkpoint adds to it.
    When it cannot be written (a full disk), that is said once and the run goes on without it.
    """

    def __init__(self, path: Path) -> None:
        """Log to `path`, replacing what is there once training begins."""
        self._path = path
        self._file: IO[str] | None = None
        self._waiting: list[str] = []
        self._gave_up = False
        self._began = time.monotonic()
        self._write("session", {"began": datetime.now(UTC).isoformat(timespec="seconds")})

    def __enter__(self) -> Self:
        """Use as a context manager; the file is closed at the end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._close()

    def stage(self, text: str) -> None:
        """Log a stage."""
        self._write("stage", {"text": text})

    def step(self, step: Step) -> None:
        """Log a step; the first one begins the file."""
        self._open("w" if step.step == 1 else "a")
        self._write("step", asdict(step) | {"epoch": step.epoch + 1})

    def validated(self, result: Validated) -> None:
        """Log a validation, which comes before any step where a run goes on after its last one."""
        self._open("a")
        self._write("validation", asdict(result))

    def _open(self, mode: Literal["w", "a"]) -> None:
        if self._file is None and not self._gave_up:
            try:
                self._file = self._path.open(mode, encoding="utf-8")
            except OSError as error:
                self._give_up(error)

    def _write(self, event: str, fields: dict[str, object]) -> None:
        if self._gave_up:
            return
        seconds = round(time.monotonic() - self._began, 3)
        self._waiting.append(json.dumps({"event": event, "after_seconds": seconds, **fields}) + "\n")
        if self._file is not None:
            try:
                self._file.writelines(self._waiting)
                self._file.flush()
            except OSError as error:
                self._give_up(error)
            self._waiting.clear()

    def _give_up(self, error: OSError) -> None:
        self._gave_up = True
        self._close()
        with suppress(OSError):
            sys.stderr.write(
                printable(f"note: the log {self._path} cannot be written ({error.strerror}); the run goes on")
                + "\n"
            )

    def _close(self) -> None:
        """Close the file; what a full disk did not take is lost."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None


class Observers:
    """Several observers as one."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        """Tell each of `observers` everything, in order."""
        self._observers = tuple(observers)

    def stage(self, text: str) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.stage(text)

    def step(self, step: Step) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.step(step)

    def validated(self, result: Validated) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.validated(result)
