"""An ensemble's probabilities against the same sums by hand, from models loaded and scored on their own."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit

from manylabel.bundle.ensemble import Component, Ensemble, LinearModel
from manylabel.bundle.load import load_bundle
from manylabel.config.schema import DataSettings
from manylabel.data.corpus import load_corpus
from manylabel.decisions.blend import Blend
from manylabel.evaluation.nb_linear import fit_nb_linear
from manylabel.inference import scorer as passes_of
from manylabel.inference.load import build_predictor, load_model
from manylabel.inference.predictor import Predictor
from manylabel.text.folding import fold
from manylabel.text.tokenizer import TextTokenizer
from manylabel.text.views import encode_view, with_translations

LONG = "please " * 80 + "refund my money"
TEXTS = [
    "i was charged twice please return my money",
    "the parcel is late",
    "thanks you are great",
    "",
    LONG,
    "my parcel arrived and i love it thanks",
]


@pytest.fixture(scope="module")
def networks(tiny_model, tiny_cls_model):
    """The two networks under the names they have in the ensemble, each with its own predictor's logits."""
    bundles = {"net-mean": load_bundle(tiny_model), "net-cls": load_bundle(tiny_cls_model)}
    return {name: replace(bundle.model, name=name) for name, bundle in bundles.items()}


@pytest.fixture(scope="module")
def linear(tiny_model):
    return LinearModel("tfidf", load_bundle(tiny_model).baseline.model)


@pytest.fixture(scope="module")
def logits_of(tiny_model, tiny_cls_model):
    folders = {"net-mean": tiny_model, "net-cls": tiny_cls_model}
    return {name: load_model(folder).predictor.logits(TEXTS)[0] for name, folder in folders.items()}


@pytest.fixture
def make(tiny_model):
    """A function (models, components, blend) -> predictor over an ensemble without calibration."""
    bundle = load_bundle(tiny_model)

    def make(models, components, kind="mean", settings=None, **arrays) -> Predictor:
        blend = Blend(kind, bundle.labels, tuple(each.name for each in components), arrays)
        ensemble = Ensemble(tuple(models), tuple(components), blend)
        changed = replace(
            bundle, model=ensemble, calibration=None, zones=None, settings=settings or bundle.settings
        )
        return build_predictor(changed, precision="fp32")

    return make


def test_one_network_alone_is_that_network_to_the_bit(make, networks, logits_of):
    predictor = make([networks["net-cls"]], [Component("only", ("net-cls",))])
    logits_NL, truncated_N = predictor.logits(TEXTS)
    # The blend of one component is its logit, up to rounding to float32.
    assert np.allclose(logits_NL, logits_of["net-cls"], atol=1e-6, rtol=0)
    assert truncated_N.tolist() == [False] * 4 + [True, False]


def test_a_component_is_the_mean_of_its_models_probabilities(make, networks, logits_of):
    predictor = make(networks.values(), [Component("both", ("net-mean", "net-cls"))])
    by_hand = (expit(logits_of["net-mean"].astype(float)) + expit(logits_of["net-cls"].astype(float))) / 2
    assert np.abs(predictor.probabilities(TEXTS) - by_hand).max() < 1e-6


def test_a_blend_weighs_components_of_several_models_views_and_kinds(make, networks, linear, logits_of):
    components = [
        Component("both", ("net-mean", "net-cls")),
        Component("end", ("net-mean",), "tail"),
        Component("words", ("tfidf",)),
    ]
    weights_CL = np.array([[1.0, 0.5, 0.0], [0.5, -0.25, 1.0], [0.0, 0.75, 0.5]])
    intercepts_L = np.array([0.0, 0.5, -1.0])
    predictor = make(
        [*networks.values(), linear],
        components,
        "stacked",
        weights_CL=weights_CL,
        intercepts_L=intercepts_L,
    )
    mean = logit((expit(logits_of["net-mean"].astype(float)) + expit(logits_of["net-cls"].astype(float))) / 2)
    network = networks["net-mean"]
    encodings = encode_view(network.tokenizer, "tail", TEXTS)
    alone = make([network], [Component("end", ("net-mean",), "tail")])
    tail = alone.logits(TEXTS)[0]
    # Only the long text has another end than beginning.
    assert np.abs(tail - logits_of["net-mean"])[:4].max() < 1e-5
    assert np.abs(tail - logits_of["net-mean"])[4].max() > 1e-4
    assert encodings.truncated_N[4]
    words = logit(linear.model.probabilities(TEXTS))
    by_hand = np.stack([mean, tail, words])
    expected = expit(np.einsum("cnl,cl->nl", by_hand, weights_CL) + intercepts_L)
    assert np.abs(predictor.probabilities(TEXTS) - expected).max() < 1e-6


def test_the_order_of_models_and_components_changes_no_bit(make, networks, linear):
    components = [
        Component("both", ("net-mean", "net-cls")),
        Component("end", ("net-cls",), "tail"),
        Component("words", ("tfidf",)),
    ]
    weights_CL = np.array([[0.2, 0.3, 0.5], [0.3, 0.3, 0.4], [0.5, 0.4, 0.1]])
    first = make([*networks.values(), linear], components, "greedy", weights_CL=weights_CL)
    turned = [Component("both", ("net-cls", "net-mean")), *components[:0:-1]]
    expected = first.logits(TEXTS)[0]
    bundle_order = make(
        [linear, *reversed(networks.values())], turned, "greedy", weights_CL=weights_CL[[0, 2, 1]]
    )
    # The blend names the components in another order, so sums of floats may differ in the last bit.
    assert np.allclose(bundle_order.logits(TEXTS)[0], expected, atol=1e-6, rtol=0)
    scorer = bundle_order._scorer
    scorer._blend = first._scorer._blend
    assert np.array_equal(scorer.logits(TEXTS, None)[0], expected)


def test_texts_are_encoded_once_and_scored_once_a_model_and_view(make, networks, tiny_cls_model, monkeypatch):
    other = replace(load_bundle(tiny_cls_model).model, name="net-other")
    calls = []
    encode = TextTokenizer.encode
    monkeypatch.setattr(
        TextTokenizer, "encode", lambda self, *texts: calls.append(len(texts[0])) or encode(self, *texts)
    )
    components = [
        Component("a", ("net-mean", "net-cls", "net-other")),
        Component("b", ("net-cls",)),
        Component("c", ("net-cls", "net-mean")),
    ]
    predictor = make([*networks.values(), other], components)
    scored = []
    for name, model in predictor._scorer._models.items():
        logits = model.backend.logits
        monkeypatch.setattr(
            model.backend,
            "logits",
            lambda batch, logits=logits, name=name: scored.append((name, batch.num_texts)) or logits(batch),
        )
    predictor.predict(TEXTS)
    assert calls == [len(TEXTS)]
    assert sorted(scored) == [(name, len(TEXTS)) for name in ("net-cls", "net-mean", "net-other")]


@pytest.mark.parametrize("per_pass", [2, 8192])
def test_progress_adds_up_to_the_number_of_texts(make, networks, linear, monkeypatch, per_pass):
    monkeypatch.setattr(passes_of, "TEXTS_PER_PASS", per_pass)
    predictor = make(
        [*networks.values(), linear],
        [
            Component("both", ("net-mean", "net-cls")),
            Component("end", ("net-cls",), "tail"),
            Component("w", ("tfidf",)),
        ],
    )
    told = []
    passed = predictor.predict(TEXTS, on_batch=told.append)
    assert sum(told) == len(TEXTS)
    assert min(told) > 0
    monkeypatch.undo()
    assert np.abs(predictor.probabilities(TEXTS) - passed.probabilities_BL).max() < 1e-6


def test_no_texts_give_no_rows(make, networks):
    predictor = make(networks.values(), [Component("both", ("net-mean", "net-cls"))])
    assert predictor.predict([]).probabilities_BL.shape == (0, 3)


def test_translations_are_read_where_they_are_given_and_else_the_text(make, networks, linear):
    column = "translation:german"
    predictor = make(
        [networks["net-cls"], linear],
        [Component("t", ("net-cls",), column), Component("w", ("tfidf",), column)],
    )
    others = ["thanks great love", "", None, "refund money", "  ", "late parcel"]
    expected = ["thanks great love", *TEXTS[1:3], "refund money", TEXTS[4], "late parcel"]
    plain = predictor.probabilities(TEXTS)
    found = predictor.predict(TEXTS, translations={"german": others}).probabilities_BL
    assert np.array_equal(found, predictor.probabilities(expected))
    assert not np.allclose(found, plain)
    assert np.array_equal(predictor.probabilities(with_translations(TEXTS, {"german": others})), found)
    assert np.array_equal(predictor.predict(TEXTS, translations={"french": others}).probabilities_BL, plain)


def test_folding_reaches_every_model_but_not_the_raw_view(make, networks, linear):
    disguised = ["t\u04bbank\u0455 you a\u0433e great", "p\u0430rcel l\u0430te"]
    plain = [fold(text) for text in disguised]
    assert plain != disguised
    predictor = make(
        [*networks.values(), linear],
        [Component("a", ("net-cls", "tfidf")), Component("b", ("net-mean",), "folded")],
    )
    assert not predictor.folds
    folding = predictor.with_folding()
    assert folding.folds
    assert folding.with_folding().folds
    assert np.array_equal(folding.probabilities(disguised), folding.probabilities(plain))
    assert np.array_equal(folding.probabilities(disguised), predictor.probabilities(plain))
    assert not np.allclose(folding.probabilities(disguised), predictor.probabilities(disguised))
    raw = make([networks["net-cls"], linear], [Component("a", ("net-cls", "tfidf"), "raw")])
    assert np.array_equal(raw.with_folding().probabilities(disguised), raw.probabilities(disguised))


def test_linear_models_alone_need_no_tokens(make, tiny_mails, tiny_model, linear):
    corpus = load_corpus(tiny_mails, DataSettings()).corpus
    fitted = fit_nb_linear(corpus.texts, corpus.targets_NL, corpus.labels.names, seed=1)
    models = [linear, LinearModel("nb", fitted)]
    predictor = make(models, [Component("a", ("tfidf", "nb"))])
    by_hand = (linear.model.probabilities(TEXTS) + fitted.probabilities(TEXTS)) / 2
    predictions = predictor.predict(TEXTS)
    assert np.abs(predictions.probabilities_BL - by_hand).max() < 1e-6
    assert predictor.tokenizer is None
    assert not predictions.truncated_B.any()
    assert not predictor.truncated(TEXTS).any()
    assert predictor.with_folding().folds


def test_a_linear_model_has_finite_logits_where_it_is_sure(linear):
    sure = replace(
        linear.model,
        constant_L=np.array([1, 1, 0], np.uint8),
        prevalence_L=np.array([0.0, 1.0, 0.5]),
    )
    logits_NL = LinearModel("sure", sure).logits(TEXTS)
    assert np.isfinite(logits_NL).all()
    assert logits_NL[0, 0] < -20 < 20 < logits_NL[0, 1]


def test_a_text_is_cut_where_one_network_cuts_it(make, networks):
    short = replace(
        networks["net-mean"],
        tokenizer=TextTokenizer(
            networks["net-mean"].tokenizer._tokenizer.from_str(networks["net-mean"].tokenizer.to_json()),
            max_length=8,
        ),
    )
    predictor = make([networks["net-cls"], short], [Component("a", ("net-cls", "net-mean"))])
    cut = predictor.predict(TEXTS).truncated_B
    assert cut.tolist() == [True, False, False, False, True, True]
    assert np.array_equal(predictor.truncated(TEXTS), cut)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": ("a", "a")}, "at least one model, each once"),
        ({"models": ()}, "at least one model, each once"),
        ({"view": "sideways"}, "no view"),
        ({"view": "translation:"}, "no view"),
    ],
)
def test_components_that_mean_nothing_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Component(**{"name": "c", "models": ("a",), **change})


def test_ensembles_whose_parts_do_not_fit_are_refused(networks, linear):
    labels = linear.model.labels
    one, two = networks.values()
    both = (Component("c", (one.name, two.name)),)
    blend = Blend("mean", labels, ("c",))
    wrong = [
        ((one,), both, blend, "use every model"),
        ((one, two, linear), both, blend, "use every model"),
        ((one, replace(two, name=one.name.upper())), both, blend, "upper and lower"),
        ((one, replace(two, name="../two")), both, blend, "name must match"),
        ((one, replace(two, name="a/b")), both, blend, "name must match"),
        ((one, two), both, Blend("mean", labels, ("d",)), "must weigh these components"),
        ((one, two), both * 2, blend, "must weigh these components"),
        ((one, two), both, Blend("mean", labels[:2], ("c",)), "number of labels"),
        ((linear,), (Component("c", ("tfidf",)),), Blend("mean", labels[::-1], ("c",)), "other labels"),
    ]
    for models, components, blended, message in wrong:
        with pytest.raises(ValueError, match=message):
            Ensemble(models, components, blended)


def test_pairs_reach_networks_as_pairs_and_linear_models_joined(tiny_model, networks, linear):
    single = load_bundle(tiny_model)
    layout = replace(single.layout, pair_column="other")
    components = (Component("a", ("net-cls",)), Component("w", ("tfidf",)))
    blend = Blend("mean", single.labels, ("a", "w"))
    ensemble = Ensemble((networks["net-cls"], linear), components, blend)
    bundle = replace(single, model=ensemble, layout=layout, calibration=None)
    seconds = TEXTS[::-1]
    found = build_predictor(bundle, precision="fp32").probabilities(TEXTS, seconds)
    of_network = build_predictor(replace(bundle, model=networks["net-cls"]), precision="fp32").probabilities(
        TEXTS, seconds
    )
    of_linear = linear.model.probabilities(
        [f"{text}\n{pair}" for text, pair in zip(TEXTS, seconds, strict=True)]
    )
    assert np.abs(found - (of_network + of_linear) / 2).max() < 1e-6


def test_an_ensemble_runs_in_bf16_over_the_same_weights(tiny_ensemble):
    exact, rough = (load_model(tiny_ensemble, precision=precision) for precision in ("fp32", "bf16"))
    difference = np.abs(exact.predictor.probabilities(TEXTS) - rough.predictor.probabilities(TEXTS)).max()
    assert 0 < difference < 0.05
    weights = {parameter.dtype for network in rough.bundle.model.networks
               for parameter in network.classifier.parameters()}  # fmt: skip
    assert len(weights) == 1


def test_a_window_scores_only_texts_that_do_not_fit_and_gives_the_same(make, networks, monkeypatch):
    from manylabel.inference import ensemble

    counts = []

    def counting(backend, encodings, **options):
        counts.append(len(encodings))
        return passes_of.score(backend, encodings, **options)

    monkeypatch.setattr(ensemble, "score", counting)
    net = networks["net-mean"]
    alone = make([net], [Component("tail", ("net-mean",), view="tail")]).logits(TEXTS)[0]
    assert counts == [len(TEXTS)]
    views = [Component(view, ("net-mean",), view=view) for view in ("head", "tail")]
    only_tail = {"weights_CL": np.array([[0.0] * 3, [1.0] * 3])}
    together = make([net], views, kind="greedy", **only_tail).logits(TEXTS)[0]
    assert counts[1:] == [len(TEXTS), 1]
    assert np.allclose(together, alone, atol=1e-5, rtol=0)
