"""What Ctrl-C does to a training: before the first step it ends at once, later in good order, twice at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from manylabel.training.observers import Step, Validated

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
MESSAGE = b"\nEnding the training and saving its state; once more to stop at once without saving.\n"


class StopRequest:
    """Whether a training was asked to stop; an observer, so that it knows when there is something to save."""

    def __init__(self) -> None:
        """Nobody asked, and nothing is trained yet."""
        self._asked = False
        self._armed = False

    def __call__(self) -> bool:
        """Whether to stop after this step."""
        return self._asked

    def stage(self, text: str) -> None:
        """Once something else than steps goes on, nobody asks any more: an interruption ends it at once."""
        self._armed = False

    def step(self, step: Step) -> None:
        """From the first step on a stopped training is worth saving."""
        self._armed = True

    def validated(self, result: Validated) -> None:
        """Ignore."""

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal; raises KeyboardInterrupt before the first step and the second time."""
        if self._asked or not self._armed:
            raise KeyboardInterrupt
        self._asked = True
        # Unbuffered: the signal may come in the middle of a write, and the terminal may be gone.
        with suppress(OSError, ValueError):
            os.write(sys.stderr.fileno(), MESSAGE)


@contextmanager
def stop_on_interrupt() -> Iterator[StopRequest]:
    """What says whether SIGINT, SIGTERM or SIGHUP asked to stop; let it observe the run."""
    request = StopRequest()
    # Under nohup SIGHUP is ignored, and stays so.
    numbers = [
        number
        for number in SIGNALS
        if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN
    ]
    previous = {number: signal.signal(number, request.ask) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
