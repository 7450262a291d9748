"""Attributions: the right word, the same numbers as a loop written out, sums that add up, and honest edges."""

import copy
import csv
import random
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from manylabel.errors import UsageError
from manylabel.inference import integrated_gradients as gradients
from manylabel.inference.backends.torch_backend import TorchBackend
from manylabel.inference.explain import ExplainOptions, explain
from manylabel.inference.integrated_gradients import EmbeddedForward, integrated_gradients
from manylabel.inference.load import load_model
from manylabel.inference.occlusion import occlude, rank_correlation
from manylabel.modeling.classifier import build_classifier
from manylabel.modeling.packed import to_device
from manylabel.text.pack import pack
from manylabel.text.words import tokenize_words
from manylabel.values import Batch

pytestmark = pytest.mark.slow  # many seconds together

TRIGGER = "perfect"
FILLERS = "the order came on monday and we would like to know about it when you have time please look again"
TEXT = "hello the courier was late and my parcel is not here, money back please"
MASKING = ExplainOptions(method="occlusion")


def texts_with_trigger(choose, count, share=1.0):
    texts = []
    for _ in range(count):
        words = choose.choices(FILLERS.split(), k=choose.randint(4, 14))
        if choose.random() < share:
            words.insert(choose.randrange(len(words) + 1), TRIGGER)
        texts.append(" ".join(words))
    return texts


@pytest.fixture(scope="module")
def planted(tmp_path_factory, tiny_encoder, train_tiny):
    """A model of texts that carry `flagged` where they hold the trigger, and `other` by chance."""
    choose = random.Random(3)
    source = tmp_path_factory.mktemp("planted") / "planted.csv"
    with source.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "flagged", "other"])
        for text in texts_with_trigger(choose, 200, share=0.5):
            writer.writerow([text, int(TRIGGER in text), choose.randint(0, 1)])
    # Without dropout, whose random numbers differ between engines: whether so small a network learns depends on them.
    settings = {"training__learning_rate": 0.003, "training__epochs": 10, "training__batch_size": 8}
    settings["model__dropout"] = 0.0
    folder = train_tiny(source, tiny_encoder, source.with_name("model"), **settings)
    return load_model(folder).bundle


@pytest.fixture(scope="module")
def bundle(tiny_model):
    return load_model(tiny_model).bundle


@pytest.fixture(scope="module", params=["mean", "cls"])
def bundle_of_head(request, tiny_model, tiny_cls_model):
    return load_model({"mean": tiny_model, "cls": tiny_cls_model}[request.param]).bundle


@pytest.fixture
def unseen_texts():
    return texts_with_trigger(random.Random(8), 8)


def explained(bundle, text, label, **options):
    return explain(bundle, text, options=ExplainOptions(labels=(label,), **options))


@pytest.mark.parametrize("method", ["integrated-gradients", "occlusion"])
def test_a_planted_trigger_has_the_highest_score(planted, unseen_texts, method):
    for text in unseen_texts:
        found = explained(planted, text, "flagged", method=method)
        label = found.labels[0]
        assert label.decided
        assert found.words[label.strongest(1, 1)[0]].text == TRIGGER
        others = [
            w for word, w in zip(found.words, label.attributions_W, strict=True) if word.text != TRIGGER
        ]
        # About three times as high; how much exactly depends on the weights, and they on the machine.
        assert label.attributions_W.max() > 1.5 * max(others)


def with_random_weights(bundle, seed):
    classifier = copy.deepcopy(bundle.classifier)
    generator = torch.Generator().manual_seed(seed)
    classifier.encoder.initialise(generator)
    classifier.head.initialise(generator)
    return replace(bundle, model=replace(bundle.model, classifier=classifier))


def test_random_weights_give_another_explanation(planted, unseen_texts):
    """Sanity check of Adebayo et al. 2018: an attribution that survives random weights is not about the model."""

    def agreement(text, other, **options):
        rankings = [
            explained(bundle, text, "flagged", **chosen).labels[0].attributions_W
            for bundle, chosen in ((planted, {}), (other, options))
        ]
        return spearmanr(*rankings).statistic

    # One random model may agree or disagree by chance, and alike on all texts; several do so in both directions.
    found = [
        agreement(text, with_random_weights(planted, seed), steps=16)
        for text, seed in zip(unseen_texts * 3, range(24), strict=True)
    ]
    assert abs(np.mean(found)) < 0.4
    assert min(agreement(text, planted, steps=128) for text in unseen_texts) > 0.95


def test_the_parts_add_up(planted, bundle_of_head, unseen_texts):
    for each, text in [(bundle_of_head, TEXT), *((planted, text) for text in unseen_texts)]:
        for label in explain(each, text, options=ExplainOptions(labels=each.labels)).labels:
            total = label.attributions_W.sum() + label.other_tokens
            change = label.logit - label.baseline_logit
            assert label.completeness_error == pytest.approx(abs(total - change), abs=1e-12)
            assert label.completeness_error < 0.01 * abs(change) + 1e-5
            assert label.other_tokens == 0.0


def test_parts_that_miss_the_whole_are_warned_about(planted, unseen_texts):
    found = explained(planted, unseen_texts[0], "flagged")
    label = found.labels[0]
    assert found.warnings() == []
    half = abs(label.logit - label.baseline_logit) / 2
    wrong = replace(found, labels=(replace(label, completeness_error=half),))
    assert wrong.labels[0].relative_error == 0.5
    assert "50.0 %" in wrong.warnings()[0]
    assert "--steps" in wrong.warnings()[0]


def one_text(words):
    length = len(words.ids_T)
    batch = Batch(
        words.ids_T.astype(np.int64),
        words.segments_T.astype(np.int64),
        np.arange(length),
        np.array([0, length]),
    )
    return to_device(batch, "cpu")


class Given(torch.nn.Module):
    """Stands for the word embedding and gives what it was told."""

    def forward(self, ids):
        return self.point


def written_out(classifier, words, *, label, steps):
    """Integrated gradients a step at a time, without captum, hooks or batches."""
    table = classifier.encoder.embeddings.word.weight.detach()
    start, end = (table[torch.from_numpy(ids.astype(np.int64))] for ids in (words.masked_T, words.ids_T))
    given = classifier.encoder.embeddings.word = Given()
    total = torch.zeros_like(start)
    for node, weight in zip(*np.polynomial.legendre.leggauss(steps), strict=True):
        given.point = (start + (node + 1) / 2 * (end - start)).float().requires_grad_()
        (slope,) = torch.autograd.grad(classifier(one_text(words))[0, label], given.point)
        total += weight / 2 * slope
    return (total * (end - start)).sum(-1).numpy()


def test_the_numbers_are_those_of_a_loop_without_captum(bundle_of_head):
    words = tokenize_words(bundle_of_head.tokenizer, TEXT)
    expected = written_out(copy.deepcopy(bundle_of_head.classifier), words, label=1, steps=16)
    found = integrated_gradients(bundle_of_head.classifier, words, label=1, steps=16)
    assert np.abs(found - expected).max() < 1e-6


def auto_classifier(config):
    """One of transformers' encoders with random weights, as `TransformersEncoder` has it."""
    sizes = {"vocab_size": 400, "max_position_embeddings": 64, "pad_token_id": 0}
    torch.manual_seed(2)
    classifier = build_classifier({**sizes, **config}, num_labels=3, head="mean")
    classifier.head.initialise(torch.Generator().manual_seed(3))
    return classifier.eval()


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
AUTO_CONFIGS = [
    {"model_type": "distilbert", "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48},
    {"model_type": "albert", "embedding_size": 16, **SMALL},
    {"model_type": "electra", "embedding_size": 16, **SMALL},
    {"model_type": "deberta-v2", "relative_attention": True, "pos_att_type": ["p2c", "c2p"], **SMALL},
]


@pytest.mark.parametrize("config", AUTO_CONFIGS, ids=lambda config: config["model_type"])
def test_encoders_of_transformers_are_explained_too(bundle, config):
    classifier = auto_classifier(config)
    words = tokenize_words(bundle.tokenizer, TEXT)
    logits = TorchBackend(classifier, dtype=torch.float32)
    scored = occlude(logits, words, token_budget=512)
    forward = EmbeddedForward(classifier, words)
    with torch.no_grad():
        assert np.abs(forward(forward.embed(words.ids_T))[0].numpy() - scored.logits_L).max() <= 1e-5
    tokens_T = integrated_gradients(classifier, words, label=2, steps=64)
    change = scored.logits_L[2] - scored.baseline_logits_L[2]
    assert abs(tokens_T.sum() - change) <= 0.02 * abs(change) + 1e-5


def test_an_encoder_without_word_embedding_is_refused(bundle, monkeypatch):
    classifier = auto_classifier(AUTO_CONFIGS[0])
    monkeypatch.setattr(classifier.encoder.model, "get_input_embeddings", lambda: None)
    with pytest.raises(UsageError, match=r"U261 .*--method occlusion"):
        EmbeddedForward(classifier, tokenize_words(bundle.tokenizer, TEXT))


def test_the_forward_of_the_gradients_is_the_predictors(bundle_of_head):
    words = tokenize_words(bundle_of_head.tokenizer, TEXT)
    encodings = bundle_of_head.tokenizer.encode([TEXT])
    expected = TorchBackend(bundle_of_head.classifier, dtype=torch.float32).logits(
        pack(encodings, np.array([0]))
    )
    forward = EmbeddedForward(bundle_of_head.classifier, words)
    embedded = forward.embed(words.ids_T).requires_grad_()
    for copies in (1, 5):
        logits = forward(embedded.expand(copies, -1, -1)).detach().numpy()
        assert np.abs(logits - expected).max() <= 1e-5


def test_the_same_call_gives_the_same_numbers(planted, unseen_texts):
    first, second = (explained(planted, unseen_texts[0], "other").to_json() for _ in range(2))
    assert first == second


def test_memory_is_bounded_and_the_numbers_stay(bundle, monkeypatch):
    words = tokenize_words(bundle.tokenizer, TEXT)
    whole = integrated_gradients(bundle.classifier, words, label=0, steps=64)
    sizes = []

    def watched(batch, device):
        sizes.append(batch.num_tokens)
        return to_device(batch, device)

    monkeypatch.setattr(gradients, "to_device", watched)
    monkeypatch.setattr(gradients, "TOKENS_PER_PASS", 100)
    parts = integrated_gradients(bundle.classifier, words, label=0, steps=64)
    assert max(sizes) <= 100 < sum(sizes)
    assert sum(sizes) == 64 * len(words.ids_T)
    assert np.abs(parts - whole).max() < 1e-6
    monkeypatch.setattr(gradients, "TOKENS_PER_PASS", 1)  # Shorter than the text: one copy at a time.
    assert np.abs(integrated_gradients(bundle.classifier, words, label=0, steps=64) - whole).max() < 1e-6


def test_the_model_is_left_as_it_was(bundle):
    before = {name: value.clone() for name, value in bundle.classifier.state_dict().items()}
    bundle.classifier.head.norm.weight.requires_grad_(False)
    explained(bundle, TEXT, "refund")
    asks = {name: parameter.requires_grad for name, parameter in bundle.classifier.named_parameters()}
    bundle.classifier.head.norm.weight.requires_grad_(True)
    assert [name for name, wanted in asks.items() if not wanted] == ["head.norm.weight"]
    assert all(parameter.grad is None for parameter in bundle.classifier.parameters())
    assert not bundle.classifier.encoder.embeddings.word._forward_hooks
    assert all(torch.equal(value, before[name]) for name, value in bundle.classifier.state_dict().items())


def test_occlusion_is_the_difference_of_logits(bundle):
    words = tokenize_words(bundle.tokenizer, TEXT)
    found = explain(bundle, TEXT, options=replace(MASKING, labels=("delivery",)))
    mask = int(words.masked_T[1])
    without = words.ids_T.copy()
    without[words.words_T == 4] = mask  # "late"
    with torch.no_grad():
        whole = bundle.classifier(one_text(words))[0, 1]
        missing = bundle.classifier(one_text(replace(words, ids_T=without)))[0, 1]
    label = found.labels[0]
    assert found.words[4].text == "late"
    assert label.attributions_W[4] == pytest.approx(float(whole - missing), abs=1e-5)
    assert np.array_equal(label.attributions_W, label.occlusion_W)
    assert (found.steps, label.completeness_error, label.rank_correlation.value) == (None, None, None)


def test_rank_correlation_is_spearmans():
    rng = np.random.default_rng(4)
    first, second = rng.normal(size=20), rng.integers(0, 4, 20).astype(float)
    assert rank_correlation(first, second).value == pytest.approx(spearmanr(first, second).statistic)
    assert rank_correlation(first[:2], second[:2]).value is None
    assert rank_correlation(first, np.zeros(20)).reason == "all words have the same weight"


def test_probability_and_decision_are_those_of_prediction(tiny_model):
    loaded = load_model(tiny_model)
    predicted = loaded.predictor.predict([TEXT])
    for column, label in enumerate(
        explain(loaded.bundle, TEXT, options=replace(MASKING, labels=loaded.bundle.labels)).labels
    ):
        assert label.probability == pytest.approx(predicted.probabilities_BL[0, column], abs=1e-7)
        assert label.decided == predicted.decisions_BL[0, column]
        assert label.threshold == loaded.predictor.thresholds.values_L[column]


def test_by_default_decided_labels_or_the_likeliest(planted):
    with_trigger = explain(planted, f"please {TRIGGER} order", options=MASKING)
    assert "flagged" in [label.name for label in with_trigger.labels]
    never = replace(planted.thresholds, values_L=np.ones(2))
    only = explain(replace(planted, thresholds=never), f"please {TRIGGER} order", options=MASKING).labels
    assert len(only) == 1
    assert only[0].probability > 0.5
    assert not only[0].decided
    twice = ExplainOptions(labels=("other", "flagged", "other"), method="occlusion")
    assert [label.name for label in explain(planted, "x", options=twice).labels] == ["other", "flagged"]


@pytest.mark.parametrize("method", ["integrated-gradients", "occlusion"])
@pytest.mark.parametrize("text", ["", " \n ", "\u0007\u200b"])
def test_an_empty_text_is_answered_clearly(bundle, text, method):
    found = explained(bundle, text, "refund", method=method)
    label = found.labels[0]
    assert label.attributions_W.sum() == label.other_tokens == 0.0
    assert label.relative_error is None
    assert label.rank_correlation.value is None
    expected = "the text is empty" if not text.strip() else "words that the tokenizer drops"
    assert [warning for warning in found.warnings() if expected in warning]


def test_long_texts_are_cut_as_in_prediction(tiny_model):
    loaded = load_model(tiny_model)
    text = "late parcel " * 400
    found = explained(loaded.bundle, text, "delivery", method="occlusion")
    assert found.truncated
    assert found.num_tokens == 64
    assert len(found.words) == 62
    assert "64 tokens" in found.warnings()[0]
    assert found.labels[0].probability == pytest.approx(
        loaded.predictor.predict([text]).probabilities_BL[0, 1], abs=1e-7
    )


def test_hard_texts(bundle):
    text = "[MASK] [SEP] 😀👍🏽 我们 ありがとう \ud800 \x1b[31m parcel \u202eevil"
    found = explained(bundle, text, "delivery", steps=16)
    assert found.words[0].text == "[MASK]"
    assert "parcel" in [word.text for word in found.words]
    assert np.isfinite(found.labels[0].attributions_W).all()
    assert found.labels[0].relative_error < 0.01


def test_models_of_pairs(bundle):
    of_pairs = replace(bundle, layout=replace(bundle.layout, pair_column="other"))
    with pytest.raises(UsageError, match="U205"):
        explain(of_pairs, TEXT)
    with pytest.raises(UsageError, match="U205"):
        explain(bundle, TEXT, pair="x")
    found = explain(of_pairs, "late parcel", pair="money back", options=ExplainOptions(labels=("refund",)))
    assert [(word.text, word.part) for word in found.words] == [
        ("late", "text"),
        ("parcel", "text"),
        ("money", "pair"),
        ("back", "pair"),
    ]
    assert found.labels[0].relative_error < 0.01


def test_wrong_options_are_named_together(bundle):
    with pytest.raises(UsageError) as caught:
        explain(bundle, TEXT, options=ExplainOptions(labels=("refnd",), method="magic", steps=2))
    assert [finding.code for finding in caught.value.findings] == ["U262", "U263", "U264"]
    assert "did you mean 'refund'?" in str(caught.value)


def test_without_captum_the_extra_is_named_and_occlusion_works(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(UsageError, match=r"U260 .*pip install 'manylabel\[explain\]'"):
        explain(bundle, TEXT)
    assert explain(bundle, TEXT, options=MASKING).labels


def test_the_shape_of_the_json(bundle):
    content = explained(bundle, "late parcel today", "delivery", steps=16).to_json()
    assert list(content) == [
        "method",
        "steps",
        "baseline",
        "tokens",
        "truncated",
        "words",
        "labels",
        "warnings",
        "caution",
    ]
    assert content["words"][1] == {"text": "parcel", "part": "text", "start": 5, "end": 11, "tokens": 1}
    label = content["labels"]["delivery"]
    assert list(label) == [
        "probability",
        "threshold",
        "decided",
        "logit",
        "baseline_logit",
        "attributions",
        "other_tokens",
        "completeness_error",
        "completeness_error_relative",
        "occlusion",
        "rank_correlation",
        "rank_correlation_reason",
    ]
    assert len(label["attributions"]) == len(label["occlusion"]) == len(content["words"])
    assert (content["method"], content["steps"], content["baseline"]) == (
        "integrated-gradients",
        16,
        "[MASK]",
    )
