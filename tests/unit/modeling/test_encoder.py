import numpy as np
import pytest
import torch

from manylabel.errors import EncoderError
from manylabel.modeling import attention, varlen
from manylabel.modeling.auto_encoder import TransformersEncoder
from manylabel.modeling.classifier import build_classifier
from manylabel.modeling.encoder import Encoder, PackedEncoder, rounded_tokens
from manylabel.modeling.packed import to_device
from manylabel.values import Batch

CONFIG = {
    "model_type": "bert",
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 12,
}
DISTILBERT = {
    "model_type": "distilbert", "vocab_size": 30, "dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 16,
    "max_position_embeddings": 12,
}  # fmt: skip


def one_text(length):
    ids = np.arange(length) + 3
    return to_device(Batch(ids, np.zeros(length, np.int64), np.arange(length), np.array([0, length])), "cpu")


@pytest.mark.parametrize("config", [CONFIG, DISTILBERT])
def test_a_text_of_the_longest_length_and_one_more(config):
    classifier = build_classifier(config, num_labels=3, head="mean").eval()
    encoder: Encoder = classifier.encoder
    assert (encoder.hidden_size, encoder.max_tokens, classifier.max_tokens) == (8, 12, 12)
    assert classifier(one_text(12)).shape == (1, 3)
    with pytest.raises(ValueError, match="at most 12"):
        classifier(one_text(13))


def several_texts(lengths):
    choose = np.random.default_rng(3)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    positions = np.concatenate([np.arange(length) for length in lengths])
    ids = choose.integers(3, 30, starts[-1])
    return to_device(Batch(ids, np.zeros_like(ids), positions, starts), "cpu")


@pytest.mark.parametrize("head", ["mean", "cls"])
@pytest.mark.parametrize("lengths", [[12, 3, 7, 12, 1, 6], [12] * 5 + [9], [1, 1, 1, 2] * 8 + [3]])
def test_fillers_change_neither_logits_nor_gradients(head, lengths, monkeypatch):
    """What rounds the number of tokens for bf16 products, tried in fp32, where equal means equal."""
    classifier = build_classifier(CONFIG, num_labels=3, head=head)
    generator = torch.Generator().manual_seed(2)
    classifier.encoder.initialise(generator)
    classifier.head.initialise(generator)
    assert rounded_tokens(sum(lengths)) > sum(lengths)
    results = []
    for rounds in (False, True):
        monkeypatch.setattr("manylabel.modeling.encoder._makes_kernels", lambda batch, rounds=rounds: rounds)
        classifier.zero_grad()
        logits_BL = classifier(several_texts(lengths))
        logits_BL.square().sum().backward()
        results.append(
            (logits_BL.detach(), [parameter.grad.clone() for parameter in classifier.parameters()])
        )
    (logits, gradients), (filled_logits, filled_gradients) = results
    assert (filled_logits - logits).abs().max() < 1e-6
    for gradient, filled in zip(gradients, filled_gradients, strict=True):
        assert (filled - gradient).abs().max() < 1e-6 * max(float(gradient.abs().max()), 1.0)


@pytest.mark.parametrize("head", ["mean", "cls"])
def test_the_path_of_the_varlen_kernel_gives_the_same_logits_and_gradients(head, monkeypatch):
    """The kernel itself needs CUDA; a text at a time stands for it."""
    classifier = build_classifier(CONFIG, num_labels=3, head=head)
    generator = torch.Generator().manual_seed(2)
    classifier.encoder.initialise(generator)
    classifier.head.initialise(generator)
    results = []
    for kernel in (None, varlen.text_by_text):
        monkeypatch.setattr(attention, "varlen_kernel", lambda values, dropout, kernel=kernel: kernel)
        classifier.zero_grad()
        logits_BL = classifier(several_texts([12, 3, 7, 12, 1, 6]))
        logits_BL.square().sum().backward()
        results.append(
            [logits_BL.detach(), *(parameter.grad.clone() for parameter in classifier.parameters())]
        )
    for grouped, packed in zip(*results, strict=True):
        assert (packed - grouped).abs().max() < 1e-5 * max(float(grouped.abs().max()), 1.0)


@pytest.mark.gpu
def test_the_varlen_kernel_equals_a_text_at_a_time():
    query, key, value = (torch.randn(41, 2, 32, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    starts = torch.tensor([0, 12, 15, 41], dtype=torch.int32, device="cuda")
    expected = varlen.text_by_text(query, key, value, starts, 26)
    assert (varlen.flash_kernel(query, key, value, starts, 26) - expected).abs().max() < 2e-2


def test_rounded_numbers_of_tokens_come_again():
    sizes = np.arange(1, 9000)
    rounded = np.array([rounded_tokens(int(size)) for size in sizes])
    assert (rounded >= sizes).all()
    assert ((rounded - sizes) <= sizes / 16).all()
    assert len(set(rounded[2048:4096].tolist())) <= 17


def test_the_configuration_decides_the_encoder():
    assert isinstance(build_classifier(CONFIG, num_labels=1, head="cls").encoder, PackedEncoder)
    assert isinstance(build_classifier(DISTILBERT, num_labels=1, head="cls").encoder, TransformersEncoder)


@pytest.mark.parametrize(
    ("config", "code"),
    [
        (CONFIG | {"auto_map": {"AutoModel": "evil.Model"}}, "E111"),
        (DISTILBERT | {"auto_map": {"AutoModel": "evil.Model"}}, "E111"),
        (CONFIG | {"model_type": "llama"}, "E112"),
        (CONFIG | {"model_type": None}, "E112"),
    ],
)
def test_code_of_its_own_and_unknown_architectures_are_refused(config, code):
    with pytest.raises(EncoderError, match=code):
        build_classifier(config, num_labels=1, head="mean")


@pytest.mark.parametrize("config", [CONFIG, DISTILBERT])
def test_dropout_works_while_training_only(config):
    classifier = build_classifier(config, num_labels=3, head="mean", dropout=0.5, attention_dropout=0.5)
    batch = one_text(9)
    assert not torch.equal(classifier(batch), classifier(batch))
    classifier.eval()
    assert torch.equal(classifier(batch), classifier(batch))


def test_hidden_states_of_a_bf16_encoder_suit_a_fp32_head():
    for head in ("mean", "cls"):
        classifier = build_classifier(CONFIG, num_labels=3, head=head).eval()
        classifier.encoder.to(torch.bfloat16)
        assert classifier(one_text(5)).dtype == torch.float32
