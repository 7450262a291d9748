"""Attention over packed texts by a kernel that takes them as they lie, without groups; called by `attention`.

PyTorch has FlashAttention in that form (`torch.nn.attention.varlen`, from 2.10) for CUDA in half precision, without
dropout of attention weights. Everywhere else `attention` lays texts of similar length side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

HALF_PRECISION = (torch.bfloat16, torch.float16)

Kernel = Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor]
"""query, key, value [T, H, d], starts [B + 1] in int32, longest text in tokens -> [T, H, d]."""


def varlen_kernel(values: Tensor, dropout: float) -> Kernel | None:
    """PyTorch's kernel where it runs: half precision on CUDA, no dropout of attention weights, PyTorch 2.10."""
    if values.device.type != "cuda" or values.dtype not in HALF_PRECISION or dropout > 0.0:
        return None
    try:
        from torch.nn.attention.varlen import varlen_attn  # noqa: F401 - only whether it is there
    except ImportError:
        return None
    return flash_kernel


def flash_kernel(query: Tensor, key: Tensor, value: Tensor, starts_B1: Tensor, longest: int) -> Tensor:
    """Full attention within each text; only the arguments that 2.10 to 2.13 have in the same places are given."""
    from torch.nn.attention.varlen import varlen_attn

    result = varlen_attn(query, key, value, starts_B1, starts_B1, longest, longest)
    assert isinstance(result, Tensor)
    return result


def text_by_text(query: Tensor, key: Tensor, value: Tensor, starts_B1: Tensor, longest: int) -> Tensor:
    """The same on any device, a text at a time: what the kernel is tested against, and stands for it in tests."""
    results = []
    for begin, end in pairwise(starts_B1.tolist()):
        assert end - begin <= longest
        parts = [values[begin:end].transpose(0, 1) for values in (query, key, value)]
        result = functional.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        results.append(result.transpose(0, 1))
    return torch.cat(results)


def attend_packed(
    qkv_TE: Tensor, starts_B1: Tensor, longest: int, *, num_heads: int, kernel: Kernel
) -> Tensor:
    """Attention of every token to its text; `qkv_TE` holds queries, keys and values side by side. Returns [T, D]."""
    num_tokens = len(qkv_TE)
    query, key, value = qkv_TE.view(num_tokens, 3, num_heads, -1).unbind(1)
    return kernel(query, key, value, starts_B1, longest).reshape(num_tokens, -1)
