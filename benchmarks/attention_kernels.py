"""Time of the two attention kernels by length: `python benchmarks/attention_kernels.py [--threads 2]`.

Prints milliseconds (median) of forward without gradient and of forward + backward, for 2,048 tokens split into texts
of one length, 12 heads, in fp32 and bf16. The table beside `_plain_is_faster` in modeling/attention.py comes from here.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from manylabel.modeling.attention import fused_attention, plain_attention

LENGTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
NUM_HEADS = 12
NUM_TOKENS = 2048
KERNELS = {"plain": plain_attention, "sdpa": fused_attention}


def milliseconds(run: Callable[[], object], repeats: int) -> float:
    """Median time of `run` after two warm-up calls."""
    times = []
    for repeat in range(repeats + 2):
        begin = time.perf_counter()
        run()
        if repeat > 1:
            times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1000.0


def measure(
    kernel: str, parts: list[Tensor], gradient: Tensor, mask: Tensor | None, repeats: int
) -> tuple[float, float]:
    """Milliseconds of forward without gradient, and of forward + backward."""
    attend = KERNELS[kernel]

    def forward() -> None:
        with torch.no_grad():
            attend(*parts, mask=mask)

    def both() -> None:
        torch.autograd.grad(attend(*parts, mask=mask), parts, gradient)

    return milliseconds(forward, repeats), milliseconds(both, repeats)


def main() -> None:
    """Print one line a length, precision and head width."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--masked", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    write = sys.stdout.write
    write("dtype     d length | forward: plain   sdpa | forward+backward: plain   sdpa   (ms)\n")
    for dtype in (torch.float32, torch.bfloat16):
        for width in (32, 64):
            for length in LENGTHS:
                shape = (max(1, NUM_TOKENS // length), NUM_HEADS, length, width)
                parts = [torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(3)]
                mask = torch.zeros(shape[0], 1, 1, length) if arguments.masked else None
                gradient = torch.randn(shape, dtype=dtype)
                (f_plain, b_plain), (f_sdpa, b_sdpa) = (
                    measure(kernel, parts, gradient, mask, arguments.repeats) for kernel in KERNELS
                )
                name = str(dtype).removeprefix("torch.")
                write(
                    f"{name:9} {width} {length:6} |{f_plain:15.2f} {f_sdpa:6.2f} |{b_plain:24.2f} {b_sdpa:6.2f}\n"
                )
                sys.stdout.flush()


if __name__ == "__main__":
    main()
