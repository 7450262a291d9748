"""FGM against autograd with hooks, in micro-batches and bf16, with frozen embeddings and the word-row optimizer."""

import numpy as np
import pytest
import torch

from manylabel.config.schema import TrainingSettings
from manylabel.errors import ConfigError
from manylabel.modeling.classifier import build_classifier
from manylabel.modeling.packed import to_device
from manylabel.modeling.weights.hugging_face import load_pretrained
from manylabel.text.pack import pack
from manylabel.text.tokenizer import TextTokenizer
from manylabel.training import loop
from manylabel.training.adversarial import FgmPass, step_against
from manylabel.training.examples import LabelledTexts
from manylabel.training.loop import Trainer
from manylabel.training.objectives import MultiLabelObjective
from manylabel.training.observers import SilentObserver
from manylabel.training.optimizer import Rates
from manylabel.training.passes import PlainPass

TEXTS = ["please refund my money", "late parcel", "thanks", "the delivery was late again today", "hello team"]
TARGETS_BL = torch.tensor([[1, 0, 0], [0, 1, -1], [0, 0, 1], [-1, 1, 0], [0, 0, 0]], dtype=torch.int8)
OBJECTIVE = MultiLabelObjective()
COUNTS = OBJECTIVE.counts(TARGETS_BL)


class Recorder(SilentObserver):
    def __init__(self):
        self.losses = []

    def step(self, step):
        self.losses.append(step.loss)


@pytest.fixture(scope="module")
def batch(tiny_encoder):
    encodings = TextTokenizer.from_folder(tiny_encoder, max_length=64).encode(TEXTS)
    return to_device(pack(encodings, np.arange(len(TEXTS))), "cpu")


def new_classifier(tiny_encoder, head="mean"):
    classifier = load_pretrained(tiny_encoder, num_labels=3, head=head, seed=5)
    with torch.no_grad():
        classifier.head.projection.weight.mul_(20)
    return classifier.train()


def run(classifier, a_pass, batch):
    loss, logits_BL = a_pass.backward(classifier, batch, TARGETS_BL, objective=OBJECTIVE, counts=COUNTS)
    grads = {
        name: parameter.grad
        for name, parameter in classifier.named_parameters()
        if parameter.grad is not None
    }
    return loss, logits_BL, grads


@pytest.mark.parametrize("head", ["mean", "cls"])
def test_loss_and_gradient_are_the_mean_of_both_passes(tiny_encoder, batch, head):
    """The reference finds the direction by a hook on the embeddings' normalisation and moves them by another."""
    epsilon = 0.7
    reference, norm_outputs = new_classifier(tiny_encoder, head), []
    norm = reference.encoder.embeddings.norm
    hook = norm.register_forward_hook(lambda module, inputs, output: norm_outputs.append(output))
    plain_BL = reference(batch)
    plain = OBJECTIVE.loss(plain_BL, TARGETS_BL, COUNTS)
    (gradient_TD,) = torch.autograd.grad(plain, norm_outputs[0], retain_graph=True)
    hook.remove()
    steps, start = [], 0
    for length in batch.lengths_B.tolist():
        own = gradient_TD[start : start + length]
        steps.append(epsilon * own / torch.linalg.vector_norm(own))
        start += length
    norm.register_forward_hook(lambda module, inputs, output: output + torch.cat(steps))
    moved = OBJECTIVE.loss(reference(batch), TARGETS_BL, COUNTS)
    ((plain + moved) / 2).backward()
    expected_loss = float((plain.detach() + moved.detach()) / 2)

    classifier = new_classifier(tiny_encoder, head)
    loss, logits_BL, grads = run(classifier, FgmPass(epsilon), batch)
    assert float(loss) == pytest.approx(expected_loss, rel=1e-6)
    assert float(moved.detach()) > float(plain.detach())
    assert torch.equal(logits_BL, plain_BL.detach())
    expected = {name: p.grad for name, p in reference.named_parameters() if p.grad is not None}
    assert grads.keys() == expected.keys()
    for name, gradient in grads.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-7)


def test_a_step_has_the_same_length_for_every_text_and_none_without_gradient(batch):
    gradient_TD = torch.randn(batch.num_tokens, 32, generator=torch.Generator().manual_seed(1)) * 1e-30
    gradient_TD[batch.texts_T == 2] = 0.0
    moved_TD = step_against(gradient_TD, batch, 2.5)
    norms = [float(torch.linalg.vector_norm(moved_TD[batch.texts_T == text])) for text in range(5)]
    assert norms == pytest.approx([2.5, 2.5, 0.0, 2.5, 2.5], rel=1e-6)
    assert torch.equal(moved_TD.sign(), gradient_TD.sign())


def test_a_gradient_that_is_not_finite_is_not_hidden(batch):
    gradient_TD = torch.ones(batch.num_tokens, 32)
    gradient_TD[0, 0] = float("nan")
    moved_TD = step_against(gradient_TD, batch, 1.0)
    assert not torch.isfinite(moved_TD[0]).all()
    assert torch.isfinite(moved_TD[batch.texts_T > 0]).all()


def test_a_tiny_step_is_the_plain_pass(tiny_encoder, batch):
    _, _, plain = run(new_classifier(tiny_encoder), PlainPass(), batch)
    _, _, grads = run(new_classifier(tiny_encoder), FgmPass(1e-7), batch)
    for name, gradient in grads.items():
        torch.testing.assert_close(gradient, plain[name], rtol=1e-3, atol=1e-6)


def test_with_frozen_embeddings_the_texts_still_move(tiny_encoder, batch):
    classifier = new_classifier(tiny_encoder)
    whole_loss, _, whole = run(classifier, FgmPass(1.0), batch)
    frozen = new_classifier(tiny_encoder)
    frozen.encoder.embeddings.requires_grad_(False)
    loss, _, grads = run(frozen, FgmPass(1.0), batch)
    assert float(loss) == pytest.approx(float(whole_loss), rel=1e-6)
    assert not any("embeddings" in name for name in grads)
    torch.testing.assert_close(grads["head.projection.weight"], whole["head.projection.weight"])


def test_fillers_of_bf16_products_and_recomputed_layers_change_little(tiny_encoder, batch):
    expected, _, _ = run(new_classifier(tiny_encoder), FgmPass(1.0), batch)
    for recomputes in (False, True):
        classifier = new_classifier(tiny_encoder)
        if recomputes:
            classifier.encoder.recompute_layers()
        with torch.autocast("cpu", torch.bfloat16):
            loss, _, grads = run(classifier, FgmPass(1.0), batch)
        assert float(loss) == pytest.approx(float(expected), rel=0.05)
        assert all(torch.isfinite(gradient).all() for gradient in grads.values())


def test_an_encoder_whose_embeddings_cannot_be_moved_is_refused():
    config = {"model_type": "distilbert", "vocab_size": 30, "dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 16,
              "max_position_embeddings": 12}  # fmt: skip
    with pytest.raises(ConfigError, match=r"D199 setting augmentation\.adversarial"):
        FgmPass(1.0).backward(
            build_classifier(config, num_labels=3, head="mean"),
            None,
            TARGETS_BL,
            objective=OBJECTIVE,
            counts=COUNTS,
        )


def train(tiny_encoder, token_budget=4096, precision="fp32"):
    choose = np.random.default_rng(0)
    words = ("refund", "delivery", "praise", "parcel", "late", "money", "thanks", "please")
    texts = [" ".join(choose.choice(words, size=choose.integers(1, 30))) for _ in range(24)]
    targets_NL = np.array([[int(word in text.split()) for word in words[:3]] for text in texts], np.int8)
    targets_NL[choose.random(targets_NL.shape) < 0.3] = -1
    encodings = TextTokenizer.from_folder(tiny_encoder, max_length=64).encode(texts)
    classifier, recorder = new_classifier(tiny_encoder), Recorder()
    trainer = Trainer(
        classifier,
        LabelledTexts(encodings, targets_NL, tuple(map(str, range(24)))),
        objective=OBJECTIVE,
        settings=TrainingSettings(
            epochs=2, batch_size=8, patience=0, token_budget=token_budget, precision=precision
        ),
        rates=Rates(1e-3, 1e-2),
        observer=recorder,
        should_stop=lambda: False,
    )
    trainer.fit(lambda: None, None, FgmPass(1.0))
    return classifier.state_dict(), recorder.losses


def test_micro_batches_add_up(tiny_encoder):
    _, whole = train(tiny_encoder, token_budget=100_000)
    _, parts = train(tiny_encoder, token_budget=64)
    assert parts == pytest.approx(whole, abs=1e-5)


def test_word_rows_are_updated_as_the_whole_table_is(tiny_encoder, monkeypatch):
    rows, losses = train(tiny_encoder)
    made = loop.Weights
    monkeypatch.setattr(
        loop,
        "Weights",
        lambda model, groups, **options: made(model, groups, **{**options, "sparse_table": None}),
    )
    table, other_losses = train(tiny_encoder)
    assert losses == pytest.approx(other_losses, abs=1e-5)
    name = "encoder.embeddings.word.weight"
    torch.testing.assert_close(rows[name], table[name], rtol=1e-4, atol=1e-5)


def test_a_run_in_bf16_stays_near_fp32(tiny_encoder):
    _, expected = train(tiny_encoder)
    _, losses = train(tiny_encoder, precision="bf16")
    assert losses == pytest.approx(expected, rel=0.1)
