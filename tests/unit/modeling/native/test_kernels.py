"""Every C++ kernel against PyTorch in fp64, and against a Philox written out here, whose test vector is Random123's."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional

from manylabel.modeling.native import kernels
from manylabel.modeling.native.library import FORMATS, StepNumbers, library, without_library
from manylabel.training.flat_adamw import norm_of

pytestmark = pytest.mark.skipif(library() is None, reason="no C++ kernels were built for this processor")

DTYPES = tuple(FORMATS)
ROUNDING = {torch.float32: 3e-6, torch.bfloat16: 1e-2}
"""Largest error against the largest value; bf16 keeps eight bits."""
SHAPES = [(1, 4), (3, 8), (7, 24), (50, 100), (33, 384)]


@pytest.fixture(params=[1, 2, 3], autouse=True)
def num_threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def randn(*shape, dtype=torch.float32, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_near(found, expected, dtype):
    assert found.shape == expected.shape
    found, expected = found.detach().double(), expected.detach().double()
    error = (found - expected).abs().max()
    assert float(error) <= ROUNDING[dtype] * max(float(expected.abs().max()), 1e-3)


def philox(counters, seed, rounds=7):
    """[n, 4] words of 32 bits (Salmon et al. 2011, section 3.3), counter in the lower 64 of 128 bits."""
    mask = np.uint64(0xFFFFFFFF)
    low, high = counters & mask, counters >> np.uint64(32)
    words = [low, high, np.zeros_like(low), np.zeros_like(low)]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(rounds):
        one, two = words[0] * np.uint64(0xD2511F53), words[2] * np.uint64(0xCD9E8D57)
        words = [
            (two >> np.uint64(32)) ^ words[1] ^ np.uint64(key[0]),
            two & mask,
            (one >> np.uint64(32)) ^ words[3] ^ np.uint64(key[1]),
            one & mask,
        ]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return np.stack(words, axis=1).astype(np.uint32)


def test_the_philox_of_this_file_is_random123s():
    found = philox(np.zeros(1, np.uint64), 0)
    assert [f"{word:08x}" for word in found[0]] == ["5f6fb709", "0d893f64", "4f121f81", "4f730a48"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 127, 128, 1000])
def test_masks_are_philox_draws(dtype, size):
    torch.manual_seed(5)
    seed = int(torch.empty((), dtype=torch.int64).random_(0, 2**63 - 1))
    blocks = -(-size // 128)
    # 16 counters at once give 4 x 16 words, each of them two draws.
    words = philox(np.arange(blocks * 16, dtype=np.uint64), seed).reshape(blocks, 16, 4).transpose(0, 2, 1)
    draws = np.ascontiguousarray(words).view(np.uint16).reshape(-1)[:size]
    torch.manual_seed(5)
    mask = torch.full((size,), torch.nan, dtype=dtype)
    kernels.draw_mask(mask, dropped=20_000, scale=1.5)
    assert torch.equal(mask.float(), torch.from_numpy(np.where(draws >= 20_000, 1.5, 0.0)).float())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("has_mask", [True, False])
def test_join_and_its_way_back(dtype, shape, has_mask):
    changed, kept, gradient = (randn(*shape, dtype=dtype, seed=seed) for seed in (1, 2, 3))
    mask = (randn(*shape, seed=4) > 0).to(dtype) * 2 if has_mask else None
    weight, bias = randn(shape[1], seed=5), randn(shape[1], seed=6)
    inputs = [tensor.double().requires_grad_() for tensor in (changed, kept, weight, bias)]
    dropped = inputs[0] if mask is None else inputs[0] * mask.double()
    # What is kept for the way back is rounded to the format; the reference rounds there too.
    total = inputs[1] + dropped
    rounded = total + (total.detach().to(dtype).double() - total.detach())
    expected = functional.layer_norm(rounded, shape[1:], *inputs[2:], 1e-3)
    expected.backward(gradient.double())
    sum_before_the_norm = changed.clone()
    result, mean, inverse = kernels.join(sum_before_the_norm, kept, mask, weight, bias, 1e-3)
    assert_near(sum_before_the_norm, total, dtype)
    assert_near(result, expected, dtype)
    back = kernels.unjoin(gradient, (sum_before_the_norm, mean, inverse), mask, weight)
    assert_near(back.to_kept_TD, inputs[1].grad, dtype)
    assert_near(back.to_changed_TD, inputs[0].grad, dtype)
    assert_near(back.to_weight_D, inputs[2].grad, dtype)
    assert_near(back.to_bias_D, inputs[3].grad, torch.float32)
    scale = inputs[0].grad.abs().sum(0).max()
    assert (
        float((back.to_changed_sum_D.double() - inputs[0].grad.sum(0)).abs().max()) <= ROUNDING[dtype] * scale
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_gelu_and_its_way_back(dtype, shape):
    x, gradient = randn(*shape, dtype=dtype) * 4, randn(*shape, dtype=dtype, seed=2)
    exact = x.double().requires_grad_()
    expected = functional.gelu(exact)
    expected.backward(gradient.double())
    assert_near(kernels.gelu(x), expected, dtype)
    summed = kernels.gelu_gradient(gradient, x)
    assert_near(gradient, exact.grad, dtype)
    assert (
        float((summed.double() - exact.grad.sum(0)).abs().max())
        <= ROUNDING[dtype] * exact.grad.abs().sum(0).max()
    )


def test_gelu_of_what_is_large_small_or_no_number():
    x = torch.tensor([-200.0, -20.0, -1e-30, 0.0, 1e-30, 20.0, 3e38, torch.nan, torch.inf, -torch.inf, -8.0])
    found = kernels.gelu(x)
    torch.testing.assert_close(
        found[[0, 1, 2, 3, 4, 5, 6, 10]], functional.gelu(x)[[0, 1, 2, 3, 4, 5, 6, 10]]
    )
    assert found[7].isnan()
    assert found[8] == torch.inf


def attention_of(qkv, lengths, num_heads):
    width = qkv.shape[1] // 3
    results = []
    for text in torch.split(qkv[: sum(lengths)], lengths):
        query, key, value = text.view(len(text), 3, num_heads, width // num_heads).permute(1, 2, 0, 3)
        weights = (query @ key.transpose(1, 2) * (width // num_heads) ** -0.5).softmax(-1)
        results.append((weights @ value).permute(1, 0, 2).reshape(len(text), width))
    return torch.cat(results)


@pytest.mark.parametrize("head_size", [5, 8, 32, 40, 64])
@pytest.mark.parametrize("lengths", [[1], [7, 8, 9], [64, 1, 31, 16, 3, 48]])
def test_attention_and_its_way_back(head_size, lengths):
    num_heads, fillers = 3, 2
    width, num_rows = num_heads * head_size, sum(lengths) + fillers
    qkv, gradient = randn(num_rows, 3 * width) * 2, randn(num_rows, width, seed=2)
    starts = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)
    exact = qkv.double().requires_grad_()
    expected = attention_of(exact, lengths, num_heads)
    expected.backward(gradient[: sum(lengths)].double())
    context = kernels.attend(qkv, starts, num_heads)
    assert_near(context[: sum(lengths)], expected, torch.float32)
    back = kernels.attention_gradient(qkv, starts, gradient, num_heads)
    assert_near(back, exact.grad, torch.float32)
    assert not context[sum(lengths) :].any()
    assert not back[sum(lengths) :].any()


def test_attention_tells_of_what_is_no_number_in_that_text_alone():
    qkv, starts = randn(10, 3 * 16), torch.tensor([0, 4, 10], dtype=torch.int32)
    qkv[1, 3] = torch.nan
    context = kernels.attend(qkv, starts, 2)
    assert context[:4, :8].isnan().any()
    assert context[4:].isfinite().all()


@pytest.mark.parametrize("length", [5, 20])
def test_what_is_no_number_stays_in_its_text_on_the_way_back(length):
    """The memory a thread works in still holds the text before: 64 tokens of NaN."""
    qkv, gradient = randn(64 + length, 3 * 16), randn(64 + length, 16, seed=2)
    qkv[:64] = torch.nan
    gradient[:64] = torch.nan
    starts = torch.tensor([0, 64, 64 + length], dtype=torch.int32)
    back = kernels.attention_gradient(qkv, starts, gradient, 1)
    assert back[:64].isnan().all()
    assert back[64:].isfinite().all()


FEWER_THREADS = """
import torch
from manylabel.modeling.native import kernels
torch.set_num_threads(4)
x, gradient = torch.randn(50, 24), torch.ones(50, 24)
expected = torch.ops.aten.gelu_backward(gradient, x)
summed = kernels.gelu_gradient(gradient, x)
assert kernels.serves(x)
torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-5)
torch.testing.assert_close(summed, expected.sum(0), rtol=0, atol=1e-4)
"""


def test_all_rows_are_counted_where_openmp_gives_fewer_threads():
    limited = os.environ | {"OMP_THREAD_LIMIT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", FEWER_THREADS], env=limited, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("size", [1, 16_384, 40_000])
def test_the_norm_of_gradients_of_both_formats_and_of_none(size):
    gradients = [randn(size), randn(5, dtype=torch.bfloat16), None, randn(300, 3)[:, 1]]
    table = kernels.GradientTable(gradients, [0, size, size + 5, size + 10], [size, 5, 5, 300])
    present = [gradient.contiguous() for gradient in gradients if gradient is not None]
    assert table.norm() == pytest.approx(norm_of(present, torch.zeros(1000)), rel=1e-6)
    gradients[1][2] = torch.nan
    assert np.isnan(kernels.GradientTable(gradients[1:2], [0], [5]).norm())
    assert kernels.GradientTable([], [], []).norm() == 0.0


def numbers_of(step):
    """Half of every gradient, rate 1e-2, decay 0.1."""
    rate, root = 1e-2 / (1 - 0.9**step), (1 - 0.999**step) ** 0.5
    return StepNumbers(0.5, 1 - 1e-2 * 0.1, rate, root, 1 - 0.9, 0.999, 1 - 0.999, 1e-8)


def test_adamw_is_torchs_for_gradients_of_both_formats_and_of_none():
    sizes, starts = [40_000, 7, 20, 30], [0, 40_000, 40_016, 40_048]
    values, copy = randn(40_080), torch.zeros(40_080, dtype=torch.bfloat16)
    parameters = [
        torch.nn.Parameter(values[start : start + size].clone())
        for start, size in zip(starts, sizes, strict=True)
    ]
    theirs = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1, betas=(0.9, 0.999), eps=1e-8)
    moments = (torch.zeros_like(values), torch.zeros_like(values))
    for step in range(1, 7):
        gradients = [
            randn(40_000, seed=step),
            randn(7, seed=step, dtype=torch.bfloat16),
            None,
            randn(30, seed=9),
        ]
        numbers = numbers_of(step)
        kernels.GradientTable(gradients, starts, sizes).adamw(values, moments, copy, numbers)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = torch.zeros_like(parameter) if gradient is None else gradient.float() * 0.5
        theirs.step()
    for parameter, start, size in zip(parameters, starts, sizes, strict=True):
        torch.testing.assert_close(values[start : start + size], parameter.detach(), rtol=0, atol=2e-6)
        assert torch.equal(copy[start : start + size], values[start : start + size].bfloat16())
    assert torch.equal(values[40_007:40_016], randn(40_080)[40_007:40_016])


def test_bf16_is_rounded_as_torch_rounds():
    weights = torch.cat([randn(2000) * 10.0**power for power in range(-40, 39, 4)])
    weights = torch.cat([weights, torch.tensor([torch.inf, -torch.inf, 3.3961e38, 0.0, -0.0])])
    copy = torch.zeros(len(weights), dtype=torch.bfloat16)
    moments = (torch.zeros_like(weights), torch.zeros_like(weights))
    table = kernels.GradientTable([None], [0], [len(weights)])
    table.adamw(weights, moments, copy, StepNumbers(1.0, 1.0, 0.0, 1.0, 0.1, 0.999, 0.001, 1e-8))
    assert torch.equal(copy, weights.bfloat16())


def test_what_kernels_serve():
    assert kernels.serves(randn(2, 3), randn(4))
    assert kernels.serves(randn(2, 3, dtype=torch.bfloat16))
    assert not kernels.serves(randn(2, 3), randn(2, 3, dtype=torch.bfloat16))
    assert not kernels.serves(randn(2, 3).t())
    assert not kernels.serves(randn(2, 3).double())
    with without_library():
        assert not kernels.serves(randn(2, 3))
