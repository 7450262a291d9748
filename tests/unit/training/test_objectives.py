"""Reference: torch's own BCE with logits, cases worked by hand, and the functions of modeling/losses.py."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from manylabel.config.schema import LossSettings
from manylabel.modeling import losses
from manylabel.modeling.losses import LabelCounts, Weighting
from manylabel.training.objectives import MultiLabelObjective, build_objective

# Label 0: 1 one, 3 zeros; label 1: 2 ones, 1 zero; label 2: no ones; label 3: nothing annotated.
KNOWN = np.array([[1, 1, 0, -1], [0, 1, 0, -1], [0, 0, -1, -1], [0, -1, 0, -1]], dtype=np.int8)
COUNTS = LabelCounts(torch.tensor([1.0, 2.0, 0.0, 0.0]).double(), torch.tensor([4.0, 3.0, 3.0, 0.0]).double())
LOGITS = torch.tensor([[0.3, -1.0, 2.0, 0.5], [-0.7, 1.5, -2.0, 0.1]])
TARGETS = torch.tensor([[1, 0, 1, -1], [0, 1, -1, 1]], dtype=torch.int8)


def test_hand_worked_case():
    # -log s(0) = log 2 for the first cell; the second is not annotated; -log(1 - s(2)) = log(1 + e^2) for the third.
    logits = torch.tensor([[0.0, 5.0, 2.0]])
    targets = torch.tensor([[1, -1, 0]], dtype=torch.int8)
    objective = MultiLabelObjective()
    assert objective.counts(targets) == 2
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


def test_default_settings_are_plain_cross_entropy():
    plain = MultiLabelObjective().summed_loss(LOGITS, TARGETS)
    assert torch.equal(build_objective(LossSettings(), KNOWN).summed_loss(LOGITS, TARGETS), plain)


@pytest.mark.parametrize(
    ("settings", "cells"),
    [
        (
            {"label_weights": "positive", "positive_weight_cap": 2.0},
            losses.binary_cross_entropy(
                # 3 / 1 capped at 2, 1 / 2, and 1 where there is nothing to balance.
                LOGITS, TARGETS, weighting=Weighting(positive_L=torch.tensor([2.0, 0.5, 1.0, 1.0]))
            ),
        ),
        (
            {"label_weights": "class_balanced", "class_balanced_beta": 0.5, "label_smoothing": 0.1},
            losses.binary_cross_entropy(
                LOGITS, TARGETS, weighting=Weighting(label_L=torch.tensor([1.2, 0.8, 1.0, 1.0]), smoothing=0.1)
            ),
        ),
        ({"kind": "focal", "focal_gamma": 1.5}, losses.focal(LOGITS, TARGETS, gamma=1.5)),
        (
            {"kind": "asymmetric", "gamma_positive": 0.5, "gamma_negative": 3.0, "margin": 0.1},
            losses.asymmetric(LOGITS, TARGETS, gamma_positive=0.5, gamma_negative=3.0, margin=0.1),
        ),
        (
            {"kind": "distribution_balanced"},
            losses.distribution_balanced(LOGITS, TARGETS, counts=COUNTS),
        ),
    ],
    ids=["positive", "class_balanced", "focal", "asymmetric", "distribution_balanced"],
)  # fmt: skip
def test_settings_choose_loss_and_weights(settings, cells):
    objective = build_objective(LossSettings(**settings), KNOWN)
    assert objective.summed_loss(LOGITS, TARGETS).item() == pytest.approx(cells.sum().item(), rel=1e-6)
    assert objective.counts(TARGETS) == 6


ALL_SETTINGS = [
    LossSettings(kind=kind, label_weights=weights, label_smoothing=0.05)
    for kind in ("bce", "focal", "asymmetric", "distribution_balanced")
    for weights in ("none", "positive", "class_balanced")
]


@pytest.mark.parametrize(
    "settings", ALL_SETTINGS, ids=lambda settings: f"{settings.kind}-{settings.label_weights}"
)
def test_weights_follow_the_logits_to_their_device(settings):
    # The meta device stands for any other one: torch refuses to mix its tensors with those of the CPU.
    objective = build_objective(settings, KNOWN)
    loss = objective.summed_loss(LOGITS.to("meta"), TARGETS.to("meta"))
    assert loss.device.type == "meta"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(
    "settings", ALL_SETTINGS, ids=lambda settings: f"{settings.kind}-{settings.label_weights}"
)
def test_bf16_on_a_gpu_equals_fp32_on_the_cpu(settings):
    objective, logits = build_objective(settings, KNOWN), LOGITS.bfloat16()
    expected = objective.summed_loss(logits.float(), TARGETS)
    actual = objective.summed_loss(logits.cuda(), TARGETS.cuda())
    assert actual.device.type == "cuda"
    assert actual.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("settings", [s for s in ALL_SETTINGS if s.label_weights != "none"])
def test_weighted_losses_need_counts(settings):
    with pytest.raises(ValueError, match="build_objective"):
        MultiLabelObjective(settings)


@pytest.mark.parametrize(
    "settings", ALL_SETTINGS, ids=lambda settings: f"{settings.kind}-{settings.label_weights}"
)
def test_training_targets_may_be_all_unknown(settings):
    objective = build_objective(settings, np.full((3, 4), -1, dtype=np.int8))
    logits = LOGITS.clone().requires_grad_()
    loss = objective.summed_loss(logits, TARGETS)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("kind", ["bce", "focal", "asymmetric", "distribution_balanced"])
def test_a_soft_target_costs_what_lies_between(kind):
    """y times a positive's cost and 1 - y times a negative's, and whole numbers cost the same in both formats."""
    objective = build_objective(LossSettings(kind=kind), KNOWN)
    whole = objective.summed_loss(LOGITS, TARGETS)
    assert torch.equal(objective.summed_loss(LOGITS, TARGETS.float()), whole)
    if kind == "distribution_balanced":
        return  # Its weights depend on the text's other labels.
    costs = [objective.summed_loss(torch.tensor([[0.3]]), torch.tensor([[y]])) for y in (1.0, 0.0, 0.25)]
    torch.testing.assert_close(costs[2], 0.25 * costs[0] + 0.75 * costs[1])


def test_soft_targets_of_plain_cross_entropy_are_those_of_torch():
    soft = torch.tensor([[0.2, 0.9, -1.0]])
    logits = torch.tensor([[0.5, -1.0, torch.inf]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        logits[:, :2], soft[:, :2], reduction="sum"
    )
    assert torch.allclose(MultiLabelObjective().summed_loss(logits, soft), expected)
