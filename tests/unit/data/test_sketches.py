"""Near copies by sketches: the same answers as with the texts, within what an estimate may miss."""

import hashlib
import random
import zlib

import numpy as np
import pytest

from manylabel.data.duplicates import jaccard, leak_audit, shingle_hashes
from manylabel.data.sketches import SKETCH_BYTES, estimated_similarity, nearly_seen, text_sketches

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
    true = np.array(
        [jaccard(shingle_hashes(a), shingle_hashes(b)) for a, b in zip(texts, others, strict=True)]
    )
    assert true.min() < 0.2
    assert true.max() > 0.8
    estimated = np.array([
        estimated_similarity(text_sketches([a])[0], text_sketches([b]))[0]
        for a, b in zip(texts, others, strict=True)
    ])  # fmt: skip
    assert abs((estimated - true).mean()) < 0.01
    assert (estimated - true).std() < 0.05
    assert np.allclose(estimated[true == 1.0], 1.0)


@pytest.mark.parametrize("similarity", [0.4, 0.8, 0.95])
def test_the_same_near_copies_as_with_the_texts(similarity):
    """Where the true similarity is 0.15 away from the limit, more than three standard deviations, both agree."""
    choose = random.Random(3)
    texts = made_up(500, seed=4)
    others = [changed(text, choose.randint(0, 12), choose) for text in texts] + made_up(300, seed=5)
    true = np.array(
        [jaccard(shingle_hashes(a), shingle_hashes(b)) for a, b in zip(texts, others, strict=False)]
    )
    true = np.concatenate([true, np.zeros(300)])
    near = nearly_seen(others, text_sketches(texts), similarity=similarity)
    clear = (np.abs(true - similarity) > 0.15) | (true == 1.0)
    assert clear.sum() > 300
    audit = leak_audit(texts, others, similarity=similarity)
    assert np.array_equal(near[clear], (audit.exact_N | audit.near_N)[clear])


def test_only_different_sketches_of_texts_long_enough_are_kept_in_order():
    texts = [
        "too short for triples",
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


def test_sketches_are_those_of_saved_models():
    """Models hold them, so they may never change: the same in whole numbers, and the bytes of the first version."""
    words = ["one", "two", "three", "four", "five", "six", "seven"]
    triples = [zlib.crc32(" ".join(words[start : start + 3]).encode()) for start in range(5)]

    def number(name, index):
        return int.from_bytes(hashlib.blake2b(f"{name} {index}".encode(), digest_size=8).digest(), "little")

    numbers = [(number("multiplier", index), number("addend", index)) for index in range(SKETCH_BYTES)]
    expected = [min((a * triple + b) % 2**64 >> 32 for triple in triples) % 256 for a, b in numbers]
    (sketch,) = text_sketches([" ".join(words)])
    assert sketch.tolist() == expected
    assert bytes(sketch[:16]).hex() == "dcef9380109564bba00bc3d82d16f255"
