import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from manylabel.errors import EncoderError
from manylabel.modeling.classifier import build_classifier
from manylabel.modeling.lora import LowRankUpdate, add_lora, merge_lora, num_trained_parameters
from manylabel.modeling.packed import to_device
from manylabel.values import Batch

BERT = {
    "model_type": "bert", "vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 16, "max_position_embeddings": 12,
}  # fmt: skip
DISTILBERT = {
    "model_type": "distilbert", "vocab_size": 30, "dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 16,
    "max_position_embeddings": 12,
}  # fmt: skip
MODERNBERT = BERT | {"model_type": "modernbert", "pad_token_id": 0}
BOTH_HEADS = pytest.mark.parametrize("head", ["mean", "cls"])
ENCODERS = pytest.mark.parametrize("config", [BERT, DISTILBERT, MODERNBERT])


def classifier_of(config, head, seed=5):
    classifier = build_classifier(config, num_labels=3, head=head).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.normal_(0.0, 0.3, generator=generator)
    return classifier


def adapted(config, head, seed=5):
    """A classifier with updates that are not 0."""
    classifier = classifier_of(config, head, seed)
    add_lora(classifier, 2, alpha=6.0, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in classifier.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return classifier


def batch_of(*lengths):
    ids = np.arange(sum(lengths)) % 27 + 3
    positions = np.concatenate([np.arange(length) for length in lengths])
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return to_device(Batch(ids, np.zeros(sum(lengths), np.int64), positions, starts), "cpu")


BATCH = batch_of(7, 3, 12, 1)


@BOTH_HEADS
@ENCODERS
def test_the_start_is_the_base_model_exactly(config, head):
    classifier = classifier_of(config, head)
    with torch.no_grad():
        before = classifier(BATCH)
        add_lora(classifier, 4, alpha=16.0)
        assert torch.equal(classifier(BATCH), before)


@BOTH_HEADS
def test_the_update_is_the_scaled_product(head):
    # Every weight is W + (alpha / rank) B A: done by hand on a classifier without LoRA, the logits are the same.
    classifier, by_hand = adapted(BERT, head), classifier_of(BERT, head)
    state = dict(classifier.state_dict())
    with torch.no_grad():
        for name, parameter in by_hand.named_parameters():
            module, _, attribute = name.rpartition(".")
            prefix = f"{module}.parametrizations.{attribute}"
            if f"{prefix}.original" in state:
                product = state[f"{prefix}.0.expand"] @ state[f"{prefix}.0.reduce"]
                parameter.copy_(state[f"{prefix}.original"] + 6.0 / 2 * product)
            else:
                parameter.copy_(state[name])
        torch.testing.assert_close(classifier(BATCH), by_hand(BATCH), rtol=0, atol=1e-5)
        assert not torch.allclose(classifier(BATCH), classifier_of(BERT, head)(BATCH), atol=1e-2)


@BOTH_HEADS
def test_only_the_updates_and_the_head_are_trained(head):
    classifier = classifier_of(BERT, head)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    add_lora(classifier, 2, alpha=6.0)
    trained = [name for name, parameter in classifier.named_parameters() if parameter.requires_grad]
    in_encoder = [name for name in trained if name.startswith("encoder.")]
    # 2 layers x (qkv, output, up, down) x (A, B).
    assert len(in_encoder) == 16
    assert all(name.endswith(("weight.0.reduce", "weight.0.expand")) for name in in_encoder)
    assert {name for name in trained if name.startswith("head.")} == {
        name for name in before if name.startswith("head.")
    }
    # rank x (in + out) for qkv 8 -> 24, output 8 -> 8, up 8 -> 16, down 16 -> 8.
    updates = 2 * 2 * ((8 + 24) + (8 + 8) + (8 + 16) + (16 + 8))
    head_size = sum(value.numel() for name, value in before.items() if name.startswith("head."))
    assert num_trained_parameters(classifier) == updates + head_size

    optimizer = torch.optim.SGD([p for p in classifier.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        classifier(BATCH).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    after = {name.replace("parametrizations.weight.original", "weight"): value
             for name, value in classifier.state_dict().items()}  # fmt: skip
    changed = {name for name, value in before.items() if not torch.equal(after[name], value)}
    assert changed == {name for name in before if name.startswith("head.")}
    assert all(after[name].any() for name in in_encoder)


@BOTH_HEADS
@ENCODERS
def test_merging_leaves_no_trace_but_the_weights(config, head):
    classifier, plain = adapted(config, head), classifier_of(config, head, seed=9)
    with torch.no_grad():
        logits = classifier(BATCH)
        merge_lora(classifier)
        torch.testing.assert_close(classifier(BATCH), logits, rtol=0, atol=1e-5)
        assert list(classifier.state_dict()) == list(plain.state_dict())
        shapes = {name: value.shape for name, value in plain.state_dict().items()}
        assert {name: value.shape for name, value in classifier.state_dict().items()} == shapes
        plain.load_state_dict(classifier.state_dict())
        assert torch.equal(plain(BATCH), classifier(BATCH))
        assert torch.equal(copy.deepcopy(classifier)(BATCH), classifier(BATCH))
    assert [type(module) for module in classifier.modules()] == [type(module) for module in plain.modules()]
    assert not any(parametrize.is_parametrized(module) for module in classifier.modules())
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in classifier.parameters())


def test_merging_without_updates_changes_nothing():
    classifier = classifier_of(BERT, "mean")
    classifier.encoder.embeddings.requires_grad_(False)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    merge_lora(classifier)
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())
    assert not classifier.encoder.embeddings.word.weight.requires_grad


def test_merging_writes_into_weights_that_lie_in_a_flat_vector():
    classifier = adapted(BERT, "cls")
    flat = torch.zeros(sum(parameter.numel() for parameter in classifier.parameters()))
    start = 0
    for parameter in classifier.parameters():
        view = flat[start : start + parameter.numel()].view(parameter.shape)
        view.copy_(parameter.detach())
        parameter.data = view
        start += parameter.numel()
    with torch.no_grad():
        logits = classifier(BATCH)
        merge_lora(classifier)
        torch.testing.assert_close(classifier(BATCH), logits, rtol=0, atol=1e-5)


@BOTH_HEADS
@pytest.mark.parametrize("config", [BERT, DISTILBERT])
def test_the_trained_tensors_are_enough_to_go_on(config, head):
    trained = adapted(config, head)
    kept = {
        name: parameter.detach().clone()
        for name, parameter in trained.named_parameters()
        if parameter.requires_grad
    }
    resumed = classifier_of(config, head)
    add_lora(resumed, 2, alpha=6.0)
    result = resumed.load_state_dict(kept, strict=False)
    assert result.unexpected_keys == []
    with torch.no_grad():
        assert torch.equal(resumed(BATCH), trained(BATCH))


@BOTH_HEADS
@pytest.mark.parametrize("config", [BERT, DISTILBERT])
def test_under_autocast(config, head):
    classifier = adapted(config, head)
    exact = classifier(BATCH)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = classifier(BATCH)
    # bf16 keeps 8 bits: products of 8 to 16 terms, a few layers deep, stay within some percent of the largest.
    assert (logits - exact).abs().max() < 0.05 * exact.abs().max()
    logits.float().square().sum().backward()
    for name, parameter in classifier.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        if parameter.requires_grad:
            assert parameter.grad.dtype == torch.float32
            assert torch.isfinite(parameter.grad).all()


def test_gradients_equal_those_of_the_whole_weight():
    # dL/dA = scale B' dL/dW and dL/dB = scale dL/dW A'.
    weight = torch.randn(4, 3, dtype=torch.float64)
    update = LowRankUpdate(weight, 2, alpha=3.0, generator=None)
    nn.init.normal_(update.expand)
    upstream = torch.randn(4, 3, dtype=torch.float64)
    (update(weight) * upstream).sum().backward()
    torch.testing.assert_close(update.reduce.grad, 1.5 * update.expand.detach().T @ upstream)
    torch.testing.assert_close(update.expand.grad, 1.5 * upstream @ update.reduce.detach().T)


def test_the_start_follows_the_seed_and_its_bounds():
    weight = torch.zeros(6, 400)
    first, again, other = (
        LowRankUpdate(weight, 50, alpha=1.0, generator=torch.Generator().manual_seed(seed)).reduce
        for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    # U(-b, b) with b = 1 / sqrt(400) has standard deviation b / sqrt(3).
    assert float(first.detach().abs().max()) <= 0.05
    assert float(first.detach().std()) == pytest.approx(0.05 / 3**0.5, rel=0.02)


def test_an_encoder_without_linear_layers_is_refused():
    classifier = classifier_of(BERT, "mean")
    classifier.encoder.layers = nn.ModuleList([nn.LayerNorm(8)])
    with pytest.raises(EncoderError, match=r"lora\.rank"):
        add_lora(classifier, 2, alpha=1.0)
    assert all(parameter.requires_grad for parameter in classifier.parameters())


@BOTH_HEADS
def test_recomputed_layers_give_the_same_gradients(head):
    # The embeddings are frozen, so what enters the first layer requires no gradient; its updates do.
    plain, recomputing = adapted(BERT, head), adapted(BERT, head)
    recomputing.encoder.recompute_layers()
    for classifier in (plain, recomputing):
        classifier.train()
        classifier(BATCH).square().sum().backward()
    for (name, one), other in zip(plain.named_parameters(), recomputing.parameters(), strict=True):
        if one.requires_grad:
            torch.testing.assert_close(one.grad, other.grad, msg=name)
            assert one.grad.any()
