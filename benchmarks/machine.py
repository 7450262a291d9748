"""What a measurement stands on: machine, versions, matrix rate, memory; used by the training benchmarks.

Rates are of matrix products at BERT-base's shapes, so "share of the matrix rate" means the same for every encoder.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("manylabel", "torch", "transformers", "accelerate", "tokenizers", "numpy")
BERT_SHAPES = ((768, 2304), (768, 768), (768, 3072), (3072, 768))
"""Inputs and outputs of the linear layers of one BERT-base layer, queries, keys and values as one product."""


@dataclass(frozen=True)
class Network:
    """The measures of a BERT-like encoder that decide its arithmetic."""

    width: int
    inner: int
    num_layers: int
    num_heads: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Network:
        """From a transformers config.json."""
        keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        return cls(*(config[key] for key in keys))

    @property
    def linear_parameters(self) -> int:
        """Weights of the linear layers of all layers, without embeddings, biases and head."""
        return self.num_layers * (4 * self.width**2 + 2 * self.width * self.inner)

    def training_flops(self, lengths: Any) -> float:
        """Floating-point operations of forward and backward over texts of `lengths` tokens, none of them padding.

        Forward: 2 a weight and token, and 4 D L^2 a layer for scores and weighted sum of a text of L tokens; backward
        twice as much. What an implementation leaves out or computes twice does not change this figure (as in MFU).
        """
        tokens, squares = float(lengths.sum()), float((lengths.astype(float) ** 2).sum())
        forward = 2 * self.linear_parameters * tokens + 4 * self.width * self.num_layers * squares
        return 3 * forward


def synchronise() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def matrix_rate(dtype: torch.dtype, *, num_tokens: int = 2048, repeats: int = 5) -> float:
    """Floating-point operations a second of the linear layers of one BERT-base layer, one after the other."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    flops = seconds = 0.0
    for inputs, outputs in BERT_SHAPES:
        tokens = torch.randn(num_tokens, inputs, device=device, dtype=dtype)
        weight = torch.randn(outputs, inputs, device=device, dtype=dtype)
        flops += 2.0 * num_tokens * inputs * outputs
        seconds += median_seconds(partial(functional.linear, tokens, weight), repeats)
    return flops / seconds


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """Of one call; on a GPU of one in 50, since a launch takes as long as a small product."""
    inner = 50 if torch.cuda.is_available() else 1
    times = []
    for _ in range(repeats + 2):
        synchronise()
        begin = time.perf_counter()
        for _ in range(inner):
            work()
        synchronise()
        times.append((time.perf_counter() - begin) / inner)
    return statistics.median(times[2:])


def peak_memory() -> int:
    """Bytes: the most this process held at once, on the GPU where there is one.

    Linux: VmHWM, which unlike getrusage's figure does not begin with the parent's.
    """
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if platform.system() == "Darwin" else 1024)


def available_memory() -> int:
    """Bytes that could be had now; on the GPU where there is one. 16 GB where the system does not say."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    path = Path("/proc/meminfo")
    if not path.is_file():
        return 16 << 30
    line = next(line for line in path.read_text().splitlines() if line.startswith("MemAvailable"))
    return int(line.split()[1]) * 1024


def describe_machine() -> dict[str, Any]:
    """Date, hardware and versions for a result file."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"{os.cpu_count()} cores, {_processor()}",
        "threads": torch.get_num_threads(),
        "versions": {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()},
    }


def write_result(name: str, content: Mapping[str, Any], *, folder: Path | None = None) -> Path:
    """Write `DATE-NAME.json` into `folder` (benchmarks/results by default)."""
    target = (folder or RESULTS) / f"{datetime.now(UTC):%Y-%m-%d}-{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return target


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """The processor's name and its matrix instructions."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return platform.processor()
    text = path.read_text()
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    return (names[0] if names else platform.machine()) + (", AMX bf16" if "amx_bf16" in text else "")
