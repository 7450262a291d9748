import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from manylabel.modeling import attention
from manylabel.modeling.attention import attend_all, attend_first, plan_attention

CPU = torch.device("cpu")
LENGTHS = st.lists(st.integers(1, 150), min_size=1, max_size=25)


def reference(query, key, value):
    """The definition, for one text: [l, H, d] each."""
    scores = torch.einsum("qhd,khd->hqk", query, key) / query.shape[-1] ** 0.5
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), value).flatten(1)


def test_a_hand_worked_case():
    query = torch.zeros(1, 1, 1, 4)
    key = torch.randn(1, 1, 2, 4)
    value = torch.tensor([[1.0, 0, 0, 0], [3.0, 2, 0, 0]]).view(1, 1, 2, 4)
    expected = torch.tensor([2.0, 1.0, 0.0, 0.0])
    for kernel in (attention.plain_attention, attention.fused_attention):
        assert torch.allclose(kernel(query, key, value, mask=None).flatten(), expected)
        mask = torch.tensor([0.0, -torch.inf]).view(1, 1, 1, 2)
        assert torch.allclose(kernel(query, key, value, mask=mask).flatten(), value[0, 0, 0])


@given(lengths=LENGTHS)
def test_all_tokens_against_the_definition(lengths):
    plan = plan_attention(np.array(lengths), CPU).for_heads(3)
    qkv_TE = torch.randn(sum(lengths), 3 * 12, generator=torch.Generator().manual_seed(len(lengths)))
    texts = qkv_TE.view(-1, 3, 3, 4).split(lengths)
    expected = torch.cat([reference(*text.unbind(1)) for text in texts])
    torch.testing.assert_close(attend_all(qkv_TE, plan), expected, rtol=0, atol=1e-5)


@given(lengths=LENGTHS)
def test_first_tokens_against_the_definition(lengths):
    plan = plan_attention(np.array(lengths), CPU).for_heads(3)
    qkv_TE = torch.randn(sum(lengths), 3 * 12, generator=torch.Generator().manual_seed(len(lengths)))
    texts = qkv_TE.view(-1, 3, 3, 4).split(lengths)
    expected = torch.cat([reference(*text.unbind(1))[:1] for text in texts])
    firsts_B = torch.tensor(np.cumsum(lengths) - lengths)
    found = attend_first(qkv_TE[firsts_B, :12], qkv_TE[:, 12:].contiguous(), plan)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@given(lengths=LENGTHS)
def test_slots_and_back_is_the_identity(lengths):
    plan = plan_attention(np.array(lengths), CPU).for_heads(2)
    rows = torch.randn(sum(lengths) * 2, 4)
    assert torch.equal(plan.outputs.to_rows(plan.outputs.to_slots(rows)), rows)


def test_the_gradient_of_a_gather_is_that_of_index_select():
    plan = plan_attention(np.array([5, 3, 5, 4]), CPU)
    assert len(plan.groups) == 1
    outputs = plan.for_heads(2).outputs
    slots = torch.randn(4 * 8 * 2, 4, requires_grad=True)
    ours = torch.autograd.grad(outputs.to_rows(slots).square().sum(), slots)[0]
    theirs = torch.autograd.grad(slots.index_select(0, outputs.inverse_R).square().sum(), slots)[0]
    assert torch.equal(ours, theirs)


@given(lengths=LENGTHS)
def test_groups_hold_every_text_once_and_little_padding(lengths):
    plan = plan_attention(np.array(lengths), CPU)
    assert sorted(plan.order_B.tolist()) == list(range(len(lengths)))
    assert plan.longest == max(lengths)
    begin = 0
    for group in plan.groups:
        texts = plan.order_B[begin : begin + len(group.rows_bl)].tolist()
        begin += len(texts)
        length = group.rows_bl.shape[1]
        longest = max(lengths[text] for text in texts)
        assert length == attention.rounded_length(longest)
        assert longest <= length < max(longest * 1.26, longest + 8)
        assert sum(longest**2 - lengths[text] ** 2 for text in texts) <= attention.GROUP_COST
        assert (group.mask_b11l is None) == all(lengths[text] == length for text in texts)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("length", [20, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_kernels_agree(dtype, length, masked):
    parts = [torch.randn(3, 2, length, 16, dtype=dtype, requires_grad=True) for _ in range(3)]
    mask = None
    if masked:
        mask = torch.where(torch.arange(length) < torch.tensor([length, 3, 9])[:, None], 0.0, -torch.inf)[
            :, None, None
        ]
    results = [kernel(*parts, mask=mask) for kernel in (attention.plain_attention, attention.fused_attention)]
    gradients = [torch.autograd.grad(result.float().square().sum(), parts) for result in results]
    tolerance = 1e-5 if dtype == torch.float32 else 0.15
    torch.testing.assert_close(results[0], results[1], rtol=0.02, atol=tolerance)
    for plain, fused in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, fused, rtol=0.05, atol=tolerance)


def test_attention_dropout_keeps_the_mean():
    torch.manual_seed(0)
    query, key = torch.zeros(1, 1, 2000, 4), torch.zeros(1, 1, 50, 4)
    value = torch.ones(1, 1, 50, 4)
    dropped = attention.attend(query, key, value, mask=None, dropout=0.5)
    assert dropped.std() > 0.05
    assert abs(float(dropped.mean()) - 1.0) < 0.02
