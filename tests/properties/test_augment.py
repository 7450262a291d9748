"""What must hold for every text: words kept, order kept, white space kept, nothing invented."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from manylabel.config.schema import AugmentationSettings
from manylabel.data.augment import (
    TextAugmenter,
    _negates,
    _split,
    with_swapped_words,
    with_typos,
    without_words,
)

texts = st.text(max_size=60) | st.lists(
    st.sampled_from(["not", "Refund", "late,", "don't", "我", "a", "\n", "  ", "@x", "naïve"]), max_size=12
).map(" ".join)
chances = st.floats(0, 0.999)
seeds = st.integers(0, 2**31 - 1)


def generator(seed):
    return np.random.default_rng(seed)


def words_of(text):
    return _split(text)[0]


@given(texts)
def test_words_and_gaps_make_the_text(text):
    words, gaps = _split(text)
    assert gaps[0] + "".join(word + gap for word, gap in zip(words, gaps[1:], strict=True)) == text
    assert not any(gap.strip() for gap in gaps)


@given(texts, chances, seeds)
def test_what_is_left_are_words_of_the_text_in_order_with_all_negations(text, chance, seed):
    words, left = words_of(text), words_of(without_words(text, chance, generator(seed)))
    rest = iter(words)
    assert all(word in rest for word in left)
    assert bool(left) == bool(words)
    assert [word for word in left if _negates(word)] == [word for word in words if _negates(word)]


@given(texts, chances, seeds)
def test_swaps_keep_words_white_space_and_lines(text, chance, seed):
    changed = with_swapped_words(text, chance, generator(seed))
    assert [sorted(words_of(line)) for line in changed.split("\n")] == [
        sorted(words_of(line)) for line in text.split("\n")
    ]
    assert [len(line) for line in changed.split("\n")] == [len(line) for line in text.split("\n")]


@given(texts, chances, seeds)
def test_typos_keep_the_number_of_words_and_what_is_between_them(text, chance, seed):
    changed = with_typos(text, chance, generator(seed))
    (words, gaps), (others, other_gaps) = _split(text), _split(changed)
    assert other_gaps == gaps
    assert all(abs(len(other) - len(word)) <= 1 for word, other in zip(words, others, strict=True))


@given(texts, texts, seeds, st.integers(0, 1000), st.integers(0, 10**6))
def test_an_augmented_text_has_a_word_where_there_was_one(text, pair, seed, epoch, row):
    settings = AugmentationSettings(share=1.0, character_noise=1.0, word_dropout=0.9, word_swap=0.5)
    augmenter = TextAugmenter(settings, seed=seed)
    changed = augmenter.changed(text, pair, epoch=epoch, row=row)
    assert changed == augmenter.changed(text, pair, epoch=epoch, row=row)
    if changed is not None:
        assert changed != (text, pair)
        assert bool(words_of(changed[0])) == bool(words_of(text))
        assert bool(words_of(changed[1])) == bool(words_of(pair))
