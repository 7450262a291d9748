"""Attention and its gradient on a CPU without autograd in between, called by `halves`.

In fp32 one C++ kernel serves short texts. Otherwise texts are grouped and attended by two products, as
`attention.plain_attention` does it. Shapes as in `attention`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from manylabel.modeling.attention import AttentionGroup, HeadPlan, group_blocks, softmax_type
from manylabel.modeling.native import kernels


def attend_forward(qkv_TE: Tensor, plan: HeadPlan) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Attention of every token to its text [T, D], and what `attend_backward` needs of it (E = 3 D)."""
    if _has_kernel(qkv_TE, plan):
        return kernels.attend(qkv_TE, plan.starts_B1, plan.num_heads), (qkv_TE,)
    head_size = qkv_TE.shape[1] // (3 * plan.num_heads)
    slots = plan.queries_keys_values.to_slots(qkv_TE.view(-1, head_size))
    results = slots.new_empty(len(slots) // 3, head_size)
    weights = [
        _attend(block, group, result)
        for (group, block), (_, result) in zip(
            group_blocks(slots, plan, 3), group_blocks(results, plan, 1), strict=True
        )
    ]
    return plan.outputs.to_rows(results).view(len(qkv_TE), -1), (slots, *weights)


def attend_backward(gradient_TD: Tensor, attended: Sequence[Tensor], plan: HeadPlan) -> Tensor:
    """The gradient [T, E] of queries, keys and values; `attended` is the second result of `attend_forward`."""
    first, *weights = attended
    if not weights:
        return kernels.attention_gradient(first, plan.starts_B1, gradient_TD, plan.num_heads)
    to_results = plan.outputs.slots_gradient(gradient_TD.view(-1, first.shape[1]))
    to_slots = torch.empty_like(first)
    for (_, block), (_, to_block), (_, to_result), weight in zip(
        group_blocks(first, plan, 3),
        group_blocks(to_slots, plan, 3),
        group_blocks(to_results, plan, 1),
        weights,
        strict=True,
    ):
        _attend_back(block, weight, to_result, to_block)
    return plan.queries_keys_values.rows_gradient(to_slots).view(len(gradient_TD), -1)


def _has_kernel(qkv_TE: Tensor, plan: HeadPlan) -> bool:
    """Whether the kernel takes these texts, which it then does faster.

    Milliseconds forward + back for 2,048 tokens and 12 heads, kernel / two products with their gathers, fp32, 2 cores
    of an EPYC (AVX2), torch 2.13 (benchmarks/row_kernels.py); the products' times differ up to twofold between runs:

        length        8           16           24           32           48           64
        width 32  7.2/12.2     8.3/14.3     8.2/14.4     9.4/30.8    10.8/34.0    11.9/35.1
        width 64  13.9/31.5   12.9/30.7    12.7/24.8    15.2/27.9    14.2/26.2    18.2/35.4

    Products in bf16 on AMX tiles are faster than that (see `attention.plain_is_faster`).
    """
    is_narrow = qkv_TE.shape[1] <= 3 * plan.num_heads * kernels.WIDEST_HEAD
    is_short = plan.longest <= kernels.LONGEST_TEXT
    return qkv_TE.dtype == torch.float32 and is_short and is_narrow and kernels.serves(qkv_TE)


def _attend(block: Tensor, group: AttentionGroup, result: Tensor) -> Tensor:
    """Write softmax(q k' / sqrt(d)) v of a [3, b, H, l, d] into [1, b, H, l, d]; the softmax, [b H, l, l]."""
    _, num_texts, num_heads, length, head_size = block.shape
    query, key, value = block.view(3, -1, length, head_size).unbind(0)
    bias, beta = query.new_zeros(1, 1, 1), 0.0
    if group.mask_b11l is not None:
        mask = group.mask_b11l.to(query.dtype).expand(-1, num_heads, -1, -1)
        bias, beta = mask.reshape(num_texts * num_heads, 1, length), 1.0
    scores = torch.baddbmm(bias, query, key.transpose(1, 2), beta=beta, alpha=head_size**-0.5)
    weights = scores.softmax(-1, dtype=softmax_type(scores))
    torch.bmm(weights.to(value.dtype), value, out=result.view_as(value))
    return weights


def _attend_back(block: Tensor, weights: Tensor, to_result: Tensor, to_block: Tensor) -> None:
    """Write the gradient of a block [3, b, H, l, d] into `to_block` of the same shape."""
    length, head_size = block.shape[3:]
    query, key, value = block.view(3, -1, length, head_size).unbind(0)
    to_query, to_key, to_value = to_block.view(3, -1, length, head_size).unbind(0)
    to_result = to_result.view_as(value)
    torch.bmm(weights.to(value.dtype).transpose(1, 2), to_result, out=to_value)
    to_weights = torch.bmm(to_result, value.transpose(1, 2)).to(weights.dtype)
    to_scores = torch.ops.aten._softmax_backward_data(to_weights, weights, -1, weights.dtype)
    to_scores = to_scores.to(value.dtype).mul_(head_size**-0.5)
    torch.bmm(to_scores, key, out=to_query)
    torch.bmm(to_scores.transpose(1, 2), query, out=to_key)
