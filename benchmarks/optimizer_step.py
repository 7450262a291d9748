"""What clipping and AdamW take a step: by our kernels, by PyTorch's fused AdamW in pieces, compiled by torch.compile.

    python benchmarks/optimizer_step.py [--weights 86000000] [--threads 2] [--out FOLDER]

86 million weights are those of BERT-base without its word embeddings, 10.6 million those of the default encoder. The
gradient is in bf16 and a bf16 copy of the weights is written, as in training in bf16. Without kernels training goes
the second way. Compilation by torch.compile counts separately; an empty TORCHINDUCTOR_CACHE_DIR shows all of it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from machine import describe_machine, median_seconds, write_result
from manylabel.modeling.native.kernels import GradientTable
from manylabel.modeling.native.library import StepNumbers, library
from manylabel.training.allocator import keeping_freed_memory
from manylabel.training.flat_adamw import PIECE, FlatAdamW, Place, norm_of
from manylabel.training.optimizer import ADAM_EPSILON

CONSOLE = Console() if sys.stdout.isatty() else Console(width=120)
ROUNDS = 7
RATE, DECAY, SCALE = 1e-5, 0.01, 0.5


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    size = arguments.weights
    weights, gradient = torch.randn(size), (torch.randn(size) * 1e-3).bfloat16()
    copy = torch.empty(size, dtype=torch.bfloat16)
    with keeping_freed_memory():
        ways = {"operators": _operators(weights, gradient, copy)}
        if library() is not None:
            ways["kernels"] = _kernels(weights, gradient, copy)
        began = time.perf_counter()
        compiled = _compiled(weights, gradient, copy)
        compiled()
        compilation = time.perf_counter() - began
        ways["torch.compile"] = compiled
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, way in ways.items():
                times[name].append(median_seconds(way, 1) * 1e3)
        result = {
            "weights": size,
            **{f"milliseconds, {name}": statistics.median(measured) for name, measured in times.items()},
            "seconds of compilation": compilation,
        }
    for name, value in result.items():
        CONSOLE.print(f"{name}: {value:,.1f}")
    target = write_result(f"optimizer-step-{size}", describe_machine() | result, folder=arguments.out)
    CONSOLE.print(f"written to {target}")


def _kernels(weights: Tensor, gradient: Tensor, copy: Tensor) -> Callable[[], object]:
    """As `training.weights` goes about it where there are kernels."""
    moments = (torch.zeros_like(weights), torch.zeros_like(weights))
    numbers = StepNumbers(SCALE, 1 - RATE * DECAY, RATE, 1.0, 0.1, 0.999, 0.001, ADAM_EPSILON)

    def step() -> None:
        GradientTable([gradient], [0], [len(weights)]).norm()
        GradientTable([gradient], [0], [len(weights)]).adamw(weights, moments, copy, numbers)

    return step


def _operators(weights: Tensor, gradient: Tensor, copy: Tensor) -> Callable[[], object]:
    """As `training.weights` goes about it where there are none."""
    optimizer, piece = FlatAdamW(weights, 1), torch.zeros(PIECE)

    def step() -> None:
        norm_of([gradient], piece)
        optimizer.begin(0)
        for start in range(0, len(weights), PIECE):
            stop = min(start + PIECE, len(weights))
            own = piece[: stop - start].copy_(gradient[start:stop]).mul_(SCALE)
            optimizer.update(Place(start, stop, 0), own, rate=RATE, weight_decay=DECAY)
            copy[start:stop].copy_(weights[start:stop])

    return step


def _compiled(weights: Tensor, gradient: Tensor, copy: Tensor) -> Callable[[], object]:
    """The same arithmetic, each of norm and update one kernel."""
    exp_avg, exp_avg_sq = torch.zeros_like(weights), torch.zeros_like(weights)
    scalars = [torch.tensor(value) for value in (SCALE, RATE, 1 - RATE * DECAY, 0.5, 0.9)]

    def norm(gradient: Tensor) -> Tensor:
        return gradient.float().square().sum().sqrt()

    def update(scale: Tensor, rate: Tensor, kept: Tensor, correction: Tensor, root: Tensor) -> None:
        exact = gradient.float() * scale
        mean = exp_avg + (exact - exp_avg) * 0.1
        square = exp_avg_sq * 0.999 + exact * exact * 0.001
        changed = weights * kept - rate / correction * mean / (square.sqrt() / root + 1e-8)
        exp_avg.copy_(mean)
        exp_avg_sq.copy_(square)
        weights.copy_(changed)
        copy.copy_(changed)

    norm_kernel, update_kernel = torch.compile(norm), torch.compile(update)
    return lambda: (norm_kernel(gradient), update_kernel(*scalars))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=int, default=86_000_000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=None, help="folder of the result, benchmarks/results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
