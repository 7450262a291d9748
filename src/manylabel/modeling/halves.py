"""The two halves of a layer, attention and feed-forward, each one step of autograd with its way back written out.

Called by `encoder.Layer` on a CPU where a gradient is wanted. On short texts a step is a thousand small operations, and
what autograd does between them (nodes, copies of split gradients, sums out of place) takes as long as the smaller
products. Values and gradients are those of the plain way up to rounding. Together with the
cheaper dropout masks a step of 32 texts of 19 tokens went from 162 to 147 ms of CPU time with the default encoder, of
BERT-base from 876 to 818 ms (bf16, one core, best epoch of one run each on a busy machine).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from manylabel.modeling import products
from manylabel.modeling.attention import HeadPlan, plain_is_faster
from manylabel.modeling.attention_steps import attend_backward, attend_forward
from manylabel.modeling.rows import (
    Activation,
    Norm,
    activate,
    activation_gradient,
    join,
    unjoin,
)


def runs_by_halves(hidden_TD: Tensor, plan: HeadPlan, attention_dropout: float) -> bool:
    """Whether `attention_half` covers this: a gradient is wanted, on a CPU, of attention by two products."""
    if not torch.is_grad_enabled() or hidden_TD.device.type != "cpu" or attention_dropout > 0.0:
        return False
    head_size = hidden_TD.shape[1] // plan.num_heads
    longest = max(group.rows_bl.shape[1] for group in plan.groups)
    return plain_is_faster(hidden_TD.dtype, longest, head_size)


def attention_half(
    hidden_TD: Tensor,
    layers: tuple[nn.Linear, nn.Linear],
    norm: nn.LayerNorm,
    mask: Tensor | None,
    plan: HeadPlan,
) -> Tensor:
    """norm(x + mask * output(attention(qkv(x)))) of x [T, D]; `layers` are qkv and output, `mask` is [T, D] or None."""
    weights = _in_type_of(hidden_TD, layers)
    result: Tensor = _Attention.apply(  # type: ignore[no-untyped-call]
        hidden_TD, *weights, norm.weight, norm.bias, mask, plan, norm.eps
    )
    return result


def feed_forward_half(
    hidden_TD: Tensor,
    layers: tuple[nn.Linear, nn.Linear],
    norm: nn.LayerNorm,
    mask: Tensor | None,
    activation: Activation,
) -> Tensor:
    """norm(x + mask * down(activation(up(x)))) of x [T, D]; `layers` are up and down, `mask` is [T, D] or None."""
    weights = _in_type_of(hidden_TD, layers)
    result: Tensor = _FeedForward.apply(  # type: ignore[no-untyped-call]
        hidden_TD, *weights, norm.weight, norm.bias, mask, activation, norm.eps
    )
    return result


def _in_type_of(hidden_TD: Tensor, layers: tuple[nn.Linear, ...]) -> list[Tensor]:
    """Weight and bias of each layer in the type of the hidden states; autocast does so by itself elsewhere."""
    return [tensor.to(hidden_TD.dtype) for layer in layers for tensor in (layer.weight, layer.bias)]


class _FeedForward(torch.autograd.Function):
    """`feed_forward_half`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *others: Any) -> Tensor:  # noqa: ANN401
        # Autograd follows single tensors only, so they come one by one.
        up, up_bias, down, down_bias, norm, norm_bias, mask, activation, eps = others
        inner = products.linear(x, up, up_bias)
        active = activate(activation, inner)
        changed = products.linear(active, down, down_bias)
        result, joined = join(changed, x, mask, Norm(norm, norm_bias, eps))
        ctx.save_for_backward(x, up, down, norm, norm_bias, mask, inner, active, *joined)
        ctx.activation, ctx.eps = activation.name, eps
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        x, up, down, norm, norm_bias, mask, inner, active, *joined = ctx.saved_tensors
        needs = ctx.needs_input_grad
        back = unjoin(gradient, joined, mask, Norm(norm, norm_bias, ctx.eps))
        to_down = products.weight_gradient(back.to_changed_TD, active) if needs[3] else None
        to_active = products.product(back.to_changed_TD, down)
        to_inner, to_up_bias = activation_gradient(ctx.activation, to_active, inner)
        to_up = products.weight_gradient(to_inner, x) if needs[1] else None
        if needs[0]:
            products.add_product(back.to_kept_TD, to_inner, up)
        to_weights = (to_up, to_up_bias, to_down, back.to_changed_sum_D)
        return back.to_kept_TD, *to_weights, back.to_weight_D, back.to_bias_D, None, None, None


class _Attention(torch.autograd.Function):
    """`attention_half`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *others: Any) -> Tensor:  # noqa: ANN401
        qkv, qkv_bias, output, output_bias, norm, norm_bias, mask, plan, eps = others
        context, attended = attend_forward(products.linear(x, qkv, qkv_bias), plan)
        changed = products.linear(context, output, output_bias)
        result, joined = join(changed, x, mask, Norm(norm, norm_bias, eps))
        ctx.save_for_backward(x, qkv, output, norm, norm_bias, mask, context, *joined, *attended)
        ctx.plan, ctx.eps = plan, eps
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        x, qkv, output, norm, norm_bias, mask, context, *rest = ctx.saved_tensors
        joined, attended, needs = rest[:3], rest[3:], ctx.needs_input_grad
        back = unjoin(gradient, joined, mask, Norm(norm, norm_bias, ctx.eps))
        to_output = products.weight_gradient(back.to_changed_TD, context) if needs[3] else None
        to_qkv_TE = attend_backward(products.product(back.to_changed_TD, output), attended, ctx.plan)
        to_qkv = products.weight_gradient(to_qkv_TE, x) if needs[1] else None
        if needs[0]:
            products.add_product(back.to_kept_TD, to_qkv_TE, qkv)
        to_weights = (to_qkv, to_qkv_TE.sum(0), to_output, back.to_changed_sum_D)
        return back.to_kept_TD, *to_weights, back.to_weight_D, back.to_bias_D, None, None, None
