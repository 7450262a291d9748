"""What a training will take, said before its first step; called by recipes/train.py."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from manylabel.errors import counted

GIB = 1 << 30
COPIES_IN_MEMORY = 10
"""fp32 numbers a parameter: weight, gradient, two moments and the best so far, the latter four again in a checkpoint on
its way, and one while a better one is kept."""
PROCESS_BYTES = 700 << 20
"""Interpreter, PyTorch and what glibc keeps. With it the estimate is 2.2 and 7.4 GiB where the default encoder and
BERT-base took 2.8 and 6.9 GB (benchmarks/train_speed.py, Jigsaw's lengths); the texts themselves come on top."""
VALUES_PER_TOKEN = 34
"""Roughly how many values of hidden width a layer keeps a token for the way back, gradients that live then included."""


@dataclass(frozen=True)
class Estimate:
    """Seconds of all steps and of one token in them, bytes of memory, and bytes on disk of one checkpoint."""

    seconds: float
    seconds_per_token: float
    memory_bytes: int
    checkpoint_bytes: int

    def sentence(self) -> str:
        """`about 17 minutes, 2.1 GiB of memory`."""
        return f"about {duration(self.seconds)}, {self.memory_bytes / GIB:.1f} GiB of memory"


def memory_needed(
    num_parameters: int, *, tokens: int, width: int, num_layers: int, dtype: torch.dtype
) -> int:
    """Bytes: weights with all that training keeps beside them, and what `tokens` tokens in one pass leave behind."""
    weights = num_parameters * (4 * COPIES_IN_MEMORY + (2 if dtype != torch.float32 else 0))
    return PROCESS_BYTES + weights + tokens * width * num_layers * VALUES_PER_TOKEN * dtype.itemsize


def free_memory() -> int | None:
    """Bytes of memory that programs may still take; None where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def duration(seconds: float) -> str:
    """`40 seconds`, `17 minutes` or `3.2 hours`."""
    if seconds < 90:
        return counted(round(max(seconds, 1)), "second")
    minutes = seconds / 60
    return f"{minutes:.0f} minutes" if minutes < 90 else f"{minutes / 60:.1f} hours"
