"""Sentences: nothing of a text is lost but white space, whatever it holds."""

from hypothesis import given
from hypothesis import strategies as st

from manylabel.text.sentences import split_sentences


def test_sentences_of_a_text():
    texts = ["Dr. Smith went home. He was tired!\n\nNew one", "", "  \n ", "no end"]
    assert split_sentences(texts) == [
        ["Dr. Smith went home.", "He was tired!", "New one"],
        [],
        [],
        ["no end"],
    ]
    assert split_sentences(["今天很好。你呢？"], language="zh") == [["今天很好。", "你呢？"]]


@given(st.text(alphabet=st.characters(codec=None), max_size=200))
def test_nothing_but_white_space_is_lost(text):
    (sentences,) = split_sentences([text])
    clean = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert "".join("".join(sentences).split()) == "".join(clean.split())
