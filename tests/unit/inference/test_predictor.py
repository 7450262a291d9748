"""What `predict` takes; the engine is a stand-in that counts texts."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from manylabel.decisions.abstain import Zones
from manylabel.decisions.thresholds import Thresholds
from manylabel.errors import UsageError
from manylabel.inference import scorer as module
from manylabel.inference.predictor import Predictor
from manylabel.inference.scorer import SingleScorer
from manylabel.text.tokenizer import TextTokenizer
from manylabel.values import Predictions


class LengthEngine:
    """Logits that are the number of tokens of each text and its negative."""

    def logits(self, batch):
        lengths = batch.lengths_B.astype(np.float32)
        return np.stack([lengths, -lengths], axis=1)


@pytest.fixture
def make(tiny_encoder):
    tokenizer = TextTokenizer.from_folder(tiny_encoder, max_length=64)
    thresholds = Thresholds(("long", "short"), np.array([0.5, 0.5]), np.array([True, True]), (None, None))

    def make(*, takes_pairs=False):
        scorer = SingleScorer(LengthEngine(), tokenizer, token_budget=256)
        return Predictor(scorer, thresholds, takes_pairs=takes_pairs)

    return make


def chunked(texts):
    return pa.table({"text": texts})["text"]


TEXTS = ["the team", "please help me with my order today", "thanks"]


@pytest.mark.parametrize(
    "kind",
    [
        tuple,
        iter,
        lambda texts: (text for text in texts),
        dict.fromkeys,
        np.array,
        pd.Series,
        pa.array,
        chunked,
    ],
)
def test_anything_that_gives_texts_will_do(make, kind):
    expected = make().predict(TEXTS).probabilities_BL
    assert expected.shape == (3, 2)
    assert np.array_equal(make().predict(kind(TEXTS)).probabilities_BL, expected)
    assert np.array_equal(make().probabilities(kind(TEXTS)), expected)


def test_a_generator_longer_than_a_pass_is_read_once(make, monkeypatch):
    monkeypatch.setattr(module, "TEXTS_PER_PASS", 2)
    expected = make().predict(TEXTS).probabilities_BL
    assert np.array_equal(make().predict(text for text in TEXTS).probabilities_BL, expected)


def test_pairs_may_be_generators_too(make):
    model = make(takes_pairs=True)
    expected = model.predict(TEXTS, TEXTS[::-1]).probabilities_BL
    both = model.predict((text for text in TEXTS), (text for text in TEXTS[::-1])).probabilities_BL
    assert np.array_equal(both, expected)
    with pytest.raises(UsageError, match="U208 prediction: 1 text but 2 pairs"):
        model.predict(["a"], iter(["b", "c"]))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one text", r"put the text into a list: predict\(\[text\]\)"),
        (7, "a list of texts, not int"),
        (None, "a list of texts, not NoneType"),
        ([None], "text 0 is NoneType, expected str"),
        (iter(["a", 5]), "text 1 is int, expected str"),
        (b"bytes", "text 0 is int, expected str$"),
        (["a", float("nan")], "text 1 is float, expected str; replace missing texts by ''"),
        (pd.Series(["a", None], dtype=object), "text 1 is NoneType, expected str; replace missing"),
        (pd.DataFrame({"text": ["a"]}), r"not a table; give one column of it"),
        (pa.table({"text": ["a"]}), r"not a table; give one column of it"),
        (pa.array(["a", None]), "text 1 is NoneType, expected str; replace missing"),
        (np.array([["a"]]), "text 0 is ndarray, expected str$"),
    ],
)
def test_what_gives_no_texts_is_refused_in_words(make, texts, message):
    with pytest.raises(TypeError, match=message):
        make().predict(texts)


def test_zones_mark_labels_for_a_human_and_change_no_decision(make, tiny_encoder):
    plain = make().predict(TEXTS)
    middle, other = plain.probabilities_BL[1]
    zones = Zones(
        ("long", "short"),
        np.array([middle, 0.0]),
        np.array([np.nextafter(middle, 2.0), other]),
        (None,) * 2,
        (None,) * 2,
    )
    tokenizer = TextTokenizer.from_folder(tiny_encoder, max_length=64)
    scorer = SingleScorer(LengthEngine(), tokenizer, token_budget=256)
    predictor = Predictor(scorer, make().thresholds, zones=zones)
    marked = predictor.predict(TEXTS)
    assert np.array_equal(marked.decisions_BL, plain.decisions_BL)
    # "short" falls with the length of a text, so the longest one has its lowest probability, the zone's open end.
    assert marked.uncertain_BL.tolist() == [[False, False], [True, False], [False, False]]
    assert [marked.needs_review(row) for row in range(3)] == [(), ("long",), ()]
    assert plain.uncertain_BL is None
    assert plain.needs_review(1) == ()
    for changed in (predictor.with_thresholds(make().thresholds), predictor.with_folding()):
        assert changed.zones is zones
        assert np.array_equal(changed.predict(TEXTS).uncertain_BL, marked.uncertain_BL)
    assert predictor.predict([]).uncertain_BL.shape == (0, 2)


def test_predictions_need_one_mark_a_cell():
    square = np.zeros((2, 2), bool)
    with pytest.raises(ValueError, match="uncertain"):
        Predictions(np.zeros((2, 2)), square, ("a", "b"), np.zeros(2, bool), np.zeros((2, 1), bool))
