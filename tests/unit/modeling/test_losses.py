"""Reference: cases worked by hand with `math`, torch's own cross-entropy, formulas re-derived in float64."""

import math

import pytest
import torch
from torch.nn import functional

from manylabel.modeling import losses
from manylabel.modeling.losses import LabelCounts, Weighting


def logistic(z):
    return 1 / (1 + math.exp(-z))


def counts(positives, annotated):
    return LabelCounts(
        torch.tensor(positives, dtype=torch.float64), torch.tensor(annotated, dtype=torch.float64)
    )


COUNTS = counts([10, 2, 0, 0, 40], [100, 100, 100, 0, 40])
"""Common, rare, without positives, without annotations, without zeros."""
LOSSES = {
    "binary_cross_entropy": losses.binary_cross_entropy,
    "focal": lambda z, y, **rest: losses.focal(z, y, gamma=2.0, **rest),
    "focal_below_one": lambda z, y, **rest: losses.focal(z, y, gamma=0.5, **rest),
    "asymmetric": lambda z, y, **rest: losses.asymmetric(
        z, y, gamma_positive=1.0, gamma_negative=4.0, margin=0.05, **rest
    ),
    "asymmetric_no_margin": lambda z, y, **rest: losses.asymmetric(
        z, y, gamma_positive=0.0, gamma_negative=0.5, margin=0.0, **rest
    ),
    "distribution_balanced": lambda z, y, **rest: losses.distribution_balanced(z, y, counts=COUNTS, **rest),
}
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


@pytest.fixture
def random_cells():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(9, 5, generator=generator) * 6
    return logits, torch.randint(-1, 2, (9, 5), generator=generator, dtype=torch.int8)


def close(actual, expected):
    assert actual.dtype == torch.float32
    assert actual.flatten().tolist() == pytest.approx(expected, rel=2e-6, abs=1e-7)


# ------------------------------------------------------------------------------------------- each loss


def test_binary_cross_entropy_equals_torchs(random_cells):
    logits, targets = random_cells
    targets = targets.clamp(min=0)
    expected = functional.binary_cross_entropy_with_logits(logits, targets.float(), reduction="none")
    assert torch.equal(losses.binary_cross_entropy(logits, targets), expected)


def test_weights_of_positives_and_labels_by_hand():
    # Positive 3 x log(1 + e^-1), negative log(1 + e^2); then 0.5 and 2 times that for the two labels.
    weighting = Weighting(torch.tensor([3.0, 5.0]), torch.tensor([0.5, 2.0]))
    actual = losses.binary_cross_entropy(
        torch.tensor([[1.0, 2.0]]), torch.tensor([[1, 0]]), weighting=weighting
    )
    close(actual, [0.5 * 3 * math.log(1 + math.exp(-1)), 2 * math.log(1 + math.exp(2))])


def test_label_smoothing_by_hand():
    # Smoothing 0.1: a positive costs 0.9 x -log p + 0.1 x -log(1 - p).
    p = logistic(1.5)
    actual = losses.binary_cross_entropy(
        torch.tensor([[1.5, 1.5]]), torch.tensor([[1, 0]]), weighting=Weighting(smoothing=0.1)
    )
    positive, negative = -math.log(p), -math.log(1 - p)
    close(actual, [0.9 * positive + 0.1 * negative, 0.1 * positive + 0.9 * negative])


def test_label_smoothing_has_its_minimum_at_the_soft_target():
    logit = torch.tensor([[math.log(0.9 / 0.1)]], requires_grad=True)
    losses.binary_cross_entropy(
        logit, torch.tensor([[1]]), weighting=Weighting(smoothing=0.1)
    ).sum().backward()
    assert logit.grad.item() == pytest.approx(0, abs=1e-7)


def test_focal_by_hand():
    p, q = logistic(0.5), logistic(-2.0)
    actual = losses.focal(torch.tensor([[0.5, -2.0]]), torch.tensor([[1, 0]]), gamma=2.0)
    close(actual, [-((1 - p) ** 2) * math.log(p), -(q**2) * math.log(1 - q)])


@pytest.mark.parametrize("gamma", [0.5, 2.0, 3.7])
def test_focal_equals_the_formula_of_torchvision(random_cells, gamma):
    # torchvision.ops.sigmoid_focal_loss without alpha: cross-entropy x (1 - p_t)^gamma, here in float64.
    logits, targets = random_cells
    targets = targets.clamp(min=0)
    z, y = logits.double(), targets.double()
    p = torch.sigmoid(z)
    p_t = p * y + (1 - p) * (1 - y)
    expected = functional.binary_cross_entropy_with_logits(z, y, reduction="none") * (1 - p_t) ** gamma
    close(losses.focal(logits, targets, gamma=gamma), expected.flatten().tolist())


def test_focal_gradient_is_the_papers(random_cells):
    # Lin et al. 2017, appendix B: d FL / dz = t (1 - p_t)^g (g p_t log p_t + p_t - 1), with t = +1 or -1.
    logits, targets = random_cells
    targets = targets.clamp(min=0)
    logits.requires_grad_()
    losses.focal(logits, targets, gamma=2.0).sum().backward()
    t = 2 * targets.double() - 1
    p_t = torch.sigmoid(t * logits.detach().double())
    expected = t * (1 - p_t) ** 2 * (2 * p_t * p_t.log() + p_t - 1)
    close(logits.grad, expected.flatten().tolist())


def test_asymmetric_by_hand():
    # Positive: (1 - p)^1 x -log p. Negative: q = p - 0.05, q^4 x -log(1 - q); nothing from p <= 0.05 on.
    p, q = logistic(0.5), logistic(1.0) - 0.05
    actual = losses.asymmetric(
        torch.tensor([[0.5, 1.0, -3.0]]),
        torch.tensor([[1, 0, 0]]),
        gamma_positive=1.0,
        gamma_negative=4.0,
        margin=0.05,
    )
    assert logistic(-3.0) < 0.05
    close(actual, [-(1 - p) * math.log(p), -(q**4) * math.log(1 - q), 0.0])


def test_asymmetric_gradient_passes_through_the_focusing_factor():
    # d/dz of q^g x -log(1 - q) with dq/dz = p (1 - p): p (1 - p) (-g q^(g - 1) log(1 - q) + q^g / (1 - q)).
    logit = torch.tensor([[1.0]], requires_grad=True)
    losses.asymmetric(
        logit, torch.tensor([[0]]), gamma_positive=0.0, gamma_negative=4.0, margin=0.05
    ).sum().backward()
    p = logistic(1.0)
    q = p - 0.05
    expected = p * (1 - p) * (-4 * q**3 * math.log(1 - q) + q**4 / (1 - q))
    close(logit.grad, [expected])


def test_asymmetric_without_margin_is_focal(random_cells):
    logits, targets = random_cells
    actual = losses.asymmetric(logits, targets, gamma_positive=2.0, gamma_negative=2.0, margin=0.0)
    assert torch.equal(actual, losses.focal(logits, targets, gamma=2.0))


def test_focal_and_asymmetric_without_focusing_are_cross_entropy(random_cells):
    logits, targets = random_cells
    expected = losses.binary_cross_entropy(logits, targets).flatten().tolist()
    # torch's cross-entropy of a negative is z - log s(z): right to 1e-6, where z cancels.
    for unfocused in (
        losses.focal(logits, targets, gamma=0.0),
        losses.asymmetric(logits, targets, gamma_positive=0.0, gamma_negative=0.0, margin=0.0),
    ):
        assert unfocused.flatten().tolist() == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_distribution_balanced_by_hand():
    # 100 rows, label A in 50, B in 10, C in 20. The text has A and B: 1/50 + 1/10 = 0.12, so r is 1/6 for A, 5/6
    # for B and (1/20) / 0.12 = 5/12 for C. v is 0.05 log(1/P - 1): 0, 0.05 log 9, 0.05 log 4.
    weights = [0.1 + logistic(10 * (r - 0.2)) for r in (1 / 6, 5 / 6, 5 / 12)]
    shifted = [1.0 - 0.0, 0.5 - 0.05 * math.log(9), -0.5 - 0.05 * math.log(4)]
    expected = [
        weights[0] * math.log(1 + math.exp(-shifted[0])),
        weights[1] * math.log(1 + math.exp(-shifted[1])),
        weights[2] / 2 * math.log(1 + math.exp(2 * shifted[2])),
    ]
    actual = losses.distribution_balanced(
        torch.tensor([[1.0, 0.5, -0.5]]),
        torch.tensor([[1, 1, 0]]),
        counts=counts([50, 10, 20], [100, 100, 100]),
    )
    close(actual, expected)


def test_distribution_balanced_in_the_cases_the_paper_leaves_open():
    # No positives in the text: w = 1.1. v: label 0 has 0.5 ones and 100 zeros, label 1 nothing annotated (0.5 : 0.5).
    actual = losses.distribution_balanced(
        torch.tensor([[0.0, 0.0]]), torch.tensor([[0, 0]]), counts=counts([0, 0], [100, 0])
    )
    first = 1.1 / 2 * math.log(1 + math.exp(2 * -0.05 * math.log(100 / 0.5)))
    close(actual, [first, 1.1 / 2 * math.log(2)])


# --------------------------------------------------------------------------------------- label weights


def test_positive_weights_by_hand():
    # 90 / 10, 98 / 2 capped, no positives, nothing annotated, no zeros; and more ones than zeros.
    assert losses.positive_weights(COUNTS, cap=10.0).tolist() == [9.0, 10.0, 1.0, 1.0, 1.0]
    assert losses.positive_weights(counts([80], [100]), cap=10.0).tolist() == [0.25]


def test_class_balanced_weights_by_hand():
    # beta 0.5: effective numbers of 1 and 2 positives are 1 and 1.5, weights 1 and 2/3, divided by their mean 5/6.
    weights = losses.class_balanced_weights(counts([1, 2, 0], [9, 9, 9]), beta=0.5)
    close(weights, [1.2, 0.8, 1.0])


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999, 0.9999999])
def test_class_balanced_weights_average_1(beta):
    weights = losses.class_balanced_weights(counts([3, 50_000, 700, 0], [60_000] * 4), beta=beta)
    assert weights.mean().item() == pytest.approx(1.0)
    assert weights[0] >= weights[2] >= weights[1] > 0
    assert weights[3] == 1


def test_class_balanced_weights_without_any_positive_are_1():
    assert losses.class_balanced_weights(counts([0, 0], [5, 0]), beta=0.999).tolist() == [1.0, 1.0]


# ------------------------------------------------------------------------------------------- all losses


@each_loss
def test_cells_not_annotated_are_zero_in_loss_and_gradient(loss, random_cells):
    logits, targets = random_cells
    masked = targets == -1
    logits[masked] = torch.tensor([math.nan, math.inf, -math.inf, 1e30]).repeat(12)[: int(masked.sum())]
    logits.requires_grad_()
    cells = loss(logits, targets)
    cells.sum().backward()
    assert (cells[masked] == 0).all()
    assert (logits.grad[masked] == 0).all()
    assert torch.isfinite(cells).all()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[(targets == 1)] != 0).all()


@each_loss
def test_other_cells_do_not_depend_on_cells_not_annotated(loss, random_cells):
    logits, targets = random_cells
    other = torch.where(targets == -1, logits + 7, logits)
    assert torch.equal(loss(logits, targets), loss(other, targets))


@each_loss
def test_bf16_logits_are_computed_in_fp32(loss, random_cells):
    logits, targets = random_cells
    logits = logits.bfloat16().requires_grad_()
    cells = loss(logits, targets)
    assert cells.dtype == torch.float32
    assert torch.equal(cells, loss(logits.detach().float(), targets))
    cells.sum().backward()
    assert logits.grad.dtype == torch.bfloat16


@each_loss
def test_weights_scale_cells(loss, random_cells):
    logits, targets = random_cells
    label = torch.tensor([0.5, 1.0, 2.0, 3.0, 0.0])
    positive = torch.tensor([2.0, 4.0, 1.0, 0.5, 8.0])
    factors = torch.where(targets == 1, positive, 1.0) * label
    actual = loss(logits, targets, weighting=Weighting(positive, label))
    # Cross-entropy without weights of positives is torch's own, whose values are right to 1e-6 (as above).
    assert torch.allclose(actual, loss(logits, targets) * factors, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "distribution_balanced"])
def test_smoothing_mixes_what_both_targets_would_cost(name, random_cells):
    # The re-balancing weight of the distribution-balanced loss depends on the targets, so it is not among these.
    logits, targets = random_cells
    targets = targets.clamp(min=0)
    soft = LOSSES[name](logits, targets, weighting=Weighting(smoothing=0.2))
    expected = 0.8 * LOSSES[name](logits, targets) + 0.2 * LOSSES[name](logits, 1 - targets)
    close(soft, expected.flatten().tolist())
