"""Steps by C++ kernels beside the same steps by PyTorch's operators; both are compared with torch's AdamW elsewhere."""

import pytest
import torch
from torch import nn

from manylabel.modeling.native.library import library, without_library
from manylabel.training.optimizer import ParameterGroup
from manylabel.training.readings import clipped
from manylabel.training.weights import Weights

GROUPS = (
    ParameterGroup(("wide.weight", "narrow.weight"), 1e-2, 0.1, None),
    ParameterGroup(("wide.bias", "norm.weight", "norm.bias", "narrow.bias"), 2e-2, 0.0, None),
)


def new_module():
    torch.manual_seed(1)
    return nn.ModuleDict(
        {"wide": nn.Linear(300, 130), "norm": nn.LayerNorm(130), "narrow": nn.Linear(130, 5)}
    )


def one_pass(module, seed, without):
    """Leaves a gradient of random numbers with every parameter but one."""
    generator = torch.Generator().manual_seed(seed)
    loss = torch.zeros(())
    for name, parameter in module.named_parameters():
        given = torch.randn(parameter.shape, generator=generator)
        if name != without:
            loss = loss + (parameter.float() * given).sum()
    loss.backward()


def trained(dtype, *, num_passes, sum_, limit, ema_decay):
    """Weights after six steps, and the norms of their gradients; a group sleeps in the second step."""
    module = new_module()
    weights = Weights(module, GROUPS, dtype=dtype, ema_decay=ema_decay)
    norms = []
    for step in range(6):
        awake = (True, step != 1)
        weights.begin(torch.zeros(0, dtype=torch.int64), awake)
        for number in range(num_passes):
            one_pass(module, 10 * step + number, without="narrow.weight" if step == 3 else "norm.bias")
        norms.append(float(weights.collect(sum_)))
        rates = [1e-2 / (step + 1), 2e-2]
        weights.step(rates, clipped(norms[-1], limit))
    weights.release()
    return {name: parameter.detach() for name, parameter in module.named_parameters()}, norms


@pytest.mark.skipif(library() is None, reason="no C++ kernels were built for this processor")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num_passes", [1, 3])
@pytest.mark.parametrize("sum_", [None, lambda gradient: gradient.mul_(2.0)], ids=["alone", "summed"])
@pytest.mark.parametrize(("limit", "ema_decay"), [(1.0, 0.0), (1e9, 0.9)])
def test_steps_by_kernels_are_those_by_operators(dtype, num_passes, sum_, limit, ema_decay):
    options = {"num_passes": num_passes, "sum_": sum_, "limit": limit, "ema_decay": ema_decay}
    found, norms = trained(dtype, **options)
    with without_library():
        expected, expected_norms = trained(dtype, **options)
    assert norms == pytest.approx(expected_norms, rel=1e-5)  # PyTorch adds up squares of all values in fp32
    start = dict(new_module().named_parameters())
    for name, values in found.items():
        torch.testing.assert_close(values, expected[name], rtol=0, atol=1e-6)
        assert not torch.equal(values, start[name].detach()) or name == "norm.bias"
