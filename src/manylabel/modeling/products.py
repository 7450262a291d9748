"""Matrix products of linear layers and of their way back on a CPU; called by the halves of a layer.

In bf16 oneDNN makes these products, and how it shares one between two threads depends on the shape: some leave one
thread idle, and a factor that is read transposed costs as much as the product. What is done about it below changes
rounding at most. Rates are in TFLOP/s, two threads of a Xeon with AMX, torch 2.13, where large products reach 2.3 to
2.6 (benchmarks/product_shapes.py prints them).

Shapes: T rows (tokens), K entries that are summed over, N columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

MEASURED_THREADS = 2
TRANSPOSED_ROWS = 128
"""Rows that are transposed at once: [2,816, 768] takes 0.84 ms, 1.74 ms as a whole, [640, 384] 0.08 and 0.13 ms."""
MANY_ROWS = 1536
"""From here on the gradient of a wide layer is made the other way round and turned: see `weight_gradient`."""
WIDE = 768
"""Columns from which turning a gradient pays; at width 384 the products are too small."""


class _Idle(NamedTuple):
    """Shapes whose product leaves a thread idle: N columns, K and T from the first number to the last."""

    columns: int
    inner: tuple[int, int]
    rows: tuple[int, int]
    dim: int
    """0 to halve the rows, 1 to halve the columns."""


IDLE = (
    _Idle(768, (3072, 3072), (641, 1344), 0),  # 0.97-1.11 -> 1.49-1.93
    _Idle(768, (2304, 2304), (768, 1535), 0),  # 1.03-1.16 -> 1.72-2.08
    _Idle(768, (768, 768), (768, 1472), 0),  # 1.12-1.30 -> 1.75-2.04
    _Idle(384, (1152, 1536), (384, 544), 0),  # 0.94-1.54 -> 1.09-1.47
    _Idle(384, (1152, 1152), (545, 863), 1),  # 1.08-1.27 -> 1.48-1.82
    _Idle(384, (1536, 1536), (545, 832), 1),  # 0.97-1.10 -> 1.20-1.67
)


def linear(rows_TK: Tensor, weight_NK: Tensor, bias_N: Tensor) -> Tensor:
    """The rows times the transposed weight, plus the bias: [T, N]."""
    split = _split(rows_TK, len(weight_NK))
    if split is None:
        return functional.linear(rows_TK, weight_NK, bias_N)
    result = rows_TK.new_empty(len(rows_TK), len(weight_NK))
    for start, size in split.parts:
        if split.dim == 0:
            out, rows = result.narrow(0, start, size), rows_TK.narrow(0, start, size)
            torch.addmm(bias_N, rows, weight_NK.t(), out=out)
        else:
            weight = weight_NK.narrow(0, start, size).t()
            torch.addmm(bias_N.narrow(0, start, size), rows_TK, weight, out=result.narrow(1, start, size))
    return result


def product(rows_TK: Tensor, matrix_KN: Tensor) -> Tensor:
    """The rows times the matrix: [T, N]."""
    split = _split(rows_TK, matrix_KN.shape[1])
    if split is None:
        return rows_TK @ matrix_KN
    result = rows_TK.new_empty(len(rows_TK), matrix_KN.shape[1])
    for out, rows, matrix in _pieces(split, result, rows_TK, matrix_KN):
        torch.mm(rows, matrix, out=out)
    return result


def add_product(total_TN: Tensor, rows_TK: Tensor, matrix_KN: Tensor) -> None:
    """Add the rows times the matrix to the total."""
    split = _split(rows_TK, matrix_KN.shape[1])
    if split is None:
        total_TN.addmm_(rows_TK, matrix_KN)
        return
    for out, rows, matrix in _pieces(split, total_TN, rows_TK, matrix_KN):
        out.addmm_(rows, matrix)


def weight_gradient(gradient_TN: Tensor, argument_TK: Tensor) -> Tensor:
    """The gradient [N, K] of a weight: that of its results, transposed, times what it was applied to.

    The first factor is read transposed, at 1.0 to 1.7. Where the gradient is the smaller factor, it is transposed
    before: 1.67 instead of 1.23 for 2,816 rows, 3,072 -> 768, with the copy. Where it is the larger one, and there are
    many rows, the argument is transposed instead, and the result turned: 1.44 instead of 1.27 for 768 -> 3,072.
    """
    if gradient_TN.shape[1] < argument_TK.shape[1]:
        return transposed(gradient_TN) @ argument_TK
    is_wider = gradient_TN.shape[1] > argument_TK.shape[1] >= WIDE
    if is_wider and len(gradient_TN) >= MANY_ROWS and gradient_TN.dtype == torch.bfloat16:
        return transposed(transposed(argument_TK) @ gradient_TN)
    return gradient_TN.t() @ argument_TK


def transposed(matrix: Tensor) -> Tensor:
    """The transposed matrix, contiguous."""
    result = matrix.new_empty(matrix.shape[1], matrix.shape[0])
    for start in range(0, len(matrix), TRANSPOSED_ROWS):
        rows = slice(start, start + TRANSPOSED_ROWS)
        result[:, rows].copy_(matrix[rows].t())
    return result


class _Split(NamedTuple):
    """Start and size of both parts of the rows (`dim` 0) or columns (1) of a product."""

    dim: int
    parts: tuple[tuple[int, int], tuple[int, int]]


def _split(rows_TK: Tensor, num_columns: int) -> _Split | None:
    """How a product is made in two parts; None where it is made as a whole."""
    if rows_TK.dtype != torch.bfloat16 or torch.get_num_threads() != MEASURED_THREADS or not has_amx():
        return None
    return split_of(rows_TK.shape[0], rows_TK.shape[1], num_columns)


@lru_cache(maxsize=1)
def has_amx() -> bool:
    """Whether this is a processor with AMX tiles; without them a half takes more than half as long."""
    # Private in torch 2.11 to 2.13; where a version lacks it, products are made as a whole.
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


@lru_cache(maxsize=4096)
def split_of(num_rows: int, inner: int, num_columns: int) -> _Split | None:
    """`_split` by the numbers T, K and N."""
    for idle in IDLE:
        if (
            num_columns == idle.columns
            and idle.inner[0] <= inner <= idle.inner[1]
            and idle.rows[0] <= num_rows <= idle.rows[1]
        ):
            # Whole tiles of 32 rows in the first half.
            size = (num_rows, num_columns)[idle.dim]
            half = -(-size // 64) * 32
            return _Split(idle.dim, ((0, half), (half, size - half)))
    return None


def _pieces(
    split: _Split, result_TN: Tensor, rows_TK: Tensor, matrix_KN: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Each part of the result, with the rows and the matrix it is made of."""
    for start, size in split.parts:
        part = result_TN.narrow(split.dim, start, size)
        if split.dim == 0:
            yield part, rows_TK.narrow(0, start, size), matrix_KN
        else:
            yield part, rows_TK, matrix_KN.narrow(1, start, size)
