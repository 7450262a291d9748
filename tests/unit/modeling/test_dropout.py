import pytest
import torch

from manylabel.modeling.dropout import Dropout, dropout, dropout_mask

pytestmark = pytest.mark.usefixtures("engine")


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_share_mean_and_independence_of_neighbours(probability):
    torch.manual_seed(1)
    result = dropout(torch.ones(400_003), probability)
    zeros = (result == 0).float()
    assert abs(float(zeros.mean()) - probability) < 0.004
    assert abs(float(result.mean()) - 1.0) < 0.01 / (1 - probability)
    neighbours = torch.corrcoef(zeros[:400_000].view(-1, 4).T) - torch.eye(4)
    assert neighbours.abs().max() < 0.02


def test_kept_values_are_scaled_and_gradients_follow_the_mask():
    torch.manual_seed(1)
    values = torch.randn(1000, requires_grad=True)
    result = dropout(values, 0.25)
    kept = result != 0
    torch.testing.assert_close(result[kept], values[kept] / 0.75)
    (gradient,) = torch.autograd.grad(result.sum(), values)
    torch.testing.assert_close(gradient, kept.float() / 0.75)


def test_seeded_and_off_in_evaluation():
    values = torch.ones(64)
    torch.manual_seed(4)
    first = dropout(values, 0.5)
    torch.manual_seed(4)
    assert torch.equal(first, dropout(values, 0.5))
    assert torch.equal(Dropout(0.5).eval()(values), values)
    assert torch.equal(dropout(values, 0.0), values)


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.000001])
def test_bf16_drops_what_fp32_drops(probability):
    masks = []
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(5)
        masks.append(dropout_mask(torch.zeros(13, 7, dtype=dtype), probability))
    single, half = masks
    assert (single is None) == (half is None) == (probability < 1e-4)
    if single is not None:
        assert half.dtype == torch.bfloat16
        assert torch.equal(half, single.to(torch.bfloat16))
