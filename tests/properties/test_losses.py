"""What must hold for every loss, whatever the logits, targets, counts and settings."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manylabel.config.schema import LossSettings
from manylabel.training.objectives import build_objective

LOGITS = st.one_of(st.floats(-100, 100, width=32), st.sampled_from([-100.0, -17.5, 0.0, 17.5, 100.0]))
GAMMAS = st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0, 4.0, 9.5])


@st.composite
def batches(draw):
    """Logits and targets of a batch, and training targets that may lack any label and any annotation."""
    num_labels, num_texts = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    size = num_labels * num_texts
    logits = torch.tensor(draw(st.lists(LOGITS, min_size=size, max_size=size))).reshape(-1, num_labels)
    targets = draw(st.lists(st.integers(-1, 1), min_size=size, max_size=size))
    num_rows = draw(st.integers(0, 6)) * num_labels
    known = draw(st.lists(st.integers(-1, 1), min_size=num_rows, max_size=num_rows))
    return (
        logits.requires_grad_(),
        torch.tensor(targets, dtype=torch.int8).reshape(-1, num_labels),
        np.array(known, dtype=np.int8).reshape(-1, num_labels),
    )


loss_settings = st.builds(
    LossSettings,
    kind=st.sampled_from(["bce", "focal", "asymmetric", "distribution_balanced"]),
    label_smoothing=st.sampled_from([0.0, 0.0, 0.1, 0.49]),
    label_weights=st.sampled_from(["none", "positive", "class_balanced"]),
    positive_weight_cap=st.floats(1.0, 100.0),
    class_balanced_beta=st.sampled_from([0.0, 0.5, 0.999, 0.9999999999]),
    focal_gamma=GAMMAS,
    gamma_positive=GAMMAS,
    gamma_negative=GAMMAS,
    margin=st.one_of(st.floats(0.0, 0.999), st.sampled_from([0.0, 0.05, 1e-300, 1e-40, 1e-30, 1e-8])),
)


def loss_and_gradient(chosen, batch):
    logits, targets, known = batch
    loss = build_objective(chosen, known).summed_loss(logits, targets)
    loss.backward()
    return loss, logits.grad


@given(batches(), loss_settings)
@settings(max_examples=150, deadline=None)
def test_value_and_gradient_are_finite_and_the_loss_is_not_negative(batch, chosen):
    loss, gradient = loss_and_gradient(chosen, batch)
    assert torch.isfinite(loss)
    assert loss >= 0
    assert torch.isfinite(gradient).all()


@given(batches(), loss_settings)
@settings(max_examples=100, deadline=None)
def test_cells_not_annotated_have_no_gradient(batch, chosen):
    _, gradient = loss_and_gradient(chosen, batch)
    assert (gradient[batch[1] == -1] == 0).all()


@given(batches(), loss_settings.filter(lambda chosen: chosen.label_smoothing == 0))
@settings(max_examples=150, deadline=None)
def test_positives_are_pushed_up_and_negatives_down(batch, chosen):
    # True of every loss here by its formula; smoothing alone can turn a cell that is more certain than its target.
    _, gradient = loss_and_gradient(chosen, batch)
    assert (gradient[batch[1] == 1] <= 0).all()
    assert (gradient[batch[1] == 0] >= 0).all()


@given(batches(), loss_settings)
@settings(max_examples=50, deadline=None)
def test_texts_add_up(batch, chosen):
    logits, targets, known = batch
    objective = build_objective(chosen, known)
    whole = objective.summed_loss(logits, targets)
    parts = sum(objective.summed_loss(logits[i : i + 1], targets[i : i + 1]) for i in range(len(logits)))
    assert torch.allclose(whole, parts, rtol=1e-5, atol=1e-6)
