import numpy as np
import pytest
import torch

from manylabel.errors import EncoderError
from manylabel.modeling.auto_encoder import TransformersEncoder
from manylabel.modeling.classifier import build_classifier
from manylabel.modeling.encoder import Encoder, PackedEncoder
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
