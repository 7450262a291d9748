import pytest

from manylabel.errors import EncoderError
from manylabel.modeling.shape import from_config

BERT = {
    "model_type": "bert",
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 12,
}


def test_defaults_are_those_of_transformers():
    shape = from_config(BERT)
    assert (shape.type_vocab_size, shape.layer_norm_eps, shape.activation, shape.pad_id) == (
        2,
        1e-12,
        "gelu",
        0,
    )
    assert (shape.position_offset, shape.max_tokens, shape.head_size) == (0, 12, 4)


@pytest.mark.parametrize("layout", ["roberta", "xlm-roberta"])
def test_roberta_counts_positions_after_padding(layout):
    shape = from_config(BERT | {"model_type": layout, "pad_token_id": 1, "max_position_embeddings": 514})
    assert (shape.position_offset, shape.max_tokens) == (2, 512)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"model_type": "gpt2"}, "E101"),
        ({"position_embedding_type": "relative_key"}, "E102"),
        ({"is_decoder": True}, "E103"),
        ({"add_cross_attention": True}, "E103"),
        ({"hidden_act": "swish"}, "E104"),
        ({"hidden_size": "8"}, "E105"),
        ({"num_hidden_layers": 0}, "E105"),
        ({"layer_norm_eps": 0.0}, "E105"),
        ({"pad_token_id": -1}, "E105"),
        ({"num_attention_heads": 3}, "E106"),
    ],
)
def test_what_cannot_be_computed_is_refused(change, code):
    with pytest.raises(EncoderError) as caught:
        from_config(BERT | change)
    assert [finding.code for finding in caught.value.findings] == [code]
    assert next(iter(change)) in str(caught.value)


def test_all_findings_at_once():
    with pytest.raises(EncoderError) as caught:
        from_config({"model_type": "bert", "is_decoder": True, "hidden_act": "elu"})
    assert len(caught.value.findings) == 2 + 6
