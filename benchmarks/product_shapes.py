"""Rates of a layer's matrix products by number of tokens, as a whole and in two parts: about 3 minutes a width.

    python benchmarks/product_shapes.py [--width 768] [--threads 2] [--out FOLDER]

What `manylabel.modeling.products` chooses by. Printed are TFLOP/s in bf16 of the products that a layer makes forward
and for the gradient of its input, and of the gradients of its weights: as they are, from a transposed factor, and with
that factor transposed beforehand (its copy counted).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from machine import describe_machine, median_seconds, write_result
from manylabel.modeling.products import transposed
from manylabel.training.allocator import keeping_freed_memory

CONSOLE = Console() if sys.stdout.isatty() else Console(width=120)
ROWS = (128, 256, 320, 384, 448, 512, 576, 640, 672, 704, 768, 896, 1024, 1280, 1408, 1536, 2048, 2816)
ROUNDS = 9
TERA = 1e12


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    width = arguments.width
    result = describe_machine() | {"width": width, "rates": []}
    with keeping_freed_memory():
        for inner, columns in ((width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)):
            rates = [_measure(rows, inner, columns) for rows in ROWS]
            result["rates"].append({"inner": inner, "columns": columns, "by_rows": rates})
            _show(inner, columns, rates)
    CONSOLE.print(f"written to {write_result(f'product-shapes-{width}', result, folder=arguments.out)}")


def _measure(num_rows: int, inner: int, columns: int) -> dict[str, float]:
    """Rates of one layer [inner -> columns] for so many tokens."""
    rows, gradient = (torch.randn(num_rows, size).bfloat16() for size in (inner, columns))
    weight, result = torch.randn(columns, inner).bfloat16(), torch.empty(num_rows, columns).bfloat16()
    to_rows = torch.empty(num_rows, inner).bfloat16()
    ways: dict[str, Callable[[], object]] = {
        "forward": lambda: torch.mm(rows, weight.t(), out=result),
        "forward, rows halved": lambda: _by_rows(rows, weight.t(), result),
        "forward, columns halved": lambda: _by_columns(rows, weight.t(), result),
        "back": lambda: torch.mm(gradient, weight, out=to_rows),
        "back, rows halved": lambda: _by_rows(gradient, weight, to_rows),
        "back, columns halved": lambda: _by_columns(gradient, weight, to_rows),
        "weight": lambda: gradient.t() @ rows,
        "weight, gradient transposed": lambda: transposed(gradient) @ rows,
        "weight, argument transposed": lambda: transposed(transposed(rows) @ gradient),
    }
    flops = 2 * num_rows * inner * columns
    return {"rows": num_rows} | {
        name: flops / TERA / median_seconds(way, ROUNDS) for name, way in ways.items()
    }


def _by_rows(a: Tensor, b: Tensor, out: Tensor) -> None:
    half = -(-len(a) // 64) * 32
    for rows in (slice(0, half), slice(half, None)):
        torch.mm(a[rows], b, out=out[rows])


def _by_columns(a: Tensor, b: Tensor, out: Tensor) -> None:
    half = b.shape[1] // 2
    for columns in (slice(0, half), slice(half, None)):
        torch.mm(a, b[:, columns], out=out[:, columns])


def _show(inner: int, columns: int, rates: list[dict[str, float]]) -> None:
    table = Table(title=f"{inner} -> {columns}, TFLOP/s", title_justify="left")
    for name in rates[0]:
        table.add_column(name, justify="right")
    for rate in rates:
        rows, *others = rate.values()
        table.add_row(f"{rows:,.0f}", *(f"{value:.2f}" for value in others))
    CONSOLE.print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=None, help="folder of the result, benchmarks/results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
