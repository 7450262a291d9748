"""A layer whose way back is written out against the same layer in autograd's hands."""

import numpy as np
import pytest
import torch

from manylabel.modeling.attention import plan_attention
from manylabel.modeling.encoder import Layer
from manylabel.modeling.rows import ACTIVATION_GRADIENTS
from manylabel.modeling.shape import EncoderShape

pytestmark = pytest.mark.usefixtures("engine")

LENGTHS = [[5, 5, 5], [9, 3, 7, 1, 6], [40, 70, 3, 3, 110, 9]]


def new_layer(activation="gelu", dropout=0.0, dtype=torch.float32):
    shape = EncoderShape("bert", 10, 24, 1, 3, 40, 128, activation=activation)
    layer = Layer(shape, dropout=dropout, attention_dropout=0.0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3 + (parameter.ndim == 1))
    return layer.to(dtype)


def plainly(layer, hidden_TD, plan):
    """Module by module, as on a GPU."""
    changed = layer.attention(hidden_TD, plan, None)
    middle = layer.attention_norm(hidden_TD + layer.dropout(changed))
    changed = layer.down(layer._activation.function(layer.up(middle)))
    return layer.output_norm(middle + layer.dropout(changed))


def run(layer, way, lengths, fillers=0):
    """Result, and gradients of the input and of every parameter, of a loss that sees no filler."""
    plan = plan_attention(np.array(lengths), torch.device("cpu")).for_heads(3, fillers)
    generator = torch.Generator().manual_seed(2)
    weight = next(layer.parameters())
    hidden_TD = torch.randn(sum(lengths) + fillers, 24, generator=generator).to(weight.dtype).requires_grad_()
    factors_TD = torch.randn(sum(lengths), 24, generator=generator)
    torch.manual_seed(3)
    layer.zero_grad()
    result = way(layer, hidden_TD, plan)
    (result[: sum(lengths)].float() * factors_TD).sum().backward()
    grads = [None if parameter.grad is None else parameter.grad.clone() for parameter in layer.parameters()]
    return result.detach()[: sum(lengths)], [hidden_TD.grad, *grads]


def assert_near(found, expected, tolerance):
    scale = max(float(expected.float().abs().max()), 1e-3)
    assert float((found.float() - expected.float()).abs().max()) <= tolerance * scale


@pytest.mark.parametrize("activation", ACTIVATION_GRADIENTS)
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize(("dropout", "fillers"), [(0.0, 0), (0.3, 3)])
def test_results_are_the_same_and_gradients_to_rounding(activation, lengths, dropout, fillers, engine):
    layer = new_layer(activation, dropout)
    result, gradients = run(layer, Layer.__call__, lengths, fillers)
    expected, wanted = run(layer, plainly, lengths, fillers)
    if engine == "operators":
        assert torch.equal(result, expected)
    else:
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)
    for gradient, want in zip(gradients, wanted, strict=True):
        assert_near(gradient, want, 2e-5)


@pytest.mark.parametrize("lengths", LENGTHS)
def test_in_bf16_gradients_are_as_near_to_fp32_as_those_of_autograd(lengths):
    exact = run(new_layer(dropout=0.1), plainly, lengths)[1]
    layer = new_layer(dropout=0.1, dtype=torch.bfloat16)
    ours, theirs = (run(layer, way, lengths)[1] for way in (Layer.__call__, plainly))

    def distance(gradients):
        pairs = zip(gradients, exact, strict=True)
        return float(sum((gradient.float() - want).square().sum() for gradient, want in pairs)) ** 0.5

    assert distance(ours) <= 1.2 * distance(theirs)


@pytest.mark.parametrize(
    "frozen", [["attention.qkv.weight"], ["up.weight", "up.bias"], ["attention_norm.bias"]]
)
def test_what_is_frozen_gets_no_gradient_and_the_rest_the_same(frozen):
    layer = new_layer()
    expected = run(layer, plainly, LENGTHS[1])[1][1:]
    names = [name for name, _ in layer.named_parameters()]
    for name in frozen:
        layer.get_parameter(name).requires_grad_(False)
        layer.get_parameter(name).grad = None
    found = run(layer, Layer.__call__, LENGTHS[1])[1][1:]
    for name, gradient, want in zip(names, found, expected, strict=True):
        assert (gradient is None) == (name in frozen)
        if gradient is not None:
            assert_near(gradient, want, 2e-5)


def test_without_gradients_the_modules_are_used():
    layer = new_layer()
    plan = plan_attention(np.array([5, 3]), torch.device("cpu")).for_heads(3)
    hidden_TD = torch.randn(8, 24)
    with torch.no_grad():
        result = layer(hidden_TD, plan)
    assert result.grad_fn is None
    torch.testing.assert_close(result, layer(hidden_TD, plan).detach(), rtol=0, atol=1e-5)
