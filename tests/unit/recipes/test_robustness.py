import json

import numpy as np
import pytest

from manylabel.config.schema import DataSettings, EvaluationSettings
from manylabel.data.corpus import load_corpus
from manylabel.evaluation.slices import average_figures
from manylabel.inference.load import load_model
from manylabel.recipes.robustness import folding_predictor, robustness, sampled_rows
from manylabel.text.disguises import ATTACKS, disguise
from manylabel.training.observers import SilentObserver

RECOVERED = ("homoglyphs", "zero_width", "full_width")
SETTINGS = EvaluationSettings(seed=4, resamples=200)


@pytest.fixture(scope="module")
def corpus(tiny_mails):
    return load_corpus(tiny_mails, DataSettings()).corpus


@pytest.fixture(scope="module")
def found(tiny_model, corpus):
    plain = load_model(tiny_model).predictor
    return robustness(plain, folding_predictor(plain), corpus, settings=SETTINGS, observer=SilentObserver())


def test_clean_comes_first_and_every_attack_once(found, corpus):
    assert [each.attack for each in found] == ["clean", *ATTACKS]
    assert [each.changed for each in found[:1]] == [0]
    assert all(0 < each.changed <= each.rows == len(corpus) for each in found[1:])


def test_figures_are_those_of_the_attacked_texts(found, corpus, tiny_model):
    predictor = load_model(tiny_model).predictor
    for each in found:
        texts = [
            text if each.attack == "clean" else disguise(text, each.attack, seed=4) for text in corpus.texts
        ]
        predictions = predictor.predict(texts)
        expected = average_figures(corpus.targets_NL, predictions.probabilities_BL, predictions.decisions_BL)
        assert each.plain.macro == pytest.approx(expected.macro)
        assert each.plain.micro == pytest.approx(expected.micro)


def test_folding_restores_what_it_promises_and_costs_nothing_on_clean_texts(found):
    by_attack = {each.attack: each for each in found}
    clean = by_attack["clean"]
    assert clean.folded == clean.plain
    # What folding undoes changes nothing, and so has no interval.
    assert clean.folded_change["macro", "f1"].value == 0.0
    assert clean.change == {}
    for attack in RECOVERED:
        assert by_attack[attack].folded.macro == pytest.approx(clean.plain.macro)
    hurt = [
        attack for attack in RECOVERED if by_attack[attack].plain.macro["f1"] < clean.plain.macro["f1"] - 0.1
    ]
    assert "homoglyphs" in hurt


def test_what_an_attack_costs_has_a_paired_interval(found):
    by_attack = {each.attack: each for each in found}
    clean, hurt = by_attack["clean"], by_attack["homoglyphs"]
    for path in (("macro", "average_precision"), ("macro", "f1"), ("micro", "f1")):
        kind, metric = path
        change = hurt.change[path]
        assert change.value == pytest.approx(
            getattr(hurt.plain, kind)[metric] - getattr(clean.plain, kind)[metric]
        )
        assert change.low < change.value < change.high
        assert change.high < 0.0
    content = hurt.to_json()
    assert content["change"]["micro"]["f1"] == {
        "difference": hurt.change["micro", "f1"].value,
        "low": hurt.change["micro", "f1"].low,
        "high": hurt.change["micro", "f1"].high,
    }
    assert "change" in content["folded"]


def test_json_is_plain(found):
    content = json.loads(json.dumps([each.to_json() for each in found], allow_nan=False))
    assert set(content[0]) >= {"attack", "rows", "changed_rows", "macro", "micro", "folded"}
    assert set(content[1]["folded"]["macro"]) == {"roc_auc", "average_precision", "f1"}


def test_a_sample_is_seeded_and_bounded():
    first = sampled_rows(1000, max_rows=100, seed=1)
    assert len(set(first.tolist())) == 100
    assert np.array_equal(first, np.sort(first))
    assert np.array_equal(first, sampled_rows(1000, max_rows=100, seed=1))
    assert not np.array_equal(first, sampled_rows(1000, max_rows=100, seed=2))
    assert sampled_rows(3, max_rows=100, seed=1).tolist() == [0, 1, 2]
    assert len(sampled_rows(0, max_rows=100, seed=1)) == 0


def test_a_sample_is_scored_without_folding_too(tiny_model, corpus):
    plain = load_model(tiny_model).predictor
    found = robustness(plain, None, corpus, settings=SETTINGS, observer=SilentObserver(), max_rows=10)
    assert all(each.rows == 10 and each.folded is None for each in found)


def test_a_model_trained_with_folding_says_so_after_loading(tmp_path, tiny_mails, tiny_encoder, train_tiny):
    folder = train_tiny(
        tiny_mails, tiny_encoder, tmp_path / "model", text__normalization="fold", training__epochs=1
    )
    predictor = load_model(folder).predictor
    assert folding_predictor(predictor) is None
    disguised, plain = predictor.probabilities(["mу pаrcel is l\u200bate", "my parcel is late"])
    # Equal tokens in different places of a batch may differ in the last bit.
    assert disguised == pytest.approx(plain, abs=1e-6)
    unfolded = load_model(folder).predictor.probabilities(["something else"])[0]
    assert np.abs(unfolded - plain).max() > 1e-4
