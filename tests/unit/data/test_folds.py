"""Folds: every row once, clusters and groups whole, labels and sizes even, the same again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manylabel.data.folds import make_folds
from manylabel.errors import DataError, UsageError
from manylabel.values import Corpus, LabelSet


def corpus_of(targets, texts=None, groups=None):
    targets = np.asarray(targets, dtype=np.int8)
    texts = texts or [f"text {row}" for row in range(len(targets))]
    names = tuple(f"label {column}" for column in range(targets.shape[1]))
    ids = tuple(map(str, range(len(targets))))
    rows_N = np.arange(1, len(targets) + 1)
    return Corpus("t", tuple(texts), LabelSet(names), targets, ids, rows_N, groups=groups)


def folds_of(corpus, count=5, seed=1, similarity=0.8):
    return make_folds(corpus, count=count, near_duplicate_similarity=similarity, seed=seed)


def test_sizes_and_prevalence_are_even():
    generator = np.random.default_rng(0)
    prevalence = np.array([0.3, 0.1, 0.05, 0.01])
    targets = generator.random((5000, 4)) < prevalence
    folds = folds_of(corpus_of(targets), similarity=1.0)
    assert np.bincount(folds.fold_N).tolist() == pytest.approx([1000] * 5, abs=10)
    for label in range(4):
        counts = np.bincount(folds.fold_N[targets[:, label]], minlength=5)
        assert counts.max() - counts.min() <= 2
    assert folds.warnings == ()


def test_duplicates_near_duplicates_and_groups_stay_together():
    generator = np.random.default_rng(2)
    words = [f"word{number}" for number in range(400)]
    texts = [" ".join(generator.choice(words, 40)) for _ in range(300)]
    near = [text + " one more" for text in texts[:60]]
    copies = [text.upper() + " " for text in texts[60:120]]
    groups = tuple(f"author {number}" if number < 20 else "" for number in generator.integers(0, 60, 420))
    folds = folds_of(corpus_of(generator.random((420, 3)) < 0.2, [*texts, *near, *copies], groups))
    assert (folds.fold_N[:120] == folds.fold_N[300:]).all()
    for group in set(groups) - {""}:
        assert len({folds.fold_N[row] for row in range(420) if groups[row] == group}) == 1
    assert np.bincount(folds.fold_N).min() > 40


def test_a_large_group_shares_its_fold_with_fewer_others():
    targets = np.tile([[0, 1], [1, 0]], (100, 1))
    groups = tuple("bulk" if row < 35 else "" for row in range(200))
    folds = folds_of(corpus_of(targets, groups=groups))
    assert len(set(folds.fold_N[:35])) == 1
    assert np.bincount(folds.fold_N).tolist() == pytest.approx([40] * 5, abs=2)


def test_the_same_seed_gives_the_same_folds_and_another_seed_others():
    corpus = corpus_of(np.random.default_rng(3).random((200, 3)) < 0.3)
    assert np.array_equal(folds_of(corpus).fold_N, folds_of(corpus).fold_N)
    assert not np.array_equal(folds_of(corpus).fold_N, folds_of(corpus, seed=2).fold_N)


def test_a_label_of_one_row_is_told():
    targets = np.zeros((50, 2))
    targets[::2, 0] = 1
    targets[7, 1] = 1
    (warning,) = folds_of(corpus_of(targets)).warnings
    assert warning.code == "D173"
    assert '"label 1"' in warning.found
    assert '"label 0"' not in warning.found


def test_refusals():
    corpus = corpus_of(np.ones((10, 1)), groups=("a", "b") * 5)
    with pytest.raises(DataError, match=r"D172 .*2 clusters"):
        folds_of(corpus)
    for count in (1, 21):
        with pytest.raises(UsageError, match="2 to 20"):
            folds_of(corpus, count=count)


@given(st.data())
def test_any_corpus_is_divided_whole(data):
    num_rows = data.draw(st.integers(2, 40))
    rows = st.lists(st.booleans(), min_size=3, max_size=3)
    targets = data.draw(st.lists(rows, min_size=num_rows, max_size=num_rows))
    names = st.sampled_from(["", "a", "b"])
    groups = tuple(data.draw(st.lists(names, min_size=num_rows, max_size=num_rows)))
    corpus = corpus_of(targets, groups=groups)
    clusters = groups.count("") + len(set(groups) - {""})
    count = data.draw(st.integers(2, 6))
    if clusters < count:
        with pytest.raises(DataError):
            folds_of(corpus, count=count)
        return
    folds = folds_of(corpus, count=count)
    assert set(folds.fold_N.tolist()) == set(range(count))
    parts = [set(folds.held_out(fold).tolist()) for fold in range(count)]
    assert sorted(row for part in parts for row in part) == list(range(num_rows))
    for fold in range(count):
        assert set(folds.others(fold).tolist()) == set(range(num_rows)) - parts[fold]
    for group in set(groups) - {""}:
        assert len({folds.fold_N[row] for row in range(num_rows) if groups[row] == group}) == 1
