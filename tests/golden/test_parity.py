"""Our encoder and heads against transformers: same weights, same texts, at most 1e-5 in fp32."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manylabel.modeling.classifier import build_classifier
from manylabel.modeling.packed import to_device
from manylabel.modeling.weights.hugging_face import load_pretrained, read_config, to_hugging_face

pytestmark = pytest.mark.slow  # many seconds together

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "parity_table.py"
TOLERANCE = 1e-5


def load_script():
    spec = importlib.util.spec_from_file_location("parity_table", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["parity_table"] = module
    spec.loader.exec_module(module)
    return module


parity = load_script()

VARIANTS = {
    "one layer": {"num_layers": 1},
    "one head": {"num_heads": 1, "num_layers": 2},
    "wide heads": {"num_heads": 2, "width": 128, "num_layers": 2},
    "relu": {"extra": {"hidden_act": "relu"}},
    "gelu_new": {"extra": {"hidden_act": "gelu_new"}},
    "large eps": {"extra": {"layer_norm_eps": 1e-2}},
    "more positions": {"extra": {"max_position_embeddings": 300}},
    "three segments": {"extra": {"type_vocab_size": 3}},
}


@pytest.mark.parametrize("head", parity.HEADS)
@pytest.mark.parametrize("layout", parity.LAYOUTS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_random_models(layout, head, variant):
    model = parity.TinyModel(layout, **VARIANTS[variant])
    packed, single = parity.compare(model, head, parity.varied_lengths(12, 100))
    assert packed <= TOLERANCE
    assert single <= TOLERANCE


@pytest.mark.parametrize("lengths", [[7], [9] * 5, [2, 100], list(range(2, 40)), [100, 99, 3, 3, 3, 64]])
def test_lengths(lengths):
    assert max(parity.compare(parity.TinyModel("bert"), "mean", lengths)) <= TOLERANCE
    assert max(parity.compare(parity.TinyModel("xlm-roberta"), "cls", lengths)) <= TOLERANCE


@pytest.mark.encoder
@pytest.mark.slow
def test_default_encoder(default_encoder):
    packed, single = parity.compare_folder(default_encoder, parity.varied_lengths(64, 256))
    assert max(packed, single) <= TOLERANCE


def tiny_classifier(head="mean", layout="bert", **options):
    torch.manual_seed(3)
    config = parity.TinyModel(layout).config()
    classifier = build_classifier(config, num_labels=4, head=head, **options)
    classifier.encoder.initialise(torch.Generator().manual_seed(1))
    return parity.randomise(classifier, 2)


def make_batch(lengths, seed=1):
    rows, segments = parity.random_texts(lengths, 200, pairs=True, seed=seed)
    single = [parity.pack_rows([row], [segment]) for row, segment in zip(rows, segments, strict=True)]
    return parity.pack_rows(rows, segments), single


@pytest.mark.parametrize("head", ["mean", "cls"])
@settings(max_examples=15)
@given(lengths=st.lists(st.integers(1, 120), min_size=1, max_size=12))
def test_packing_changes_neither_logits_nor_gradients(head, lengths):
    classifier = tiny_classifier(head)
    packed, single = make_batch(lengths)
    weights_BL = torch.randn(len(lengths), 4, generator=torch.Generator().manual_seed(0))
    together_BL = classifier(to_device(packed, "cpu"))
    apart_BL = torch.cat([classifier(to_device(batch, "cpu")) for batch in single])
    torch.testing.assert_close(together_BL, apart_BL, rtol=0, atol=TOLERANCE)
    parameters = dict(classifier.named_parameters())
    expected = torch.autograd.grad((apart_BL * weights_BL).sum(), parameters.values(), allow_unused=True)
    found = torch.autograd.grad((together_BL * weights_BL).sum(), parameters.values(), allow_unused=True)
    for name, ours, theirs in zip(parameters, found, expected, strict=True):
        assert ours is not None, name
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize("layout", parity.LAYOUTS)
def test_first_tokens_alone_equal_first_tokens_of_all(layout):
    encoder = tiny_classifier(layout=layout).encoder
    batch = to_device(make_batch([5, 90, 17, 5, 64, 1, 33])[0], "cpu")
    all_TD = encoder(batch, first_only=False)
    firsts_BD = encoder(batch, first_only=True)
    torch.testing.assert_close(firsts_BD, all_TD[batch.firsts_B], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("layout", parity.LAYOUTS)
def test_a_cls_classifier_loads_in_transformers(tmp_path, layout):
    from transformers import AutoModelForSequenceClassification

    classifier = tiny_classifier("cls", layout)
    config, state = to_hugging_face(classifier, parity.TinyModel(layout).config(), ("a", "b", "c", "d"))
    parity.save_folder(tmp_path, config, state)
    reference, report = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert reference.config.problem_type == "multi_label_classification"
    assert reference.config.id2label == {0: "a", 1: "b", 2: "c", 3: "d"}
    rows, segments = parity.random_texts([9, 30], 200, pairs=layout == "bert", seed=4)
    with torch.no_grad():
        ours = classifier(to_device(parity.pack_rows(rows, segments), "cpu"))
        for row, segment, logits_L in zip(rows, segments, ours, strict=True):
            theirs = reference.eval()(
                input_ids=torch.tensor(row)[None], token_type_ids=torch.tensor(segment)[None]
            )
            torch.testing.assert_close(theirs.logits[0], logits_L, rtol=0, atol=TOLERANCE)


OTHERS = {
    "albert": {"embedding_size": 16, "num_attention_heads": 4},
    "camembert": {},
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "distilbert": {"dim": 32, "n_heads": 4, "n_layers": 2, "hidden_dim": 64},
    "electra": {"embedding_size": 16},
    "ernie": {},
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16},
    "modernbert": {"cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2},
    "mpnet": {},
    "rembert": {"input_embedding_size": 16},
}


@pytest.mark.parametrize("model_type", OTHERS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_other_architectures_through_transformers(tmp_path, model_type):
    from transformers import AutoConfig, AutoModel

    model = parity.TinyModel(model_type, num_layers=2, extra={"type_vocab_size": 2, **OTHERS[model_type]})
    given_config = {key: value for key, value in model.config().items() if key != "hidden_act"}
    if model_type == "distilbert":
        for key in ("hidden_size", "num_hidden_layers", "num_attention_heads"):
            given_config.pop(key)
    torch.manual_seed(1)
    reference = parity.randomise(AutoModel.from_config(AutoConfig.for_model(**given_config)), 1)
    reference.save_pretrained(tmp_path)
    encoder = load_pretrained(tmp_path, num_labels=3, head="mean").eval().encoder
    rows, segments = parity.random_texts([4, 60, 11, 11], 200, pairs=False, seed=2)
    batch = to_device(parity.pack_rows(rows, segments), "cpu")
    with torch.no_grad():
        expected = torch.cat(
            [reference(input_ids=torch.tensor(row)[None]).last_hidden_state[0] for row in rows]
        )
        found = encoder(batch, first_only=False)
        firsts = encoder(batch, first_only=True)
    assert encoder.hidden_size == found.shape[1]
    scale = max(1.0, float(expected.abs().max()))  # MobileBERT does not normalise: states up to 70
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE * scale)
    torch.testing.assert_close(firsts, found[batch.firsts_B], rtol=0, atol=TOLERANCE)


def test_bf16_stays_near_fp32():
    classifier = tiny_classifier("mean")
    batch = to_device(make_batch([20, 25, 100, 64])[0], "cpu")
    exact = classifier(batch)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = classifier(batch)
    assert (rounded.float() - exact).abs().max() <= 0.1 * exact.abs().max() + 0.05


def test_reading_a_config_back(tmp_path):
    config = parity.TinyModel("bert").config()
    parity.save_folder(tmp_path, config, {"x": torch.zeros(1)})
    assert read_config(tmp_path) == config
    assert np.isclose(read_config(tmp_path)["layer_norm_eps"], 1e-12)
