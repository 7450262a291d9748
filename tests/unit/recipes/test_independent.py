"""Guarantees rest on rows that are independent: of copies and of groups one row is kept."""

import numpy as np
import pytest
from scipy.stats import binom

from manylabel.decisions.risk import certify_precision
from manylabel.recipes.independent import independent_rows, one_of_each
from manylabel.values import Corpus, LabelSet

LONG = "the parcel came late again and nobody of the shop has answered my three letters so far"
TEXTS = (LONG, "thanks", LONG + " sadly", "THANKS", "I paid twice", "where is it", "no answer yet")


class Told:
    """An observer that keeps what it is told."""

    def __init__(self):
        self.lines = []

    def stage(self, text):
        self.lines.append(text)


def corpus_of(texts=TEXTS, groups=None):
    targets_NL = np.zeros((len(texts), 1), dtype=np.int8)
    ids = tuple(map(str, range(len(texts))))
    rows_N = np.arange(1, len(texts) + 1)
    return Corpus("rows", tuple(texts), LabelSet(("a",)), targets_NL, ids, rows_N, None, groups)


def kept_of(corpus, seed=0, told=None):
    rows = independent_rows(corpus, similarity=0.65, seed=seed, observer=told or Told())
    return [int(each) for each in rows.ids]


def test_one_row_stays_of_copies_near_copies_and_groups():
    told = Told()
    draws = [kept_of(corpus_of(), seed, told) for seed in range(40)]
    # Rows 0 and 2 are near copies, 1 and 3 copies after normalisation.
    assert {tuple(draw) for draw in draws} == {
        tuple(sorted((first, second, 4, 5, 6))) for first in (0, 2) for second in (1, 3)
    }
    assert told.lines[0] == (
        "  2 of 7 rows are copies or near copies of others: left out, "
        "since a guarantee needs independent rows; of each cluster one row was drawn"
    )
    # Group b ties rows 3 and 4, and with them row 1; an empty group is none.
    groups = ("", "", "", "b", "b", "", "c")
    grouped = [kept_of(corpus_of(groups=groups), seed, told) for seed in range(60)]
    assert {len(draw) for draw in grouped} == {4}
    assert {each for draw in grouped for each in draw} == set(range(7))
    assert all({5, 6} < set(draw) for draw in grouped)
    assert "3 of 7 rows are copies or near copies of others or of their group" in told.lines[-1]


def test_nothing_is_said_where_nothing_is_left_out():
    told = Told()
    assert kept_of(corpus_of(TEXTS[4:]), told=told) == [0, 1, 2]
    assert kept_of(corpus_of((), ()), told=told) == []
    assert told.lines == []


def test_every_row_of_a_cluster_is_equally_likely_and_a_seed_repeats_the_draw():
    clusters_N = np.array([0, 1, 0, 0, 4, 1])
    draws = [one_of_each(clusters_N, seed=seed).tolist() for seed in range(3000)]
    assert all(len(draw) == 3 and 4 in draw for draw in draws)
    # 3,000 draws of a third: standard deviation 26; of a half: 27.
    for row, expected in ((0, 1000), (2, 1000), (3, 1000), (1, 1500), (5, 1500)):
        assert sum(row in draw for draw in draws) == pytest.approx(expected, abs=110)
    assert draws[7] == one_of_each(clusters_N, seed=7).tolist()


def test_copies_break_the_promise_of_precision_and_one_row_of_each_keeps_it():
    """A model whose precision is 0.79 everywhere: every certificate of 0.8 is wrong, and at most 10 % are allowed."""
    draws, delta = 300, 0.1
    clusters_N = np.repeat(np.arange(300), 3)
    with_copies = without = 0
    for seed in range(draws):
        generator = np.random.default_rng(seed)
        targets_K = (generator.random(300) < 0.79).astype(np.int8)[clusters_N]
        scores_K = (0.5 + 0.5 * generator.random(300))[clusters_N]
        kept = one_of_each(clusters_N, seed=seed)
        for rows in (slice(None), kept):
            found = certify_precision(targets_K[rows], scores_K[rows], precision=0.8, delta=delta)
            if rows is kept:
                without += found.threshold is not None
            else:
                with_copies += found.threshold is not None
    allowed = binom.ppf(0.999, draws, delta)
    assert with_copies > allowed
    assert without <= draws * delta
