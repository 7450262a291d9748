"""Several processes as one training: who this one is, sums over all of them; called by the loop and recipes/train.py.

Only tensors travel, by all-reduce: no object of Python is ever sent, so nothing is unpickled. CPU tensors go through
gloo, CUDA tensors through nccl; flags are CPU tensors, so that they never wait for the GPU.

Letters: n rows of this process, N rows of all, L labels.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch import distributed as group

from manylabel.errors import Finding, TrainingError, UsageError
from manylabel.modeling.precision import choose_device

Indices = npt.NDArray[np.int64]

TIMEOUT = timedelta(minutes=30)
"""How long a process waits for another that lives; gloo's own default. A dead one is noticed at once."""
PEER_ENDED = "T320"
NOT_FOUND = "T321"


@dataclass(frozen=True)
class Processes:
    """This process among `size` ones that train one model; `rank` is from 0 to size - 1, rank 0 writes and speaks.

    Every method that sums or waits must be called by all processes, in the same order. Raises TrainingError when
    another process has ended.
    """

    rank: int
    size: int
    device: torch.device

    @classmethod
    def alone(cls) -> Self:
        """One process on the first CUDA device, else the CPU."""
        return cls(0, 1, choose_device())

    @classmethod
    def from_environment(cls) -> Self:
        """The place that torchrun gave this process (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT).

        Alone where RANK is not set. Returns when all processes have joined. Raises UsageError where a variable is
        missing or there are fewer GPUs than processes, TrainingError where the processes do not find each other.
        """
        if "RANK" not in os.environ:
            return cls.alone()
        rank, size, local_rank = (_number(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        device = _device(local_rank)
        if size > 1:
            _join(device)
        return cls(rank, size, device)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and talks to the user."""
        return self.rank == 0

    def __enter__(self) -> Self:
        """Use as a context manager; the processes part at the end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the group; after an error the others then fail at their next sum instead of waiting for this one."""
        # nccl may wait for the others when a group ends, while rank 0 works on alone or after an error; there the
        # end of the process does it.
        waits = self.device.type == "cuda" and (error is not None or not self.is_main)
        if self.size > 1 and group.is_initialized() and not waits:
            group.destroy_process_group()

    def sum_(self, tensor: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Replace `tensor` by its sum over all processes, bit-equal on all of them; also returned.

        With `dtype` the values travel and are added in that format, for example bfloat16: half the bytes, about
        three significant digits. Alone nothing happens, whatever `dtype`.
        """
        if self.size == 1:
            return tensor
        with _ending_with_peers():
            if dtype is None or dtype == tensor.dtype:
                group.all_reduce(tensor)
            else:
                sent = tensor.to(dtype)
                group.all_reduce(sent)
                tensor.copy_(sent)
        return tensor

    def copy_from_first_(self, tensor: Tensor) -> None:
        """Replace `tensor` by that of rank 0, so that all processes begin with the same bits."""
        if self.size > 1:
            if not self.is_main:
                tensor.zero_()
            self.sum_(tensor)

    def sum_float(self, value: float) -> float:
        """The sum of one number over all processes, in fp64; whole numbers are exact up to 2^53."""
        return float(self.sum_(torch.tensor(value, dtype=torch.float64)))

    def any(self, flag: bool) -> bool:
        """Whether any process says yes: a signal that reached one stops all at the same step."""
        return self.sum_float(float(flag)) > 0 if self.size > 1 else flag

    def barrier(self) -> None:
        """Wait until all processes are here, for example until rank 0 has written a file."""
        self.sum_float(0.0)

    def share_rows(self, num_rows: int) -> Indices:
        """Which of `num_rows` rows this process works on: every size-th, so that sorted files are shared fairly."""
        return np.arange(self.rank, num_rows, self.size, dtype=np.int64)

    def gather_rows(
        self, values_nL: npt.NDArray[np.floating], num_rows: int, indices: Indices
    ) -> npt.NDArray[np.float32]:
        """The values of all rows, as float32 of shape (num_rows, labels), on every process.

        `indices` (n) says which rows this process brings; each row must be brought by exactly one process. The
        values arrive bit-equal, NaN and infinity too.
        """
        values_NL = np.zeros((num_rows, values_nL.shape[1]), np.float32)
        values_NL[indices] = values_nL
        self.sum_(torch.from_numpy(values_NL))
        return values_NL


@contextmanager
def _ending_with_peers() -> Iterator[None]:
    """A collective operation that fails means that another process is gone."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise TrainingError(
            Finding(PEER_ENDED, "training", "another process of this training ended",
                    next_step="look for its message; run the same command again to go on from the last checkpoint")
        ) from error  # fmt: skip


def _number(name: str) -> int:
    value = os.environ.get(name, "")
    if not value.isdecimal():
        raise UsageError(
            Finding("U230", f"environment variable {name}", f'"{value}" although RANK is set', "a whole number",
                    "start with torchrun or --processes, or unset RANK")
        )  # fmt: skip
    return int(value)


def _device(local_rank: int) -> torch.device:
    """The GPU of this process, else the CPU; makes it the current one."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    # All processes of a machine refuse together, so that rank 0 can say why.
    wanted = max(local_rank + 1, _number("LOCAL_WORLD_SIZE") if "LOCAL_WORLD_SIZE" in os.environ else 1)
    existing = torch.cuda.device_count()
    if wanted > existing:
        raise UsageError(
            Finding("U231", "number of processes", f"{wanted} on a machine with {existing} GPUs", f"1 to {existing}")
        )  # fmt: skip
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _join(device: torch.device) -> None:
    """Meet the other processes at MASTER_ADDR:MASTER_PORT."""
    place = f"{os.environ.get('MASTER_ADDR', '')}:{_number('MASTER_PORT')}"
    try:
        group.init_process_group("gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl", timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            Finding(NOT_FOUND, "training", f"the processes did not find each other at {place}",
                    next_step="check that all of them run and that the address can be reached, then start again")
        ) from error  # fmt: skip
