"""Mixup by hand and at its limits."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from manylabel.modeling.packed import to_device
from manylabel.modeling.weights.hugging_face import load_pretrained
from manylabel.text.pack import pack
from manylabel.text.tokenizer import TextTokenizer
from manylabel.training.mixup import MixupPass, mixed_targets
from manylabel.training.objectives import MultiLabelObjective
from manylabel.training.passes import PlainPass

TEXTS = ["please refund my money", "late parcel", "thanks", "the delivery was late again today", "hello team"]
TARGETS_BL = torch.tensor([[1, 0, 0], [0, 1, -1], [0, 0, 1], [-1, 1, 0], [0, 0, 0]], dtype=torch.int8)


@pytest.fixture(scope="module")
def batch(tiny_encoder):
    encodings = TextTokenizer.from_folder(tiny_encoder, max_length=64).encode(TEXTS)
    return to_device(pack(encodings, np.arange(len(TEXTS))), "cpu")


def new_classifier(tiny_encoder, head, dropout=0.0):
    classifier = load_pretrained(tiny_encoder, num_labels=3, head=head, dropout=dropout, seed=5)
    # A fresh head is so near 0 that its gradients would compare as nothing.
    with torch.no_grad():
        classifier.head.projection.weight.mul_(20)
    return classifier.train()


def gradients(classifier, a_pass, batch, targets_BL=TARGETS_BL):
    objective = MultiLabelObjective()
    classifier.zero_grad()
    loss, logits_BL = a_pass.backward(
        classifier, batch, targets_BL, objective=objective, counts=objective.counts(TARGETS_BL)
    )
    return (
        loss,
        logits_BL,
        [parameter.grad.clone() for parameter in classifier.parameters() if parameter.grad is not None],
    )


@pytest.mark.parametrize("head", ["mean", "cls"])
def test_pooling_then_classifying_is_the_classifier(tiny_encoder, batch, head):
    classifier = new_classifier(tiny_encoder, head)
    assert torch.equal(classifier.classify(classifier.pooled(batch)), classifier(batch))
    assert classifier.pooled(batch).shape == (5, 32)


@pytest.mark.parametrize("head", ["mean", "cls"])
def test_without_a_share_of_mixed_texts_it_is_the_plain_pass(tiny_encoder, batch, head):
    plain_loss, plain_BL, plain = gradients(new_classifier(tiny_encoder, head), PlainPass(), batch)
    loss, logits_BL, mixed = gradients(new_classifier(tiny_encoder, head), MixupPass(0.4, share=0.0), batch)
    assert torch.equal(logits_BL, plain_BL)
    assert torch.equal(loss, plain_loss)
    assert all(torch.equal(one, other) for one, other in zip(plain, mixed, strict=True))


def test_mixed_targets_by_hand():
    own_B1 = torch.tensor([[0.25], [1.0], [0.5], [0.0], [0.9]])
    mixed_BL = mixed_targets(TARGETS_BL, own_B1, torch.tensor([2, 0, 3, 1, 4]))
    expected = [[0.25, 0, 0.75], [0, 1, -1], [-1, 0.5, 0.5], [-1, 1, -1], [0, 0, 0]]
    assert mixed_BL.tolist() == expected
    assert mixed_BL.dtype == torch.float32


@pytest.mark.parametrize("head", ["mean", "cls"])
def test_the_loss_of_mixed_features_by_hand(tiny_encoder, batch, head, monkeypatch):
    """Binary cross-entropy of soft targets over the cells annotated in both, divided by all annotated cells."""
    own_B, partners_B = torch.tensor([0.7, 1.0, 0.4, 0.2, 0.5]), torch.tensor([2, 4, 0, 1, 3])
    monkeypatch.setattr(MixupPass, "draw", lambda self, num_texts: (own_B, partners_B))
    classifier = new_classifier(tiny_encoder, head)
    loss, logits_BL, _ = gradients(classifier, MixupPass(0.4), batch)
    with torch.no_grad():
        features_BD = classifier.pooled(batch)
        mixed_BD = torch.stack(
            [own_B[b] * features_BD[b] + (1 - own_B[b]) * features_BD[partners_B[b]] for b in range(5)]
        )
        expected_BL = classifier.classify(mixed_BD)
    torch.testing.assert_close(logits_BL, expected_BL)
    total = 0.0
    for b in range(5):
        for label in range(3):
            own, other = float(TARGETS_BL[b, label]), float(TARGETS_BL[partners_B[b], label])
            if own_B[b] == 1.0:
                other = own
            if own >= 0 and other >= 0:
                target = own_B[b] * own + (1 - own_B[b]) * other
                total += float(functional.binary_cross_entropy_with_logits(expected_BL[b, label], target))
    assert float(loss) == pytest.approx(total / 13, rel=1e-5)


@pytest.mark.parametrize("alpha", [0.1, 0.4, 2.0, 10.0])
def test_shares_follow_beta_and_partners_are_a_permutation(alpha):
    torch.manual_seed(3)
    own_B, partners_B = MixupPass(alpha).draw(20_000)
    assert float(own_B.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(own_B.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)
    assert sorted(partners_B.tolist()) == list(range(20_000))
    assert 0 <= float(own_B.min()) <= float(own_B.max()) <= 1
    torch.manual_seed(3)
    again_B, _ = MixupPass(alpha, share=0.3).draw(20_000)
    assert float((again_B == 1).float().mean()) == pytest.approx(0.7, abs=0.02)


@pytest.mark.parametrize("head", ["mean", "cls"])
def test_in_bf16_it_is_near_fp32(tiny_encoder, batch, head):
    torch.manual_seed(1)
    expected, _, _ = gradients(new_classifier(tiny_encoder, head), MixupPass(0.4), batch)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _, found = gradients(new_classifier(tiny_encoder, head), MixupPass(0.4), batch)
    assert float(loss) == pytest.approx(float(expected), rel=0.03)
    assert all(torch.isfinite(gradient).all() for gradient in found)
