"""One training as several processes of this machine; called by `manylabel train --processes N` and by cli/main.py.

`launch` is the parent: it starts torchrun's own launcher and turns what comes back into one exit code and at most one
message. `Member` is what each process is told by its environment, by `launch` or by torchrun itself.

Who speaks: rank 0, for everything that concerns all. When a process dies, the parent does, and rank 0 is silent.
Who stops whom: the parent passes a wish to stop on as SIGINT, which a training ends in good order; torchrun's launcher
ends the others with SIGTERM when one has died, and then there is nothing to save that is not in a checkpoint.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from manylabel.errors import Finding, TrainingError, UsageError

MAX_PROCESSES = 256
LAUNCHER = "MANYLABEL_LAUNCHER"
"""Environment variable for the processes of `launch`: its process id, a colon, the folder for their exit codes."""
GRACE_SECONDS = "60"
"""How long processes may take to write a checkpoint after a wish to stop, before they are killed."""
SPEAK_FIRST_SECONDS = 15.0
"""How long a failed process waits for rank 0, which most often fails with the same error and is to report it."""
FAILED, INTERRUPTED = 1, 130
UNSAID = 3
"""Exit code of a process that ends because another did and leaves it to `launch` to say so."""
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def launch(arguments: Sequence[str], *, num_processes: int, debug: bool = False) -> int:
    """Run Python with `arguments` (`-m manylabel train ...`) in `num_processes` processes; returns their exit code.

    Each process gets its share of the cores as OMP_NUM_THREADS unless that is set. SIGINT, SIGTERM or SIGHUP stop
    all in good order, a second one at once. Raises TrainingError when a process died or failed where rank 0 did not,
    KeyboardInterrupt when they were stopped before rank 0 could say so, UsageError inside another launcher.
    """
    if "RANK" in os.environ:
        raise UsageError(
            Finding("U232", "--processes", "RANK is set, so another launcher started this process",
                    next_step="leave out --processes under torchrun, or unset RANK")
        )  # fmt: skip
    # Where the working folder is no place for modules in this process, it is none in those.
    entry = arguments if sys.path[0] in {"", os.getcwd()} else ["-P", *arguments]
    with TemporaryDirectory(prefix="manylabel-") as folder:
        _prepare_environment(Path(folder), num_processes)
        return _run(entry, Path(folder), num_processes, debug=debug)


def _prepare_environment(folder: Path, num_processes: int) -> None:
    """What the processes inherit."""
    (folder / "codes").mkdir()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ[LAUNCHER] = f"{os.getpid()}:{folder / 'codes'}"
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // num_processes)))
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", GRACE_SECONDS)
    if Path("/sys/class/net/lo").exists():
        # gloo would look up the machine's own name, which an offline machine may not know.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")


def _run(entry: Sequence[str], folder: Path, num_processes: int, *, debug: bool) -> int:
    if not debug:
        _silence_torch()
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        run_id=folder.name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(str(folder / "logs"), local_ranks_filter=None if debug else {0}),
        signals_to_handle="SIGQUIT",  # The others are handled by `_raising`.
    )
    try:
        with _raising(lambda: SignalException("asked to stop", signal.SIGINT)):
            # The launcher would replace ${local_rank} in them.
            elastic_launch(config, sys.executable)(*(argument.replace("$", "$$") for argument in entry))
    except ChildFailedError as error:
        died = {rank: failure.exitcode for rank, failure in error.failures.items()}
        return settle(died, _codes(folder / "codes"))
    except SignalException:
        code = _codes(folder / "codes").get(0, UNSAID)
        if code == UNSAID:
            raise KeyboardInterrupt from None
        return code
    return 0


def _silence_torch() -> None:
    """Print nothing of what torchrun's launcher logs; its modules set levels, so lines are stopped on the way up."""
    import torch  # noqa: F401 - it gives this logger the handler that is replaced here

    logger = logging.getLogger("torch.distributed")
    logger.handlers[:] = [logging.NullHandler()]
    logger.propagate = False


@contextmanager
def _raising(error: Callable[[], Exception]) -> Iterator[None]:
    """Within the block SIGINT, SIGTERM and SIGHUP raise `error()` in the main thread.

    torchrun's launcher answers the first by sending its signal to every process and waiting, the second by SIGTERM.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise error()

    names = ("SIGINT", "SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    # Under nohup SIGHUP is ignored, and stays so.
    numbers = [
        number
        for number in numbers
        if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN
    ]
    previous = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _codes(folder: Path) -> dict[int, int]:
    """The exit code of each rank that came to its end by itself."""
    return {
        int(path.name): int(path.read_text("ascii")) for path in folder.iterdir() if path.name.isdecimal()
    }


def settle(died: Mapping[int, int], codes: Mapping[int, int]) -> int:
    """The exit code of the whole.

    `died` has the ranks that the launcher saw failing, first one first, with exit code or minus the signal; `codes`
    what processes said themselves. Raises TrainingError with the cause where rank 0 did not print it.
    """
    if codes.get(0, 0) not in {0, UNSAID}:
        return codes[0]
    causes = {rank: codes.get(rank, code) for rank, code in died.items()}
    # The ones that ended because another had, and the launcher's own SIGTERM, explain nothing.
    telling = [rank for rank, code in causes.items() if code < 0 and code != -signal.SIGTERM]
    telling += [rank for rank, code in causes.items() if code > 0 and code != UNSAID]
    rank = next(iter([*telling, *causes]))
    raise TrainingError(_what_ended(rank, causes[rank]))


def _what_ended(rank: int, code: int) -> Finding:
    if code >= 0:
        found = f"the process of rank {rank} ended with exit code {code}, so all were ended"
        return Finding("T322", "training", found, next_step="add --debug to see its own message")
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = "look at the free memory, then " if name == "SIGKILL" else ""
    found = f"the process of rank {rank} was ended by {name}, so all were ended"
    step = f"{hint}run the same command again to go on from the last checkpoint"
    return Finding("T322", "training", found, next_step=step)


@dataclass(frozen=True)
class Member:
    """This process as one of several that run the same command; `codes` is where `launch` looks for exit codes."""

    rank: int
    codes: Path | None
    parent: int | None

    @classmethod
    def from_environment(cls) -> Member | None:
        """What RANK says, set by `launch` or torchrun; None for a process on its own."""
        rank = os.environ.get("RANK", "")
        if not rank.isdecimal():
            return None
        parent, _, codes = os.environ.get(LAUNCHER, "").partition(":")
        return cls(int(rank), Path(codes) if codes else None, int(parent) if codes else None)

    @property
    def is_main(self) -> bool:
        """Whether this process talks to the user and writes files."""
        return self.rank == 0

    def begin(self, *, debug: bool) -> None:
        """Be silent unless this is rank 0 (`debug` keeps standard error), and never outlive `launch`."""
        if not self.is_main:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for stream in (1,) if debug else (1, 2):
                os.dup2(nowhere, stream)
        if self.parent is None:
            return
        # A shell may have started all this in the background, with SIGINT ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != self.parent:
                os._exit(FAILED)

    def end_with_the_others(self) -> None:
        """From now on SIGTERM from `launch` ends this process at once: another has died, nothing can be finished."""
        if self.parent is not None:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def unsaid(self, error: Exception) -> int | None:
        """The exit code for an error that `launch` explains better: it knows which process ended, and how."""
        if self.codes is None or not isinstance(error, TrainingError):
            return None
        from manylabel.training.processes import PEER_ENDED

        return UNSAID if error.findings[0].code == PEER_ENDED else None

    def end(self, code: int) -> None:
        """Tell `launch` how this process ends, and let rank 0 come to its end first unless all is well."""
        if self.codes is not None:
            with suppress(OSError):
                part = self.codes / f"{self.rank}.part"
                part.write_text(str(code), "ascii")
                part.rename(self.codes / str(self.rank))
        if self.is_main or code == 0 or (code == INTERRUPTED and self.codes is None):
            return
        # An interrupted rank 0 may be saving; had it died, SIGTERM would end this process.
        limit = float("inf") if code == INTERRUPTED else time.monotonic() + SPEAK_FIRST_SECONDS
        while time.monotonic() < limit and not (self.codes is not None and (self.codes / "0").exists()):
            time.sleep(0.05)
