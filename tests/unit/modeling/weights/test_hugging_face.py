import json

import pytest
import torch
from safetensors.torch import save_file

from manylabel.errors import BundleError, EncoderError
from manylabel.modeling.classifier import build_classifier
from manylabel.modeling.weights import hugging_face, names

LABELS = ("a", "b", "c")
NUM_LAYERS = 2


def make_config(layout="bert"):
    return {
        "model_type": layout,
        "vocab_size": 30,
        "hidden_size": 8,
        "num_hidden_layers": NUM_LAYERS,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 20,
        "type_vocab_size": 2,
        "pad_token_id": 0 if layout == "bert" else 1,
    }


def make_state(layout="bert", head="cls"):
    torch.manual_seed(5)
    classifier = build_classifier(make_config(layout), num_labels=3, head=head)
    classifier.encoder.initialise()
    return classifier, *hugging_face.to_hugging_face(classifier, make_config(layout), LABELS)


def save(folder, config, state):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(state, folder / "model.safetensors")
    return folder


def bare(state, layout="bert"):
    """A checkpoint as base models have it: without prefix and without classifier."""
    prefix = names.CHECKPOINT_PREFIX[layout]
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def assert_same_encoder(left, right):
    expected = left.encoder.state_dict()
    found = right.encoder.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize("head", ["mean", "cls"])
@pytest.mark.parametrize("layout", list(names.CHECKPOINT_PREFIX))
def test_the_table_names_every_tensor_and_is_reversible(layout, head):
    classifier, config, state = make_state(layout, head)
    table = names.encoder_table(layout, NUM_LAYERS) | names.head_table(layout, head)
    assert table.keys() == classifier.state_dict().keys()
    theirs = [name for parts in table.values() for name in parts]
    assert len(theirs) == len(set(theirs)) == len(state)
    restored = names.to_ours(state, table)
    assert all(torch.equal(tensor, restored[name]) for name, tensor in classifier.state_dict().items())
    again = hugging_face.load_classifier(config, state, num_labels=3, head=head)
    assert all(
        torch.equal(tensor, again.state_dict()[name]) for name, tensor in classifier.state_dict().items()
    )
    assert all(parameter.requires_grad and not parameter.is_meta for parameter in again.parameters())


def test_saved_tensors_share_nothing_with_the_model():
    classifier, _, state = make_state()
    for parameter in classifier.parameters():
        parameter.data.zero_()
    assert all(tensor.abs().sum() > 0 for name, tensor in state.items() if name.endswith("query.weight"))


def test_the_other_architectures_go_through_the_file_too():
    config = {
        "model_type": "distilbert",
        "vocab_size": 30,
        "dim": 8,
        "n_layers": 1,
        "n_heads": 2,
        "hidden_dim": 16,
    }
    classifier = build_classifier(config, num_labels=3, head="cls")
    written, state = hugging_face.to_hugging_face(classifier, config, LABELS)
    assert "architectures" not in written
    assert "encoder.embeddings.word_embeddings.weight" in state
    again = hugging_face.load_classifier(written, state, num_labels=3, head="cls")
    assert all(
        torch.equal(tensor, again.state_dict()[name]) for name, tensor in classifier.state_dict().items()
    )


def test_only_a_cls_head_claims_to_be_a_transformers_classifier():
    assert make_state("bert", "cls")[1]["architectures"] == ["BertForSequenceClassification"]
    assert "architectures" not in make_state("bert", "mean")[1]
    assert hugging_face.loads_in_transformers(make_config(), "cls")
    assert not hugging_face.loads_in_transformers(make_config(), "mean")


def test_labels_must_fit():
    classifier = make_state()[0]
    with pytest.raises(ValueError, match="2 label names for 3"):
        hugging_face.to_hugging_face(classifier, make_config(), LABELS[:2])


@pytest.mark.parametrize("with_prefix", [True, False])
def test_old_names_and_known_extras(tmp_path, with_prefix):
    classifier, config, state = make_state()
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in (state if with_prefix else bare(state)).items()
    }
    prefix = "bert." if with_prefix else ""
    old[f"{prefix}embeddings.position_ids"] = torch.arange(20)[None]
    old["cls.predictions.bias"] = torch.zeros(30)
    old["cls.seq_relationship.weight"] = torch.zeros(2, 8)
    loaded = hugging_face.load_pretrained(save(tmp_path / "old", config, old), num_labels=5, head="mean")
    assert_same_encoder(classifier, loaded)
    assert loaded.num_labels == 5


def test_the_pooler_is_taken_over_by_the_cls_head_alone(tmp_path):
    classifier, config, state = make_state()
    folder = save(tmp_path / "with", config, bare(state))
    loaded = hugging_face.load_pretrained(folder, num_labels=3, head="cls")
    assert torch.equal(loaded.head.dense.weight, classifier.head.dense.weight)
    assert not torch.equal(loaded.head.projection.weight, classifier.head.projection.weight)
    without = {name: tensor for name, tensor in bare(state).items() if not name.startswith("pooler.")}
    fresh = hugging_face.load_pretrained(
        save(tmp_path / "without", config, without), num_labels=3, head="cls"
    )
    assert float(fresh.head.dense.weight.detach().std()) == pytest.approx(0.02, rel=0.4)


def test_the_head_depends_on_the_seed_alone(tmp_path):
    _, config, state = make_state()
    folder = save(tmp_path / "model", config, bare(state))
    weights = [
        hugging_face.load_pretrained(folder, num_labels=3, head="mean", seed=seed).head.projection.weight
        for seed in (1, 1, 2)
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_missing_and_unexpected_tensors_are_listed(tmp_path):
    _, config, state = make_state()
    broken = bare(state)
    del broken["encoder.layer.1.attention.self.key.bias"]
    del broken["embeddings.LayerNorm.weight"]
    broken["encoder.layer.2.output.dense.weight"] = torch.zeros(1)
    with pytest.raises(EncoderError) as caught:
        hugging_face.load_pretrained(save(tmp_path / "model", config, broken), num_labels=3, head="mean")
    assert [finding.code for finding in caught.value.findings] == ["E121", "E122"]
    assert "2 missing tensors: bert.embeddings.LayerNorm.weight, bert.encoder.layer.1" in str(caught.value)
    assert "1 unexpected tensors: bert.encoder.layer.2.output.dense.weight" in str(caught.value)


def test_wrong_shapes_are_listed(tmp_path):
    _, config, state = make_state()
    state["bert.embeddings.word_embeddings.weight"] = torch.zeros(31, 8)
    with pytest.raises(BundleError, match=r"E123 .*is \[31, 8\], expected \[30, 8\]"):
        hugging_face.load_classifier(config, state, num_labels=3, head="cls")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    _, config, state = make_state()
    state["classifier.bias"][1] = value
    with pytest.raises(BundleError, match=r"NaN or infinity: classifier\.bias"):
        hugging_face.load_classifier(config, state, num_labels=3, head="cls")
    with pytest.raises(EncoderError, match=r"NaN or infinity: classifier\.bias"):
        hugging_face.read_weights(save(tmp_path / "model", config, state))


def test_a_bundle_names_its_head():
    _, config, state = make_state(head="mean")
    with pytest.raises(BundleError, match="E136"):
        hugging_face.load_classifier(config, state, num_labels=3, head="cls")


def test_shards(tmp_path):
    classifier, config, state = make_state()
    (tmp_path / "config.json").write_text(json.dumps(config))
    tensors = list(bare(state).items())
    save_file(dict(tensors[:9]), tmp_path / "model-1.safetensors")
    save_file(dict(tensors[9:]), tmp_path / "model-2.safetensors")
    shards = {name: f"model-{1 + (index >= 9)}.safetensors" for index, (name, _) in enumerate(tensors)}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": shards}))
    assert_same_encoder(classifier, hugging_face.load_pretrained(tmp_path, num_labels=1, head="mean"))
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(EncoderError, match=r"missing shards: model-2\.safetensors"):
        hugging_face.read_weights(tmp_path)
    index.write_text(json.dumps({"weight_map": {"x": "../other.safetensors"}}))
    with pytest.raises(EncoderError, match="outside its folder"):
        hugging_face.read_weights(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("pytorch_model.bin", b"", "pickle, which can run code"),
        ("other.txt", b"", "no model.safetensors"),
        ("model.safetensors", b"\x08\x00", "damaged or incomplete"),
        ("model.safetensors.index.json", b"{}", "cannot be read as a list of shards"),
    ],
)
def test_other_weight_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EncoderError, match=message):
        hugging_face.read_weights(tmp_path)


@pytest.mark.parametrize(
    ("content", "code"), [(None, "E131"), (b"{", "E132"), (b"[]", "E132"), (b"\xff", "E132")]
)
def test_unreadable_configurations(tmp_path, content, code):
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(EncoderError, match=code):
        hugging_face.read_config(tmp_path)


def test_half_precision_checkpoints_become_fp32(tmp_path):
    _, config, state = make_state()
    halves = {name: tensor.to(torch.float16) for name, tensor in state.items()}
    assert {t.dtype for t in hugging_face.read_weights(save(tmp_path / "m", config, halves)).values()} == {
        torch.float32
    }
