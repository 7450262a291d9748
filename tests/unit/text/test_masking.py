"""Which tokens are masked, how many, and what becomes of them; counts worked by hand, shares by chance."""

import numpy as np
import pytest

from manylabel.errors import EncoderError
from manylabel.text.masking import WordPieces, mask_tokens, masked_count
from manylabel.text.tokenizer import TextTokenizer

# ids 0 to 4 are special, 10 to 19 continue a word.
PIECES = WordPieces(
    cls_id=2,
    sep_id=3,
    mask_id=4,
    ordinary_O=np.arange(5, 1000),
    is_special_V=np.arange(1000) < 5,
    continues_V=(np.arange(1000) >= 10) & (np.arange(1000) < 20),
)


def text_of(num_tokens, seed=0):
    """[CLS], so many words of one token, [SEP]."""
    words = np.random.default_rng(seed).integers(20, 1000, size=num_tokens)
    return np.concatenate([[2], words, [3]]).astype(np.int64)


def masked(ids_t, seed=1, **options):
    values = {"pieces": PIECES, "share": 0.15, "whole_words": False, **options}
    return mask_tokens(ids_t, np.random.default_rng(seed), **values)


@pytest.mark.parametrize(
    ("num_tokens", "share", "expected"),
    # 0.15 x 10 = 1.5 and 0.5 x 5 = 2.5, halves up; at least one; never more than there are.
    [(0, 0.15, 0), (1, 0.15, 1), (10, 0.15, 2), (5, 0.5, 3), (100, 0.15, 15), (2, 0.99, 2), (3, 0.01, 1)],
)
def test_how_many_tokens_are_masked(num_tokens, share, expected):
    assert masked_count(num_tokens, share) == expected
    assert len(masked(text_of(num_tokens), share=share).places_M) == expected


def test_special_tokens_are_never_masked_and_other_places_stay():
    ids_t = np.array([2, 50, 51, 3, 52, 53, 1, 3])
    for seed in range(50):
        found = masked(ids_t, seed, share=0.9)
        assert not np.isin(found.places_M, [0, 3, 6, 7]).any()
        assert (np.diff(found.places_M) > 0).all()
        others = np.setdiff1d(np.arange(8), found.places_M)
        assert np.array_equal(found.ids_t[others], ids_t[others])


def test_eighty_ten_ten():
    """Of 30,000 chosen tokens; four standard deviations are about 0.9 and 0.7 of a hundred."""
    ids_t = text_of(200_000)
    found = masked(ids_t)
    shown, true = found.ids_t[found.places_M], ids_t[found.places_M]
    assert len(found.places_M) == 30_000
    assert np.mean(shown == 4) == pytest.approx(0.8, abs=0.01)
    # One of the 995 others is the same token by chance.
    assert np.mean(shown == true) == pytest.approx(0.1 + 0.1 / 995, abs=0.008)
    replaced = shown[(shown != 4) & (shown != true)]
    assert len(replaced) / 30_000 == pytest.approx(0.1, abs=0.008)
    assert replaced.min() >= 5
    assert len(np.unique(replaced)) > 900


def test_every_token_is_as_likely_to_be_chosen():
    counts = np.zeros(22)
    for seed in range(4000):
        counts[masked(text_of(20), seed).places_M] += 1
    assert counts[[0, 21]].sum() == 0
    # 3 of 20: 600 of 4,000 expected each, standard deviation 22.6.
    assert np.abs(counts[1:21] - 600).max() < 4 * 22.6


def test_whole_words_are_masked_whole():
    # Words of 2, 1, 3, 1, 2 and 1 tokens: 10 in all, so 3 are wanted at 30 %.
    ids_t = np.array([2, 30, 10, 31, 32, 11, 12, 33, 34, 13, 35, 3])
    words = [{1, 2}, {3}, {4, 5, 6}, {7}, {8, 9}, {10}]
    for seed in range(200):
        places = set(masked(ids_t, seed, share=0.3, whole_words=True).places_M.tolist())
        assert len(places) == 3
        assert all(word <= places or not word & places for word in words)


def test_a_word_longer_than_what_is_wanted_is_taken_when_it_comes_first():
    ids_t = np.array([2, 30, 10, 11, 12, 3])
    assert masked(ids_t, share=0.15, whole_words=True).places_M.tolist() == [1, 2, 3, 4]


def test_a_continuation_after_a_special_token_begins_a_word():
    ids_t = np.array([2, 30, 3, 10, 3])
    taken = {tuple(masked(ids_t, seed, share=0.5, whole_words=True).places_M) for seed in range(40)}
    assert taken == {(1,), (3,)}


def test_the_vocabulary_of_a_tokenizer(tiny_encoder, tiny_vocabulary):
    pieces = WordPieces.of(TextTokenizer.from_folder(tiny_encoder, max_length=8), tiny_encoder)
    names = [tiny_vocabulary[number] for number in (pieces.cls_id, pieces.sep_id, pieces.mask_id)]
    assert names == ["[CLS]", "[SEP]", "[MASK]"]
    assert [tiny_vocabulary[i] for i in np.flatnonzero(pieces.is_special_V)] == list(tiny_vocabulary[:5])
    continued = {token for token in tiny_vocabulary if token.startswith("##")}
    assert {tiny_vocabulary[i] for i in np.flatnonzero(pieces.continues_V)} == continued
    assert pieces.ordinary_O.tolist() == list(range(5, len(tiny_vocabulary)))


def test_a_vocabulary_without_mask_is_refused(tiny_encoder, tiny_vocabulary, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(t for t in tiny_vocabulary if t != "[MASK]") + "\n")
    with pytest.raises(EncoderError, match=r"E180.*\[MASK\]"):
        WordPieces.of(TextTokenizer.from_folder(tmp_path, max_length=8), tmp_path)
