"""The C++ kernels on tensors: what happens between the matrix products of a training step on a CPU, in few passes.

Called by `dropout`, `halves` and the flat optimizer, each of which has the same in PyTorch's operators for where there
is no library. Tensors are contiguous, on the CPU, in fp32 or bf16; weights of normalisation are fp32. Sums are in fp32.

Shapes: T rows (tokens), D width, N any number of columns, B texts.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from manylabel.modeling.native.library import FORMATS, Library, StepNumbers, library

LONGEST_TEXT = 64
"""LONGEST of attention.cpp."""
WIDEST_HEAD = 64
"""WIDEST of attention.cpp."""
CHUNK = 1 << 14
"""CHUNK of optimizer.cpp."""
LARGEST_SEED = 2**63 - 1


def serves(*tensors: Tensor) -> bool:
    """Whether there are kernels for all of these tensors."""
    dtype = tensors[0].dtype
    return (
        library() is not None
        and dtype in FORMATS
        and all(
            tensor.dtype == dtype and tensor.device.type == "cpu" and tensor.is_contiguous()
            for tensor in tensors
        )
    )


def draw_mask(mask: Tensor, *, dropped: int, scale: float) -> None:
    """Fill `mask`: `dropped` of 65,536 values with 0, the others with `scale`; PyTorch's generator gives the seed."""
    seed = int(torch.empty((), dtype=torch.int64, device="cpu").random_(0, LARGEST_SEED))
    _call("draw_mask", mask, mask.numel(), seed, dropped, scale)


def join(
    changed_TD: Tensor, kept_TD: Tensor, mask_TD: Tensor | None, weight_D: Tensor, bias_D: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """norm(kept + mask * changed), and mean [T] and inverse deviation [T] of the sum, which replaces `changed`."""
    num_rows, width = changed_TD.shape
    result_TD = torch.empty_like(changed_TD)
    mean_T, inverse_T = weight_D.new_empty(2, num_rows).unbind()
    _call(
        "join",
        changed_TD,
        kept_TD,
        mask_TD,
        weight_D,
        bias_D,
        result_TD,
        mean_T,
        inverse_T,
        num_rows,
        width,
        eps,
    )
    return result_TD, mean_T, inverse_T


class Unjoined(NamedTuple):
    """The way back through `join`: gradients of its arguments, and the sum over rows of that of `changed`."""

    to_kept_TD: Tensor
    to_changed_TD: Tensor
    to_weight_D: Tensor
    to_bias_D: Tensor
    to_changed_sum_D: Tensor


def unjoin(
    gradient_TD: Tensor, joined: Sequence[Tensor], mask_TD: Tensor | None, weight_D: Tensor
) -> Unjoined:
    """The way back through `join`; `joined` is the sum [T, D] with its mean [T] and inverse deviation [T]."""
    total_TD, mean_T, inverse_T = joined
    num_rows, width = total_TD.shape
    gradients = Unjoined(
        torch.empty_like(total_TD),
        torch.empty_like(total_TD),
        torch.empty_like(weight_D),
        torch.empty_like(weight_D),
        total_TD.new_empty(width),
    )
    partial = _partial(3 * width)
    _call(
        "unjoin",
        *(gradient_TD, total_TD, mean_T, inverse_T, mask_TD, weight_D),
        *(*gradients, partial, num_rows, width),
        dtype=total_TD.dtype,
    )
    return gradients


def gelu(x: Tensor) -> Tensor:
    """X times the share of a normal distribution below x (Hendrycks & Gimpel 2016), within 2e-7 of |x|."""
    result = torch.empty_like(x)
    _call("gelu", x, result, x.numel())
    return result


def gelu_gradient(gradient_TN: Tensor, x_TN: Tensor) -> Tensor:
    """Turn the gradient of `gelu(x)` into that of x, in place; its sum over rows [N]."""
    num_rows, width = x_TN.shape
    sum_N = x_TN.new_empty(width)
    _call("gelu_back", gradient_TN, x_TN, sum_N, _partial(width), num_rows, width)
    return sum_N


def attend(qkv_TE: Tensor, starts_B1: Tensor, num_heads: int) -> Tensor:
    """softmax(q k' / sqrt(d)) v of every text: [T, D] of queries, keys and values side by side (E = 3 D), in fp32.

    `starts_B1` (int32) says where each text begins and the last one ends, none longer than `LONGEST_TEXT`; rows after
    that are zero. Heads are at most `WIDEST_HEAD` wide.
    """
    context_TD = qkv_TE.new_empty(len(qkv_TE), qkv_TE.shape[1] // 3)
    _attend(_library().attend, (qkv_TE, starts_B1, context_TD), num_heads)
    return context_TD


def attention_gradient(qkv_TE: Tensor, starts_B1: Tensor, gradient_TD: Tensor, num_heads: int) -> Tensor:
    """The gradient of `qkv_TE` from that of the result of `attend`, in fp32."""
    to_qkv_TE = torch.empty_like(qkv_TE)
    _attend(_library().attend_back, (qkv_TE, starts_B1, gradient_TD.contiguous(), to_qkv_TE), num_heads)
    return to_qkv_TE


def _attend(function: Any, tensors: tuple[Tensor, ...], num_heads: int) -> None:  # noqa: ANN401
    """Let a kernel fill the last tensor; its rows after the last text become zero."""
    qkv_TE, starts_B1, *_, result = tensors
    result[int(starts_B1[-1]) :].zero_()
    sizes = (len(starts_B1) - 1, num_heads, qkv_TE.shape[1] // 3 // num_heads)
    function(*[tensor.data_ptr() for tensor in tensors], *sizes, torch.get_num_threads())


class GradientTable:
    """The gradients of parameters that lie in one flat vector, in fp32, bf16, or none at all."""

    def __init__(
        self, gradients: Sequence[Tensor | None], starts: Sequence[int], sizes: Sequence[int]
    ) -> None:
        """A gradient may lie anywhere; parameter i is `sizes[i]` values from `starts[i]` of the flat vector on."""
        self._held = [None if gradient is None else gradient.contiguous() for gradient in gradients]
        rows = [
            (
                0 if gradient is None else gradient.data_ptr(),
                gradient is not None and gradient.dtype == torch.bfloat16,
                start,
                size,
            )
            for gradient, start, size in zip(self._held, starts, sizes, strict=True)
        ]
        self._slots: npt.NDArray[np.int64] = np.array(rows, dtype=np.int64).reshape(-1, 4)
        chunks = -(-self._slots[:, 3] // CHUNK)
        self._first: npt.NDArray[np.int64] = np.concatenate([[0], np.cumsum(chunks)]).astype(np.int64)

    def norm(self) -> float:
        """The Euclidean norm of all gradients taken together."""
        squares = np.empty(int(self._first[-1]))
        _library().chunk_squares(*self._places, squares.ctypes.data, torch.get_num_threads())
        return float(np.sqrt(squares.sum()))

    def adamw(
        self, values: Tensor, moments: tuple[Tensor, Tensor], copy: Tensor | None, numbers: StepNumbers
    ) -> None:
        """Update the flat fp32 vector and its moments by AdamW, and write the new values to `copy` (flat, bf16)."""
        mean, square = moments
        pointers = [None if tensor is None else tensor.data_ptr() for tensor in (values, mean, square, copy)]
        _library().adamw(*pointers, *self._places, ctypes.byref(numbers), torch.get_num_threads())

    @property
    def _places(self) -> tuple[int, int, int]:
        return self._slots.ctypes.data, self._first.ctypes.data, len(self._slots)


def _partial(width: int) -> Tensor:
    """Where every thread adds up its own rows."""
    return torch.empty(torch.get_num_threads(), width, dtype=torch.float32, device="cpu")


def _call(name: str, *arguments: Any, dtype: torch.dtype | None = None) -> None:  # noqa: ANN401
    """Call a kernel for the format of its first tensor, with the addresses of all tensors."""
    given = [argument.data_ptr() if isinstance(argument, Tensor) else argument for argument in arguments]
    function = _library().by_format[name, dtype or arguments[0].dtype]
    function(*given, torch.get_num_threads())


def _library() -> Library:
    found = library()
    assert found is not None, "asked for by `serves`"
    return found
