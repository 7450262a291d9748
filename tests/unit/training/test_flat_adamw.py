import pytest
import torch

from manylabel.training.flat_adamw import FlatAdamW, Place, norm_of


@pytest.mark.parametrize("dtypes", [[torch.float32], [torch.bfloat16], [torch.bfloat16, torch.float32]])
def test_the_norm_of_gradients_taken_together(dtypes):
    generator = torch.Generator().manual_seed(1)
    shapes = [(30, 40), (7,), (128, 3), (1,)]
    gradients = [
        torch.randn(shape, generator=generator).to(dtypes[index % len(dtypes)])
        for index, shape in enumerate(shapes)
    ]
    exact = torch.cat([gradient.double().flatten() for gradient in gradients]).norm()
    assert norm_of(gradients, torch.zeros(100)) == pytest.approx(float(exact), rel=1e-6)
    assert norm_of([], torch.zeros(100)) == 0.0


def test_a_norm_that_is_not_finite_is_said():
    gradient = torch.ones(300, dtype=torch.bfloat16)
    gradient[200] = torch.nan
    assert norm_of([gradient], torch.zeros(100)) != norm_of([gradient], torch.zeros(100))


def test_pieces_give_what_torchs_adamw_gives():
    generator = torch.Generator().manual_seed(1)
    parameter = torch.nn.Parameter(torch.randn(50, generator=generator))
    flat = parameter.detach().clone()
    theirs = torch.optim.AdamW([parameter], lr=1e-2, weight_decay=0.1, fused=True)
    ours = FlatAdamW(flat, 1)
    for step in range(1, 6):
        parameter.grad = torch.randn(50, generator=generator)
        ours.begin(0)
        for start, stop in ((0, 16), (16, 48), (48, 50)):
            gradient = parameter.grad[start:stop].clone()
            ours.update(Place(start, stop, 0), gradient, rate=1e-2 / step, weight_decay=0.1)
        theirs.param_groups[0]["lr"] = 1e-2 / step
        theirs.step()
        torch.testing.assert_close(flat, parameter.detach(), rtol=0, atol=1e-7)
