"""The page of an explanation: everything in it, nothing outside it, and hostile words inert."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from manylabel.inference.explanation import CAUTION, Explanation, LabelExplanation, Measure, signed
from manylabel.report.highlight import highlight_page
from manylabel.text.words import Word

HOSTILE = (
    "<script>alert(1)</script>",
    "</style><img/src=//x.example>",
    "\x1b[31m",
    "\u202eevil",
    '"onload="x',
    "{{1}}",
)


class Page(HTMLParser):
    """Tags with attributes, the words of elements by class, and all text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.words, self.text = [], [], ""
        self._open = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "span":
            self._open.append(dict(attributes)["class"])
            self.words.append((dict(attributes)["class"], ""))

    def handle_endtag(self, tag):
        if tag == "span":
            self._open.pop()

    def handle_data(self, data):
        self.text += data
        if self._open:
            kind, text = self.words[-1]
            self.words[-1] = (kind, text + data.replace("\n", ""))


def explanation(texts, weights, *, name="refund", parts=None, gaps=1, **changes):
    words, place = [], 0
    for index, text in enumerate(texts):
        words.append(Word(text, parts[index] if parts else "text", place, place + len(text), 1))
        place += len(text) + gaps
    weights = np.array(weights, np.float64)
    label = LabelExplanation(
        name=name,
        probability=0.875,
        threshold=0.25,
        decided=True,
        logit=1.5,
        baseline_logit=-0.5,
        attributions_W=weights,
        other_tokens=0.0,
        occlusion_W=weights / 2,
        completeness_error=0.001,
        rank_correlation=Measure(0.5),
    )
    values = {"steps": 64, "mask_token": "[MASK]", "num_tokens": 9, "truncated": False, **changes}
    return Explanation("integrated-gradients", words=tuple(words), labels=(label,), **values)


def test_words_stand_in_order_with_sign_and_strength():
    page = Page(highlight_page(explanation(["send", "money", "now", "!"], [0.01, 2.0, -1.0, 0.0]), model="m"))
    assert page.words[2:] == [
        ("word weak", "send"),
        ("word for", "money+2.00"),
        ("word against", "now\u22121.00"),
        ("word weak", "!"),
    ]
    strengths = [attributes["style"] for tag, attributes in page.tags if tag == "span"][2:]
    assert strengths == ["--strength:0.01", "--strength:1.00", "--strength:0.50", "--strength:0.00"]
    for shown in ("0.875", "0.250", "yes", "\u22120.50", "+1.50", "0.05 %", CAUTION):
        assert shown in page.text


def test_the_page_asks_for_nothing_and_runs_nothing():
    text = highlight_page(explanation(HOSTILE, np.ones(len(HOSTILE)), name="</title><script>"), model="<m>")
    page = Page(text)
    assert {tag for tag, _ in page.tags}.isdisjoint(
        {"script", "img", "iframe", "object", "form", "base", "a"}
    )
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("src") is None
        assert attributes.get("href", "data:,") == "data:,"
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import|https?:", text)
    for shown in (HOSTILE[0], HOSTILE[1], HOSTILE[4], "{{1}}", "<m>", "</title><script>"):
        assert shown in page.text


def test_words_cannot_turn_the_page_around():
    text = highlight_page(explanation(HOSTILE, np.ones(len(HOSTILE)), name="a\u202eb"), model="m\u2066")
    assert text.replace("\n", "").isprintable()
    page = Page(text)
    isolated = sum(tag == "bdi" for tag, _ in page.tags)
    # In the text, among the strongest and in the table of all; and the names of model and label.
    assert isolated == 3 * len(HOSTILE) + 2


@pytest.mark.parametrize(
    ("texts", "direction"),
    [(["late", "שלום"], "ltr"), (["123", "שלום", "late"], "rtl"), (["مرحبا"], "rtl"), (["42"], "ltr")],
)
def test_texts_run_in_their_direction(texts, direction):
    page = Page(highlight_page(explanation(texts, np.ones(len(texts))), model="m"))
    assert [a["dir"] for tag, a in page.tags if tag == "p" and a.get("class") == "text"] == [direction]


def test_spaces_are_those_of_the_text():
    for gaps, shown in ((0, "我+1.00的+1.00"), (1, "我+1.00 的+1.00")):
        page = Page(highlight_page(explanation(["我", "的"], [1.0, 1.0], gaps=gaps), model="m"))
        assert shown in page.text


def test_pairs_have_two_paragraphs():
    found = explanation(["late", "refund"], [1.0, -1.0], parts=["text", "pair"])
    page = Page(highlight_page(found, model="m"))
    assert sum(attributes.get("class") == "text" for _, attributes in page.tags) == 2
    assert "Its pair" in page.text


def test_warnings_are_shown():
    found = explanation([], [], truncated=True)
    page = Page(highlight_page(found, model="m"))
    for warning in found.warnings():
        assert warning in page.text
    assert len(found.warnings()) == 2


def test_weights_that_round_to_nothing_look_like_nothing():
    values = (0.126, -0.126, 0.001, -0.001, 0.0)
    assert [signed(value) for value in values] == ["+0.13", "-0.13", "0.00", "0.00", "0.00"]
    label = explanation(list("abc"), [0.004, -0.004, 0.0001]).labels[0]
    assert label.strengths_W.tolist() == pytest.approx([0.4, 0.4, 0.01])
    assert label.strongest(1, 3) == label.strongest(-1, 3) == []
    label = explanation(list("abc"), [0.4, -0.8, 0.2]).labels[0]
    assert label.strengths_W.tolist() == pytest.approx([0.5, 1.0, 0.25])
    assert (label.strongest(1, 1), label.strongest(1, 3), label.strongest(-1, 3)) == ([0], [0, 2], [1])
