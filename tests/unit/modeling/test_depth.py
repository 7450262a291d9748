import pytest
import torch

from manylabel.modeling.classifier import build_classifier
from manylabel.modeling.depth import layer_numbers, num_encoder_layers, parameter_depths
from manylabel.modeling.lora import add_lora

SIZES = {
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 12,
}
BERT = SIZES | {"model_type": "bert"}


def depths_of(config, head="mean"):
    return parameter_depths(build_classifier(config, num_labels=2, head=head))


def by_depth(depths):
    return {
        depth: {name for name, at in depths.items() if at == depth} for depth in sorted(set(depths.values()))
    }


@pytest.mark.parametrize("head", ["mean", "cls"])
def test_the_packed_encoder(head):
    classifier = build_classifier(BERT, num_labels=2, head=head)
    depths = parameter_depths(classifier)
    names = [name for name, _ in classifier.named_parameters()]
    assert list(depths) == names
    for name in names:
        part = name.split(".")
        expected = {"embeddings": 0, "layers": 1 + int(part[2]) if part[2].isdigit() else -1}
        assert depths[name] == (4 if part[0] == "head" else expected[part[1]])
    assert num_encoder_layers(depths) == 3


def test_ten_layers_are_told_from_one():
    depths = depths_of(BERT | {"num_hidden_layers": 11})
    assert depths["encoder.layers.1.up.weight"] == 2
    assert depths["encoder.layers.10.up.weight"] == 11


def test_updates_of_low_rank_lie_with_their_layer():
    classifier = build_classifier(BERT, num_labels=2, head="mean")
    add_lora(classifier, 2, alpha=4.0)
    depths = parameter_depths(classifier)
    assert set(depths) == {name for name, _ in classifier.named_parameters()}
    assert depths["encoder.layers.1.up.parametrizations.weight.0.reduce"] == 2
    assert num_encoder_layers(depths) == 3


DISTILBERT = {
    "model_type": "distilbert", "vocab_size": 30, "dim": 8, "n_layers": 3, "n_heads": 2, "hidden_dim": 16,
    "max_position_embeddings": 12,
}  # fmt: skip
MODERNBERT = {"model_type": "modernbert", "pad_token_id": 0}
DEBERTA = {
    "model_type": "deberta-v2", "relative_attention": True, "position_buckets": 4, "pos_att_type": ["p2c", "c2p"],
    "norm_rel_ebd": "layer_norm", "position_biased_input": False,
}  # fmt: skip
MOBILEBERT = {
    "model_type": "mobilebert",
    "embedding_size": 8,
    "intra_bottleneck_size": 8,
    "true_hidden_size": 8,
}
XLM = {
    "model_type": "xlm", "vocab_size": 30, "emb_dim": 8, "n_layers": 3, "n_heads": 2, "max_position_embeddings": 12
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "first", "last"),
    [
        (DISTILBERT, "model.transformer.layer.0.", "model.transformer.layer.2."),
        (SIZES | {"model_type": "electra", "embedding_size": 4}, "model.encoder.layer.0.", "model.encoder.layer.2."),
        (SIZES | MODERNBERT, "model.layers.0.", "model.layers.2."),
        (SIZES | MOBILEBERT, "model.encoder.layer.0.", "model.encoder.layer.2."),
        (SIZES | DEBERTA, "model.encoder.layer.0.", "model.encoder.layer.2."),
        (XLM, "model.ffns.0.", "model.ffns.2."),
    ],
)  # fmt: skip
def test_encoders_of_transformers(config, first, last):
    classifier = build_classifier(config, num_labels=2, head="mean")
    depths = parameter_depths(classifier)
    assert set(depths) == {name for name, _ in classifier.named_parameters()}
    assert num_encoder_layers(depths) == 3
    assert {at for name, at in depths.items() if name.startswith(f"encoder.{first}")} == {1}
    assert {at for name, at in depths.items() if name.startswith(f"encoder.{last}")} == {3}
    words = next(
        name for name, parameter in classifier.named_parameters()
        if parameter.shape[0] == config["vocab_size"] and parameter.ndim == 2
    )  # fmt: skip
    assert depths[words] == 0


def test_what_stands_before_and_after_the_layers():
    electra = by_depth(depths_of(SIZES | {"model_type": "electra", "embedding_size": 4}))
    assert "encoder.model.embeddings_project.weight" in electra[0]
    modern = by_depth(depths_of(SIZES | MODERNBERT))
    assert "encoder.model.final_norm.weight" in modern[3]
    assert modern[4] == {
        "head.norm.weight",
        "head.norm.bias",
        "head.projection.weight",
        "head.projection.bias",
    }


def test_tables_declared_after_the_layers_are_embeddings():
    deberta = depths_of(SIZES | DEBERTA)
    assert deberta["encoder.model.encoder.rel_embeddings.weight"] == 0


def test_lists_beside_each_other_are_one_stack_of_layers():
    depths = depths_of(XLM)
    for name in ("attentions.1.q_lin.weight", "layer_norm1.1.weight", "ffns.1.lin1.weight"):
        assert depths[f"encoder.model.{name}"] == 2
    assert depths["encoder.model.embeddings.weight"] == 0


def test_layers_that_share_their_weights_count_once():
    depths = depths_of(SIZES | {"model_type": "albert", "embedding_size": 4})
    assert num_encoder_layers(depths) == 1
    assert {at for name, at in depths.items() if "albert_layer_groups.0" in name} == {1}


def test_an_encoder_without_a_list_of_layers():
    assert layer_numbers(torch.nn.Linear(2, 2)) == {}
    classifier = build_classifier(BERT, num_labels=2, head="mean")
    classifier.encoder.layers = None
    depths = parameter_depths(classifier)
    assert (set(depths.values()), num_encoder_layers(depths)) == ({0, 1}, 0)
