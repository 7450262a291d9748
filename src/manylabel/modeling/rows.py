"""What happens to rows between the matrix products of a layer, forward and back; called by `halves`.

Each is one C++ kernel where the installation has them (`native`), a few of PyTorch's operators elsewhere: equal up to
rounding. Shapes: T rows, D width, N any number of columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from manylabel.modeling.native import kernels

ACTIVATION_GRADIENTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gelu": torch.ops.aten.gelu_backward,
    "gelu_new": lambda gradient, x: torch.ops.aten.gelu_backward(gradient, x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda gradient, x: torch.ops.aten.gelu_backward(gradient, x, approximate="tanh"),
    "relu": lambda gradient, x: torch.ops.aten.threshold_backward(gradient, x, 0),
}
"""Gradient of the result and argument -> gradient of the argument."""


class Activation(NamedTuple):
    """An activation by its name in `ACTIVATION_GRADIENTS`, and itself."""

    name: str
    function: Callable[[Tensor], Tensor]


class Norm(NamedTuple):
    """Weight [D], bias [D] and epsilon of a normalisation."""

    weight_D: Tensor
    bias_D: Tensor
    eps: float


class Unjoined(NamedTuple):
    """The way back through `join`: gradients of what was kept (to be written over), of what changed, of the norm.

    `to_changed_sum_D` is the sum of `to_changed_TD` over rows: the gradient of the bias of what changed.
    """

    to_kept_TD: Tensor
    to_changed_TD: Tensor
    to_weight_D: Tensor
    to_bias_D: Tensor
    to_changed_sum_D: Tensor


def activate(activation: Activation, x_TN: Tensor) -> Tensor:
    """The activation of every value."""
    if activation.name == "gelu" and kernels.serves(x_TN):
        return kernels.gelu(x_TN)
    return activation.function(x_TN)


def activation_gradient(name: str, gradient_TN: Tensor, x_TN: Tensor) -> tuple[Tensor, Tensor]:
    """From the gradient of the results, which may be written over, to that of the arguments, and its sum over rows."""
    if name == "gelu" and kernels.serves(gradient_TN, x_TN):
        return gradient_TN, kernels.gelu_gradient(gradient_TN, x_TN)
    to_x_TN = ACTIVATION_GRADIENTS[name](gradient_TN, x_TN)
    return to_x_TN, to_x_TN.sum(0)


def join(
    changed_TD: Tensor, kept_TD: Tensor, mask_TD: Tensor | None, norm: Norm
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """norm(kept + mask * changed), and the sum with its mean and inverse deviation; `changed` is overwritten."""
    if _has_kernels(changed_TD, kept_TD, mask_TD, norm.weight_D):
        result_TD, mean_T, inverse_T = kernels.join(
            changed_TD, kept_TD, mask_TD, norm.weight_D, norm.bias_D, norm.eps
        )
        return result_TD, (changed_TD, mean_T, inverse_T)
    if mask_TD is not None:
        changed_TD.mul_(mask_TD)
    changed_TD.add_(kept_TD)
    result_TD, mean_T, inverse_T = torch.native_layer_norm(changed_TD, changed_TD.shape[1:], *norm)
    return result_TD, (changed_TD, mean_T, inverse_T)


def unjoin(gradient_TD: Tensor, joined: Sequence[Tensor], mask_TD: Tensor | None, norm: Norm) -> Unjoined:
    """The way back through `join`; `joined` is its second result."""
    gradient_TD = gradient_TD.contiguous()
    total_TD, mean_T, inverse_T = joined
    if _has_kernels(gradient_TD, total_TD, mask_TD, norm.weight_D):
        return Unjoined(*kernels.unjoin(gradient_TD, joined, mask_TD, norm.weight_D))
    to_kept_TD, to_weight_D, to_bias_D = torch.ops.aten.native_layer_norm_backward(
        gradient_TD, total_TD, total_TD.shape[1:], mean_T, inverse_T, norm.weight_D, norm.bias_D, [True] * 3
    )
    to_changed_TD = to_kept_TD.clone() if mask_TD is None else to_kept_TD * mask_TD
    return Unjoined(to_kept_TD, to_changed_TD, to_weight_D, to_bias_D, to_changed_TD.sum(0))


def _has_kernels(first_TD: Tensor, second_TD: Tensor, mask_TD: Tensor | None, weight_D: Tensor) -> bool:
    tensors = (first_TD, second_TD) if mask_TD is None else (first_TD, second_TD, mask_TD)
    return weight_D.dtype == torch.float32 and kernels.serves(*tensors)
