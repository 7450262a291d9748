"""Reference: torch's own BCE with logits, and a case worked by hand."""

import math

import pytest
import torch
from torch.nn import functional

from manylabel.training.objectives import MultiLabelObjective


def test_hand_worked_case():
    # -log s(0) = log 2 for the first cell; the second is not annotated; -log(1 - s(2)) = log(1 + e^2) for the third.
    logits = torch.tensor([[0.0, 5.0, 2.0]])
    targets = torch.tensor([[1, -1, 0]], dtype=torch.int8)
    objective = MultiLabelObjective()
    assert objective.count(targets) == 2
    expected = math.log(2) + math.log(1 + math.e**2)
    assert objective.summed_loss(logits, targets).item() == pytest.approx(expected, rel=1e-6)


def test_equals_torch_when_all_is_annotated():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(7, 5, generator=generator) * 10
    targets = torch.randint(0, 2, (7, 5), generator=generator)
    expected = functional.binary_cross_entropy_with_logits(logits, targets.float(), reduction="sum")
    assert torch.allclose(MultiLabelObjective().summed_loss(logits, targets.to(torch.int8)), expected)


def test_cells_not_annotated_have_no_gradient():
    logits = torch.randn(4, 3, requires_grad=True)
    targets = torch.tensor([[1, -1, 0]] * 4, dtype=torch.int8)
    MultiLabelObjective().summed_loss(logits, targets).backward()
    assert logits.grad is not None
    assert (logits.grad[:, 1] == 0).all()
    assert (logits.grad[:, [0, 2]] != 0).all()


def test_huge_logits_stay_finite():
    logits = torch.tensor([[1e4, -1e4]], requires_grad=True)
    loss = MultiLabelObjective().summed_loss(logits, torch.tensor([[0, 1]], dtype=torch.int8))
    assert torch.isfinite(loss)
