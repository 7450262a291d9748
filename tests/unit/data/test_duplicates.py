import random
import zlib

import numpy as np
import pytest

from manylabel.data.duplicates import (
    contradictory_rows,
    duplicate_groups,
    leak_audit,
    text_fingerprints,
)
from manylabel.data.pairs import joined
from manylabel.data.words import counted_words, jaccard
from manylabel.values import Corpus, LabelSet

pytestmark = pytest.mark.slow  # many seconds together

WORDS = [f"word{number}" for number in range(3000)]


def made_up(count, seed, length=(20, 60)):
    choose = random.Random(seed)
    return [" ".join(choose.choices(WORDS, k=choose.randint(*length))) for _ in range(count)]


def varied(text, index):
    """The same text to a reader: case, white space and compatibility forms differ."""
    forms = (
        text,
        text.upper(),
        f"  {text} \n",
        text.replace(" ", "\u00a0", 3),
        text.replace("word", "\uff57\uff4f\uff52\uff44", 2),
        text.replace(" ", "\t\t"),
    )
    return forms[index % len(forms)]


def nearly(text, choose):
    """One word more at the end: of n + 1 words one is new."""
    return f"{text} {choose.choice(WORDS)}"


def corpus_of(texts, targets, pairs=None):
    count = len(texts)
    return Corpus("t", tuple(texts), LabelSet(("a", "b")), np.array(targets, dtype=np.int8),
                  tuple(map(str, range(count))), np.arange(1, count + 1), pairs=pairs)  # fmt: skip


def test_planted_duplicates_are_all_found():
    """500 exact and variant ones: all; 500 with one word more (similarity 0.95 or higher): at least 99 %."""
    originals = made_up(2_000, seed=1)
    choose = random.Random(2)
    exact = [varied(text, index) for index, text in enumerate(originals[:500])]
    near = [nearly(text, choose) for text in originals[500:1000]]
    groups = duplicate_groups([*originals, *exact, *near], similarity=0.8)
    assert np.array_equal(groups[2000:2500], groups[:500])
    assert (groups[2500:] == groups[500:1000]).mean() >= 0.99
    assert len(np.unique(groups[:2000])) == 2000
    audit = leak_audit(originals, [*exact, *near, *made_up(500, seed=3)])
    assert audit.exact_N.sum() == 500
    assert audit.exact_N[:500].all()
    assert audit.near_N[500:1000].mean() >= 0.99
    assert not audit.near_N[1000:].any()
    assert not (audit.exact_N & audit.near_N).any()


def test_short_texts_are_compared_exactly_only():
    texts = ["Thank you!", "thank  you!", "thank you", "a b c d e", "a b c d f"]
    assert duplicate_groups(texts, similarity=0.1).tolist() == [0, 0, 2, 3, 4]


def test_true_similarity_decides_not_the_sketch():
    """12 words, one of them changed: 11 of 13 are common, 0.846."""
    text = " ".join(WORDS[:12])
    other = " ".join([*WORDS[:11], "x"])
    assert jaccard(counted_words(text), counted_words(other)) == pytest.approx(11 / 13)
    assert duplicate_groups([text, other], similarity=0.85).tolist() == [0, 1]
    assert duplicate_groups([text, other], similarity=0.84).tolist() == [0, 0]


def test_repeated_words_count_as_often_as_they_occur():
    """By hand: no x 3, yes x 3 and no x 4, yes x 2 have 3 + 2 in common of 4 + 3."""
    assert jaccard(counted_words("no yes no yes no yes"), counted_words("no no no no yes yes")) == 5 / 7
    numbers = [zlib.crc32(word.encode()) for word in ("0 no", "1 no", "2 no", "0 yes", "1 yes", "2 yes")]
    assert counted_words("No yes NO yes no yes").tolist() == sorted(numbers)


@pytest.mark.parametrize("num_changed", [1, 2])
def test_copies_of_ten_words_with_one_or_two_changed_are_found_by_default(num_changed):
    """8 of 12 words are common at least, 0.667: of pairs so near the limit the bands miss one in 1,000."""
    choose = random.Random(4)
    texts = made_up(1500, seed=6, length=(10, 14))
    others = []
    for text in texts:
        words = text.split()
        for place in choose.sample(range(len(words)), num_changed):
            words[place] = f"new{place}"
        others.append(" ".join(words))
    assert leak_audit(texts, others).near_N.mean() >= 0.99
    assert not leak_audit(texts, made_up(500, seed=7, length=(10, 14))).near_N.any()


def test_near_copies_are_found_among_many_texts_that_are_much_alike():
    """20,000 letters of one form: ten words common, five their own (0.5); a copy has one word changed (0.875)."""
    choose = random.Random(8)
    form = "dear sir my order of the has not come please"

    def letter():
        return " ".join([form, *(f"n{choose.randrange(10**6)}" for _ in range(5))])

    letters = [letter() for _ in range(20_000)]
    copies = [text.replace(" order ", " parcel ") for text in letters[::400]]
    audit = leak_audit(letters, [*copies, *(letter() for _ in range(50))])
    assert audit.near_N.tolist() == [True] * 50 + [False] * 50
    some = [*letters[:3000], *(text.replace(" order ", " parcel ") for text in letters[:30])]
    assert duplicate_groups(some, similarity=0.65).tolist() == [*range(3000), *range(30)]


@pytest.mark.parametrize("similarity", [0.01, 0.3, 0.99, 1.0])
def test_every_allowed_similarity_works(similarity):
    texts = [*made_up(20, seed=5), *made_up(20, seed=5)]
    groups = duplicate_groups(texts, similarity=similarity)
    assert groups[20:].tolist() == groups[:20].tolist()
    assert leak_audit(texts[:20], texts[20:], similarity=similarity).exact_N.sum() == 20


def test_no_texts_and_surrogates():
    assert duplicate_groups([], similarity=0.8).tolist() == []
    assert len(leak_audit([], []).exact_N) == 0
    odd = "\ud800 a b c d e f g"
    assert duplicate_groups([odd, odd + " h", odd], similarity=0.5).tolist() == [0, 0, 0]


def test_pairs_count_as_part_of_the_text():
    corpus = corpus_of(["a", "a", "a"], [[0, 0]] * 3, pairs=("x", "y", "x"))
    assert duplicate_groups(joined(corpus.texts, corpus.pairs), similarity=0.8).tolist() == [0, 1, 0]


def test_equal_texts_with_different_labels():
    corpus = corpus_of(["a", "b", "A ", "b", "c"], [[0, 1], [1, 1], [1, 1], [1, 1], [0, 0]])
    assert contradictory_rows(corpus).tolist() == [0, 2]


def test_fingerprints_are_equal_for_equal_keys_and_fixed():
    """The number is BLAKE2b-64 of b"a b", little endian, from `hashlib`."""
    import hashlib

    expected = int.from_bytes(hashlib.blake2b(b"a b", digest_size=8).digest(), "little")
    assert text_fingerprints(["A  b", "a b", "c"])[:2].tolist() == [expected, expected]
    assert text_fingerprints([]).dtype == np.uint64


@pytest.mark.data
@pytest.mark.slow
def test_54_000_comments_take_less_than_a_minute(data_folder):
    import time

    from manylabel.config.schema import DataSettings
    from manylabel.data.read import read_table

    texts = read_table(data_folder / "jigsaw" / "train.csv", DataSettings())["comment_text"].to_pylist()
    started = time.perf_counter()
    groups = duplicate_groups(texts, similarity=0.8)
    assert time.perf_counter() - started < 60
    assert len(np.unique(groups)) < len(texts)


def test_a_cell_that_nobody_annotated_contradicts_nothing():
    targets_NL = np.array([[1, -1], [-1, 0], [1, 0], [0, 0], [-1, -1]], dtype=np.int8)
    texts = ("same", "same", "other", "Other", "other")
    ids = tuple("12345")
    corpus = Corpus("t", texts, LabelSet(("a", "b")), targets_NL, ids, np.arange(1, 6))
    assert contradictory_rows(corpus).tolist() == [2, 3, 4]


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        (
            "我们的包裹已经三个星期没有到了请尽快告诉我们现在它在哪里谢谢",
            "我们的包裹已经四个星期没有到了请尽快告诉我们现在它在哪里谢谢",
        ),
        (
            "この商品は三週間前に注文しましたがまだ届いていませんご確認ください",
            "この商品は二週間前に注文しましたがまだ届いていませんご確認ください",
        ),
        ("ฉันสั่งซื้อสินค้านี้เมื่อสามสัปดาห์ก่อนแต่ยังไม่ได้รับของเลย", "ฉันสั่งซื้อสินค้านี้เมื่อสองสัปดาห์ก่อนแต่ยังไม่ได้รับของเลย"),
    ],
)
def test_near_copies_in_scripts_without_spaces_are_found(text, changed):
    others = [text[::-1] + str(number) for number in range(3)]
    found = leak_audit([*others, text], [changed, "short"])
    assert found.near_N.tolist() == [True, False]
