"""Expected numbers are those of the binomial distribution, or follow from what a resample is."""

import numpy as np
import pytest

from manylabel.evaluation.resampling import RARE, make_resampler


def one_label(num_positives, num_rows=1000):
    targets_NL = np.zeros((num_rows, 1), dtype=np.int8)
    targets_NL[:num_positives] = 1
    return targets_NL


def test_a_resample_draws_as_many_rows_as_there_are():
    weights_NR = make_resampler(one_label(300), seed=1).draw_matrix(0, 50)
    assert weights_NR.shape == (1000, 50)
    assert weights_NR.dtype == np.float64
    assert weights_NR.flags.c_contiguous
    assert (weights_NR.sum(axis=0) == 1000).all()
    assert (weights_NR == np.floor(weights_NR)).all()
    # Each row is drawn Binomial(1000, 1/1000) times: mean 1, variance 0.999.
    assert weights_NR.mean() == pytest.approx(1.0)
    assert weights_NR.var() == pytest.approx(0.999, rel=0.05)


def test_a_resample_depends_on_seed_and_number_alone():
    resampler = make_resampler(one_label(7), seed=3)
    assert (resampler.draw_matrix(4, 9)[:, 2] == resampler.draw(6)).all()
    assert (resampler.draw(6) == make_resampler(one_label(7), seed=3).draw(6)).all()
    assert (resampler.draw(6) != resampler.draw(7)).any()
    assert (resampler.draw(6) != make_resampler(one_label(7), seed=4).draw(6)).any()


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("num_rare", [1, 2, 5])
def test_a_rare_side_of_a_label_never_vanishes(side, num_rare):
    targets_NL = one_label(num_rare) if side == 1 else 1 - one_label(num_rare)
    weights_NR = make_resampler(targets_NL, seed=1).draw_matrix(0, 500)
    drawn_R = weights_NR[:num_rare].sum(axis=0)
    assert (drawn_R >= 1).all()
    assert drawn_R.mean() == pytest.approx(num_rare, abs=4 * np.sqrt(num_rare / 500))
    assert (weights_NR.sum(axis=0) == 1000).all()


@pytest.mark.parametrize("num_positives", [8, RARE - 1, RARE, 300])
def test_the_frequency_of_a_label_varies_as_in_a_plain_bootstrap(num_positives):
    drawn_R = (
        make_resampler(one_label(num_positives), seed=1).draw_matrix(0, 3000)[:num_positives].sum(axis=0)
    )
    variance = num_positives * (1 - num_positives / 1000)
    # Standard error of a variance over 3,000 draws: sqrt(2 / 3000) = 2.6 %.
    assert drawn_R.var() == pytest.approx(variance, rel=0.1)
    assert drawn_R.mean() == pytest.approx(num_positives, abs=4 * (variance / 3000) ** 0.5)


def test_rows_of_two_rare_labels_keep_both_present():
    targets_NL = np.zeros((200, 3), dtype=np.int8)
    targets_NL[[0, 1, 2], 0] = 1
    targets_NL[[1, 2, 3, 4], 1] = 1
    targets_NL[[2], 2] = 1
    weights_NR = make_resampler(targets_NL, seed=2).draw_matrix(0, 400)
    assert ((targets_NL == 1).T @ weights_NR >= 1).all()


def test_what_is_not_annotated_counts_as_neither_side():
    targets_NL = np.full((100, 1), -1, dtype=np.int8)
    targets_NL[:2], targets_NL[2:5] = 1, 0
    resampler = make_resampler(targets_NL, seed=1)
    assert (resampler.positive_units_L[0], resampler.negative_units_L[0]) == (2, 3)
    weights_NR = resampler.draw_matrix(0, 300)
    assert (weights_NR[:2].sum(axis=0) >= 1).all()
    assert (weights_NR[2:5].sum(axis=0) >= 1).all()


def test_whole_groups_are_drawn():
    groups = ["a", "b", "a", "c", "b", "d"] * 50
    targets_NL = one_label(120, num_rows=300)
    resampler = make_resampler(targets_NL, groups, seed=1)
    assert resampler.num_units == 4
    weights_NR = resampler.draw_matrix(0, 40)
    rows_of = {name: [row for row, group in enumerate(groups) if group == name] for name in "abcd"}
    for rows in rows_of.values():
        assert (weights_NR[rows] == weights_NR[rows[0]]).all()
    assert sum(weights_NR[rows[0]] for rows in rows_of.values()).mean() == pytest.approx(4, abs=0.5)
    # Numbers name groups just as well.
    numbered = make_resampler(targets_NL, np.array(["abcd".index(group) for group in groups]), seed=1)
    assert (numbered.draw_matrix(0, 40) == weights_NR).all()


def test_a_label_is_as_rare_as_the_groups_that_carry_it():
    targets_NL = one_label(30, num_rows=300)
    groups = np.arange(300) // 30
    resampler = make_resampler(targets_NL, groups, seed=1)
    assert (resampler.positive_units_L[0], resampler.negative_units_L[0]) == (1, 9)
    assert (resampler.draw_matrix(0, 300)[0] >= 1).all()


def test_the_jackknife_leaves_each_unit_out_once():
    weights_NB = make_resampler(one_label(10), seed=1).leave_out_matrix(100)
    assert weights_NB.shape == (1000, 100)
    assert ((weights_NB == 0).sum(axis=1) == 1).all()
    assert ((weights_NB == 0).sum(axis=0) == 10).all()
    few_NB = make_resampler(
        one_label(2, num_rows=7), np.array([0, 0, 1, 1, 2, 2, 2]), seed=1
    ).leave_out_matrix(100)
    assert few_NB.shape == (7, 3)
    assert sorted((few_NB == 0).sum(axis=0)) == [2, 2, 3]


def test_swaps_are_fair_coins_by_group():
    resampler = make_resampler(one_label(100), np.arange(1000) // 4, seed=1)
    swap_NR = resampler.swap_matrix(0, 200)
    assert set(np.unique(swap_NR)) == {0.0, 1.0}
    assert (swap_NR[0::4] == swap_NR[3::4]).all()
    # 50,000 coins: a standard error of 0.0022.
    assert swap_NR.mean() == pytest.approx(0.5, abs=0.01)
    assert (resampler.swap_matrix(3, 5)[:, 0] == swap_NR[:, 3]).all()


def test_one_group_a_row_is_needed():
    with pytest.raises(ValueError, match="2 groups for 3 rows"):
        make_resampler(one_label(1, num_rows=3), ["a", "b"], seed=1)
