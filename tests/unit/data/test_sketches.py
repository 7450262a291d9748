"""Near copies by sketches: the same answers as with the texts, within what an estimate may miss."""

import hashlib
import random
import zlib

import numpy as np
import pytest

from manylabel.data.duplicates import leak_audit
from manylabel.data.sketches import (
    MAX_OF_BAND,
    SKETCH_BYTES,
    SketchIndex,
    estimated_similarity,
    nearly_seen,
    text_sketches,
)
from manylabel.data.words import counted_words, jaccard

WORDS = [f"word{number}" for number in range(3000)]


def made_up(count, seed):
    choose = random.Random(seed)
    return [" ".join(choose.choices(WORDS, k=choose.randint(20, 120))) for _ in range(count)]


def changed(text, num_words, choose):
    """`text` with some of its words replaced."""
    words = text.split()
    for place in choose.sample(range(len(words)), min(num_words, len(words))):
        words[place] = choose.choice(WORDS)
    return " ".join(words)


def test_estimates_are_unbiased_and_as_exact_as_their_theory_says():
    """The share of 128 independent equal values has the standard deviation sqrt(s (1 - s) / 128), at most 0.045."""
    choose = random.Random(1)
    texts = made_up(600, seed=2)
    others = [changed(text, choose.randint(0, 20), choose) for text in texts]
    true = np.array([jaccard(counted_words(a), counted_words(b)) for a, b in zip(texts, others, strict=True)])
    assert true.min() < 0.2
    assert true.max() > 0.8
    estimated = np.array([
        estimated_similarity(text_sketches([a])[0], text_sketches([b]))[0]
        for a, b in zip(texts, others, strict=True)
    ])  # fmt: skip
    assert abs((estimated - true).mean()) < 0.01
    assert (estimated - true).std() < 0.05
    assert np.allclose(estimated[true == 1.0], 1.0)


@pytest.mark.parametrize("similarity", [0.4, 0.65, 0.8, 0.95])
def test_the_same_near_copies_as_with_the_texts(similarity):
    """Where the true similarity is 0.15 away from the limit, more than three standard deviations, both agree."""
    choose = random.Random(3)
    texts = made_up(500, seed=4)
    others = [changed(text, choose.randint(0, 12), choose) for text in texts] + made_up(300, seed=5)
    true = np.array(
        [jaccard(counted_words(a), counted_words(b)) for a, b in zip(texts, others, strict=False)]
    )
    true = np.concatenate([true, np.zeros(300)])
    near = nearly_seen(others, text_sketches(texts), similarity=similarity)
    clear = (np.abs(true - similarity) > 0.15) | (true == 1.0)
    assert clear.sum() > 300
    audit = leak_audit(texts, others, similarity=similarity)
    assert np.array_equal(near[clear], (audit.exact_N | audit.near_N)[clear])


def test_only_different_sketches_of_texts_long_enough_are_kept_in_order():
    texts = [
        "too short to compare",
        "one two three four five six",
        "One  two THREE four five six",
        "",
        *made_up(5, 6),
    ]
    sketches = text_sketches(texts)
    assert sketches.shape == (6, SKETCH_BYTES)
    assert sketches.dtype == np.uint8
    assert [bytes(row) for row in sketches] == sorted(bytes(row) for row in sketches)
    assert np.array_equal(sketches, text_sketches(texts[::-1]))


def test_short_texts_no_texts_and_similarity_one_find_nothing():
    sketches = text_sketches(made_up(3, 7))
    assert not nearly_seen(["a b", ""], sketches, similarity=0.5).any()
    assert not nearly_seen(made_up(3, 7), sketches, similarity=1.0).any()
    assert not nearly_seen(made_up(3, 7), text_sketches([]), similarity=0.5).any()
    assert nearly_seen([], sketches, similarity=0.5).shape == (0,)
    assert text_sketches([]).shape == (0, SKETCH_BYTES)


def test_near_copies_are_found_among_many_texts_that_are_much_alike():
    """20,000 letters of one form: ten words common, five their own (0.5); a copy has one word changed (0.875)."""
    choose = random.Random(8)
    form = "dear sir my order of the has not come please"

    def letter():
        return " ".join([form, *(f"n{choose.randrange(10**6)}" for _ in range(5))])

    letters = [letter() for _ in range(20_000)]
    copies = [text.replace(" order ", " parcel ") for text in letters[::400]]
    near = nearly_seen(copies, text_sketches(letters), similarity=0.8)
    assert near.mean() >= 0.96
    assert not nearly_seen([letter() for _ in range(50)], text_sketches(letters), similarity=0.8).any()


@pytest.mark.parametrize(("similarity", "at_least"), [(0.65, 0.99), (0.3, 0.98)])
def test_pairs_at_the_limit_share_a_band(similarity, at_least):
    """1 - (1 - s**4)**32 is 0.998 at 0.65, and 1 - (1 - s**2)**64 is 0.998 at 0.3."""
    common = round(200 * similarity / (1 + similarity))
    pairs = [
        [
            " ".join(f"p{pair}w{word}s{side if word >= common else 0}" for word in range(100))
            for side in (1, 2)
        ]
        for pair in range(400)
    ]
    firsts = np.concatenate([text_sketches([first]) for first, _ in pairs])
    seconds = np.concatenate([text_sketches([second]) for _, second in pairs])
    index = SketchIndex(firsts, similarity)
    found = [pair in positions for pair, (positions, _) in enumerate(index.likely(seconds))]
    assert np.mean(found) >= at_least


def test_a_crowded_band_gives_those_that_agree_longest():
    """2,000 sketches with the same first band: the neighbours of the asked one are those with its next bytes."""
    sketches = np.random.default_rng(1).integers(0, 256, (2000, SKETCH_BYTES), dtype=np.uint8)
    sketches[:, :4] = 7
    twin = sketches[1234].copy()
    twin[8:] = np.random.default_rng(2).integers(0, 256, SKETCH_BYTES - 8, dtype=np.uint8)
    ((found, _),) = SketchIndex(sketches, 0.65).likely(twin[None])
    assert len(found) == MAX_OF_BAND
    assert 1234 in found


def test_sketches_are_those_of_saved_models():
    """Models hold them, so they may never change: the same in whole numbers, and the first bytes written down."""
    words = ["one", "two", "three", "two", "five", "six", "seven"]
    counted = ["0 one", "0 two", "0 three", "1 two", "0 five", "0 six", "0 seven"]
    values = [zlib.crc32(word.encode()) for word in counted]

    def number(name, index):
        return int.from_bytes(hashlib.blake2b(f"{name} {index}".encode(), digest_size=8).digest(), "little")

    numbers = [(number("multiplier", index), number("addend", index)) for index in range(SKETCH_BYTES)]
    expected = [min((a * value + b) % 2**64 >> 32 for value in values) % 256 for a, b in numbers]
    (sketch,) = text_sketches([" ".join(words)])
    assert sketch.tolist() == expected
    assert bytes(sketch[:16]).hex() == "f1f6ab920e2001e53a74ba857f60f3f7"
