"""Documents of sentences to examples: cases worked by hand, and what must hold for every draw."""

import numpy as np
import pytest

from manylabel.text.segments import Sentences, draw_pairs, find_stretches, whole_stretches
from manylabel.values import Encodings


def encodings_of(lengths):
    """Sentences whose tokens are 100 s + place, each between [CLS] 1 and [SEP] 2."""
    rows = [[1, *(100 * (s + 1) + place for place in range(length)), 2] for s, length in enumerate(lengths)]
    ids = np.array([token for row in rows for token in row], np.int32)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return Encodings(ids, np.zeros(len(ids), np.uint8), offsets, np.zeros(len(rows), np.bool_))


def sentences_of(*documents, longest=100):
    """Sentences of these lengths, document by document."""
    flat = [length for document in documents for length in document]
    return Sentences.of(encodings_of(flat), [len(document) for document in documents], longest=longest)


def test_special_tokens_go_and_long_sentences_are_divided():
    found = sentences_of([2, 5], [0], [3], longest=2)
    assert found.ids_T.tolist() == [100, 101, 200, 201, 202, 203, 204, 400, 401, 402]
    assert found.offsets_S1.tolist() == [0, 2, 4, 6, 7, 9, 10]
    assert found.documents_S.tolist() == [0, 0, 0, 0, 2, 2]
    assert found.num_documents == 2


def test_documents_can_be_selected():
    found = sentences_of([2, 1], [3], [1]).select(np.array([True, False, True]))
    assert found.ids_T.tolist() == [100, 101, 200, 400]
    assert found.offsets_S1.tolist() == [0, 2, 3, 4]
    assert found.documents_S.tolist() == [0, 0, 2]


def test_stretches_are_filled_with_whole_sentences_and_end_with_their_document():
    sentences = sentences_of([3, 3, 3, 9], [4], [10, 1])
    found = find_stretches(sentences, 10)
    assert list(zip(found.starts_N, found.stops_N, strict=True)) == [(0, 3), (3, 4), (4, 5), (5, 6), (6, 7)]
    whole = whole_stretches(sentences, found)
    assert whole.lengths_N.tolist() == [11, 11, 6, 12, 3]


@pytest.fixture(scope="module")
def corpus():
    choose = np.random.default_rng(5)
    documents = [choose.integers(1, 9, size=choose.integers(1, 12)).tolist() for _ in range(300)]
    return sentences_of(*documents)


def test_what_holds_for_every_pair(corpus):
    stretches = find_stretches(corpus, 25)
    sizes = stretches.stops_N - stretches.starts_N
    found = draw_pairs(corpus, stretches, np.random.default_rng(1), capacity=25)
    assert (found.lengths_N <= 28).all()
    assert np.array_equal(found.next_N == -1, sizes == 1)
    document_T = np.repeat(corpus.documents_S, np.diff(corpus.offsets_S1))
    for row in range(len(stretches)):
        (begin, cut), (start, stop) = found.first_N2[row], found.second_N2[row]
        whole = corpus.offsets_S1[[stretches.starts_N[row], stretches.stops_N[row]]]
        assert begin == whole[0]
        assert cut in corpus.offsets_S1
        if found.next_N[row] == 0:
            assert (start, stop) == (cut, whole[1])
            assert begin < cut < stop
        elif found.next_N[row] == 1:
            assert start in corpus.offsets_S1
            assert start < stop
            assert len(set(document_T[start:stop].tolist())) == 1
            assert document_T[start] != document_T[begin]
        else:
            assert (cut, start, stop) == (whole[1], whole[1], whole[1])


def test_half_of_the_pairs_come_from_elsewhere_and_are_drawn_anew(corpus):
    stretches = find_stretches(corpus, 25)
    draws = [draw_pairs(corpus, stretches, np.random.default_rng(s), capacity=25) for s in range(30)]
    labels = np.stack([draw.next_N for draw in draws])
    is_pair = labels[0] >= 0
    assert labels[:, is_pair].mean() == pytest.approx(0.5, abs=0.02)
    assert (labels[:, is_pair].std(axis=0) > 0).all()
    replaced = [np.diff(draw.second_N2)[draw.next_N == 1].mean() for draw in draws]
    real = [np.diff(draw.second_N2)[draw.next_N == 0].mean() for draw in draws]
    # Ends of documents make the replaced ones a little shorter, never much.
    assert np.mean(replaced) == pytest.approx(np.mean(real), rel=0.15)


def test_one_document_gives_no_pairs():
    sentences = sentences_of([3, 3, 3])
    found = draw_pairs(sentences, find_stretches(sentences, 50), np.random.default_rng(0), capacity=50)
    assert found.next_N.tolist() == [-1]
    assert found.lengths_N.tolist() == [11]
