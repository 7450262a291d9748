"""Self-attention over packed texts: the only place where texts are laid side by side.

Linear layers see T tokens without padding. Attention needs texts apart, so the texts of a batch are grouped by similar
length (`plan_attention`, once a batch), every layer copies its q, k and v into the groups with one gather, and copies
the result back with another. Called by `encoder.PackedEncoder`; the plan is made by `packed.to_device`.

Shapes: P parts of a fused product (q, k, v or k, v), S slots of a group (texts x length), d width of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from manylabel.modeling.dropout import dropout as drop
from manylabel.modeling.transfer import send
from manylabel.modeling.varlen import attend_packed, varlen_kernel

IntArray = npt.NDArray[np.int64]

GROUP_COST = 8192
"""Padded score entries that cost as much as one more group: ten small kernels, about 0.2 ms forward and backward."""


@dataclass(frozen=True, eq=False)
class RowMap:
    """A copy of rows into slots and back.

    `index_S` names the row each slot shows, `inverse_R` the slot that holds each row. `padding` lists slots that show
    a row for the second time and whose content must not count; None without such slots. Rows from `num_rows` on are
    fillers: no slot shows them, they take any content, and their gradient is zero.
    """

    index_S: Tensor
    inverse_R: Tensor
    padding: Tensor | None
    num_rows: int

    def to_slots(self, rows: Tensor) -> Tensor:
        """Rows [R, d] -> slots [S, d]; the gradient of padding slots must be zero, as masked attention makes it."""
        return gather(rows, self.index_S, self.inverse_R, slice(self.num_rows, None))

    def to_rows(self, slots: Tensor) -> Tensor:
        """Slots [S, d] -> rows [R, d]; padding slots receive a zero gradient."""
        return gather(slots, self.inverse_R, self.index_S, self.padding)

    def rows_gradient(self, slots: Tensor) -> Tensor:
        """The gradient of `to_slots`: from that of the slots to that of the rows."""
        return _select(slots, self.inverse_R, slice(self.num_rows, None))

    def slots_gradient(self, rows: Tensor) -> Tensor:
        """The gradient of `to_rows`: from that of the rows to that of the slots."""
        return _select(rows, self.index_S, self.padding)


Zeroed = Tensor | slice | None


class _Gather(torch.autograd.Function):
    """`index_select` whose gradient is an `index_select` too.

    Autograd's own gradient adds rows one by one: 0.8 ms against 0.1 ms here for 640 tokens of width 3 x 384 in bf16.
    """

    @staticmethod
    def forward(ctx: Any, source: Tensor, index: Tensor, inverse: Tensor, zeroed: Zeroed) -> Tensor:  # noqa: ANN401
        ctx.inverse, ctx.zeroed = inverse, zeroed
        return source.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
        return _select(gradient, ctx.inverse, ctx.zeroed), None, None, None


def _select(values: Tensor, index: Tensor, zeroed: Zeroed) -> Tensor:
    """`values[index]` with the rows `zeroed` set to 0."""
    result = values.index_select(0, index)
    if isinstance(zeroed, slice):
        result[zeroed].zero_()
    elif zeroed is not None:
        result.index_fill_(0, zeroed, 0.0)
    return result


def gather(source: Tensor, index: Tensor, inverse: Tensor, zeroed: Zeroed) -> Tensor:
    """`source[index]`, whose gradient is `gradient[inverse]` with the rows `zeroed` set to 0."""
    result: Tensor = _Gather.apply(source, index, inverse, zeroed)  # type: ignore[no-untyped-call]
    return result


@dataclass(frozen=True, eq=False)
class AttentionGroup:
    """Texts that are attended together: `rows_bl` are packed rows, shorter texts repeat their first one.

    `mask_b11l` is 0 for tokens and -inf for padding, None when all texts have the same length.
    """

    rows_bl: Tensor
    mask_b11l: Tensor | None


@dataclass(frozen=True, eq=False)
class AttentionPlan:
    """How the texts of one batch are grouped; made once a batch and used by all layers.

    `tokens_5T` and `padding_5K` hold the addresses of tokens and padding in the groups (see `_addresses`).
    `order_B` lists the texts group by group, `ranks_B` is its inverse. `starts_B1` (int32) is where each text
    begins and the last one ends, `longest` is in tokens.
    """

    groups: tuple[AttentionGroup, ...]
    tokens_5T: Tensor
    padding_5K: Tensor | None
    order_B: Tensor
    ranks_B: Tensor
    starts_B1: Tensor
    longest: int

    def for_heads(self, num_heads: int, fillers: int = 0) -> HeadPlan:
        """The plan with the gathers of `num_heads` heads worked out, for T tokens and `fillers` more at the end."""
        return HeadPlan(self, num_heads, fillers)


class HeadPlan:
    """The gathers of one batch for a number of heads; layers share it."""

    def __init__(self, plan: AttentionPlan, num_heads: int, fillers: int = 0) -> None:
        self.groups = plan.groups
        self.num_heads = num_heads
        self._fillers = fillers
        self.starts_B1, self.longest = plan.starts_B1, plan.longest
        self._plan = plan
        self.firsts = RowMap(plan.order_B, plan.ranks_B, None, len(plan.order_B))

    @cached_property
    def queries_keys_values(self) -> RowMap:
        """Where queries, keys and values go."""
        return self.row_map(3)

    @cached_property
    def outputs(self) -> RowMap:
        """Where the results come from."""
        return self.row_map(1)

    def row_map(self, parts: int) -> RowMap:
        """The map between rows [T * P * H, d] and slots [P * b * H * l, d] of all groups."""
        heads = self.num_heads
        part_p = torch.arange(parts, device=self._plan.order_B.device)
        head_h = torch.arange(heads, device=self._plan.order_B.device)
        index_S = [
            (
                (group.rows_bl[None, :, None, :] * parts + part_p[:, None, None, None]) * heads
                + head_h[:, None]
            ).flatten()
            for group in self.groups
        ]
        inverse_R = _slot_numbers(self._plan.tokens_5T, part_p, head_h)
        padding = self._plan.padding_5K
        slots = None if padding is None else _slot_numbers(padding, part_p, head_h)
        num_rows = len(inverse_R)
        inverse_R = torch.cat([inverse_R, inverse_R.new_zeros(self._fillers * parts * heads)])
        return RowMap(index_S[0] if len(index_S) == 1 else torch.cat(index_S), inverse_R, slots, num_rows)


def _slot_numbers(addresses_5K: Tensor, part_p: Tensor, head_h: Tensor) -> Tensor:
    """Slot of every (token, part, head) in the [P, b, H, l] blocks of all groups, one after the other."""
    offset, plane, row, length, position = (entry[:, None, None] for entry in addresses_5K)
    parts, heads = len(part_p), len(head_h)
    blocks = offset * (parts * heads) + row * heads + position
    numbers: Tensor = blocks + plane * heads * part_p[:, None] + length * head_h
    return numbers.flatten()


def plan_attention(lengths_B: IntArray, device: torch.device) -> AttentionPlan:
    """Group texts of `lengths_B` tokens (each at least 1) by similar length."""
    starts_B = np.cumsum(lengths_B) - lengths_B
    groups, tokens, padding, offset = [], [], [], 0
    members = _similar_texts(lengths_B)
    for texts in members:
        length = int(lengths_B[texts[0]])
        if device.type == "cpu":
            length = rounded_length(length)
        positions_l = np.arange(length)
        is_token_bl = positions_l < lengths_B[texts, None]
        rows_bl = starts_B[texts, None] + np.where(is_token_bl, positions_l, 0)
        mask = None
        if not is_token_bl.all():
            mask = torch.from_numpy(np.where(is_token_bl, 0.0, -np.inf).astype(np.float32))[:, None, None, :]
            padding.append(_addresses(~is_token_bl, offset))
        tokens.append(_addresses(is_token_bl, offset))
        groups.append(AttentionGroup(_move(rows_bl, device), mask if mask is None else send(mask, device)))
        offset += rows_bl.size
    order_B = np.concatenate(members)
    tokens_5T = np.concatenate(tokens, axis=1)[:, _packed_order(lengths_B, order_B)]
    return AttentionPlan(
        groups=tuple(groups),
        tokens_5T=_move(tokens_5T, device),
        padding_5K=_move(np.concatenate(padding, axis=1), device) if padding else None,
        order_B=_move(order_B, device),
        ranks_B=_move(np.argsort(order_B), device),
        starts_B1=send(
            torch.from_numpy(np.concatenate([[0], np.cumsum(lengths_B)]).astype(np.int32)), device
        ),
        longest=int(lengths_B.max()),
    )


def rounded_length(length: int) -> int:
    """The length to which a group is padded on a CPU: a multiple of 8 up to 64, of 16 up to 128, of 32 above.

    oneDNN makes a kernel for every new shape of a bf16 product, which takes longer than the product; lengths that come
    again find theirs made (see `encoder.rounded_tokens`).
    """
    step = 8 if length <= 64 else 16 if length <= 128 else 32
    return -(-length // step) * step


def _similar_texts(lengths_B: IntArray) -> list[IntArray]:
    """Texts in groups, longest first; a group ends when its padding would cost more than a new group."""
    order_B = np.argsort(-lengths_B, kind="stable")
    sorted_B = lengths_B[order_B].tolist()
    bounds, wasted, longest = [], 0, sorted_B[0]
    for rank, length in enumerate(sorted_B):
        wasted += longest * longest - length * length
        if wasted > GROUP_COST:
            bounds.append(rank)
            wasted, longest = 0, length
    return np.split(order_B, bounds)


def _addresses(selected_bl: npt.NDArray[np.bool_], offset: int) -> IntArray:
    """For each selected slot: slots before its group, slots of a part, slots before its text, length, position."""
    num_texts, length = selected_bl.shape
    text, position = np.nonzero(selected_bl)
    same = np.ones_like(text)
    return np.stack([same * offset, same * (num_texts * length), text * length, same * length, position])


def _packed_order(lengths_B: IntArray, order_B: IntArray) -> IntArray:
    """For each packed token, its place when the texts follow one another in `order_B`."""
    begins_B = np.empty_like(lengths_B)
    begins_B[order_B] = np.cumsum(lengths_B[order_B]) - lengths_B[order_B]
    starts_B = np.cumsum(lengths_B) - lengths_B
    places_T: IntArray = np.arange(lengths_B.sum()) + np.repeat(begins_B - starts_B, lengths_B)
    return places_T


def _move(array: IntArray, device: torch.device) -> Tensor:
    return send(torch.from_numpy(np.ascontiguousarray(array)), device)


def attend_all(qkv_TE: Tensor, plan: HeadPlan, dropout: float = 0.0) -> Tensor:
    """Attention of every token to its text.

    `qkv_TE` holds queries, keys and values side by side (E = 3 D). Returns [T, D]. `dropout` is the probability with
    which attention weights are dropped.
    """
    kernel = varlen_kernel(qkv_TE, dropout)
    if kernel is not None:
        return attend_packed(qkv_TE, plan.starts_B1, plan.longest, num_heads=plan.num_heads, kernel=kernel)
    head_size = qkv_TE.shape[1] // (3 * plan.num_heads)
    slots = plan.queries_keys_values.to_slots(qkv_TE.view(-1, head_size))
    results = []
    for group, block in group_blocks(slots, plan, 3):
        query, key, value = block.unbind(0)
        results.append(
            attend(query, key, value, mask=group.mask_b11l, dropout=dropout).reshape(-1, head_size)
        )
    joined = results[0] if len(results) == 1 else torch.cat(results)
    return plan.outputs.to_rows(joined).view(len(qkv_TE), -1)


def attend_first(query_BD: Tensor, kv_TE: Tensor, plan: HeadPlan, dropout: float = 0.0) -> Tensor:
    """Attention of the first token of each text to its text; `kv_TE` has E = 2 D. Returns [B, D]."""
    num_texts, width = query_BD.shape
    head_size = width // plan.num_heads
    slots = plan.row_map(2).to_slots(kv_TE.view(-1, head_size))
    sizes = [len(group.rows_bl) for group in plan.groups]
    queries = plan.firsts.to_slots(query_BD).view(num_texts, plan.num_heads, 1, head_size)
    results = []
    for query, (group, block) in zip(torch.split(queries, sizes), group_blocks(slots, plan, 2), strict=True):
        key, value = block.unbind(0)
        results.append(attend(query, key, value, mask=group.mask_b11l, dropout=dropout).reshape(-1, width))
    return plan.firsts.to_rows(torch.cat(results))


def group_blocks(slots: Tensor, plan: HeadPlan, parts: int) -> Iterator[tuple[AttentionGroup, Tensor]]:
    """The slots of each group as [P, b, H, l, d]."""
    sizes = [parts * plan.num_heads * group.rows_bl.numel() for group in plan.groups]
    parts_of_slots = torch.split(slots, sizes) if len(sizes) > 1 else (slots,)
    for group, block in zip(plan.groups, parts_of_slots, strict=True):
        num_texts, length = group.rows_bl.shape
        yield group, block.view(parts, num_texts, plan.num_heads, length, -1)


def attend(query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None, dropout: float = 0.0) -> Tensor:
    """softmax(q k' / sqrt(d)) v for q [b, H, queries, d], k and v [b, H, l, d], by the kernel that is fastest here."""
    needs_gradient = torch.is_grad_enabled() and query.requires_grad
    if dropout > 0.0 or (
        query.device.type == "cpu"
        and (
            query.shape[2] == 1 or plain_is_faster(query.dtype, *key.shape[2:], needs_gradient=needs_gradient)
        )
    ):
        return plain_attention(query, key, value, mask=mask, dropout=dropout)
    return fused_attention(query, key, value, mask=mask)


# Milliseconds, plain/fused: 2,048 tokens in texts of one length, 12 heads of width d, two cores of a Xeon with AMX,
# torch 2.13 (benchmarks/attention_kernels.py; runs differ by 10 to 20 %). Forward + backward:
#   length       16        24        32        64        96       128       192       256       384       512
#   bf16 32  2.32/61.5 2.66/42.5 2.34/31.4 3.10/32.5 4.00/34.7 5.23/37.1 6.81/21.2 8.31/24.7 15.0/27.2 29.9/33.9
#   bf16 64  3.37/63.1 3.63/46.9 3.24/34.9 4.13/37.8 5.29/39.7 6.32/40.3 8.15/24.7 21.5/28.6 32.0/32.6 32.8/39.5
#   fp32 32  2.86/3.81 2.89/4.82 5.96/4.87 5.92/5.87 8.75/7.47 11.6/9.67 13.9/12.7 20.1/19.4 64.7/22.9 91.6/33.9
#   fp32 64  5.44/6.19 5.54/9.05 5.68/6.77 9.01/11.3 11.8/18.5 18.5/21.6 22.4/24.6 33.9/32.5 78.9/42.3  112/56.7
# Forward without gradient:
#   bf16 32  0.79/1.31 1.00/2.57 0.84/1.08 1.19/1.33 1.68/1.46 2.09/1.78 2.73/2.06 3.44/2.67 5.27/3.09 7.44/4.56
#   bf16 64  0.98/1.87 1.21/2.85 1.08/1.86 1.42/1.45 1.80/1.88 2.38/2.22 2.97/2.51 4.02/3.21 5.85/3.88 7.96/5.50
#   fp32 32  0.72/0.87 1.07/2.00 1.03/1.01 1.66/1.76 2.23/2.22 2.85/2.74 3.92/3.46 5.87/5.39 27.2/6.28 40.4/9.90
#   fp32 64  1.10/1.23 1.60/2.59 1.54/1.73 2.59/2.91 3.41/4.16 4.88/5.67 6.53/6.46 9.58/8.70 32.7/12.0 47.0/16.7
SHORTEST_BFLOAT16_SOFTMAX = 64
LONGEST_PLAIN_WITHOUT_GRADIENT = 64
LONGEST_PLAIN_BFLOAT16 = 512
LONGEST_PLAIN_FLOAT32_PER_WIDTH = 3


def plain_is_faster(dtype: torch.dtype, length: int, width: int, *, needs_gradient: bool = True) -> bool:
    """The measured choice on a CPU; GPUs have a fused kernel that is fast both ways."""
    if not needs_gradient:
        return length <= LONGEST_PLAIN_WITHOUT_GRADIENT
    if dtype == torch.float32:
        return length <= LONGEST_PLAIN_FLOAT32_PER_WIDTH * width
    return length <= LONGEST_PLAIN_BFLOAT16


def plain_attention(
    query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None, dropout: float = 0.0
) -> Tensor:
    """Two products and a softmax; the only kernel with dropout of attention weights."""
    num_texts, num_heads, num_queries, head_size = query.shape
    flat, length = num_texts * num_heads, key.shape[2]
    bias, beta = query.new_zeros(1, 1, 1), 0.0
    if mask is not None:
        bias, beta = mask.to(query.dtype).expand(-1, num_heads, -1, -1).reshape(flat, 1, length), 1.0
    keys = key.reshape(flat, length, head_size).transpose(1, 2)
    queries = query.reshape(flat, num_queries, head_size)
    scores = torch.baddbmm(bias, queries, keys, beta=beta, alpha=head_size**-0.5)
    weights = scores.softmax(-1, dtype=softmax_type(scores))
    if dropout > 0.0:
        weights = drop(weights, dropout)
    result = torch.bmm(weights.to(value.dtype), value.reshape(flat, length, head_size))
    return result.view(num_texts, num_heads, num_queries, head_size)


def softmax_type(scores: Tensor) -> torch.dtype:
    """fp32 for short rows on a CPU, where the bf16 kernel works off what exceeds 32 entries one by one.

    2,048 tokens in texts of 25, forward + backward: 3.3 ms in bf16, about 1 ms in fp32; in texts of 100: 2.0 and 2.9.
    """
    length = scores.shape[-1]
    is_slow = scores.device.type == "cpu" and length < SHORTEST_BFLOAT16_SOFTMAX and length % 32 != 0
    return torch.float32 if is_slow else scores.dtype


def fused_attention(query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None) -> Tensor:
    """PyTorch's `scaled_dot_product_attention`, which never writes the scores to memory."""
    bias = None if mask is None else mask.to(query.dtype)
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
