"""Expected numbers come from scikit-learn, from a calibration error by loops, or are worked by hand."""

import numpy as np
import pytest
import sklearn.metrics as reference

from manylabel.evaluation.metrics import Counts
from manylabel.evaluation.proper import (
    brier,
    equal_mass_bins,
    expected_calibration_error,
    expected_cost,
    log_loss,
    reliability,
)


@pytest.fixture
def column():
    generator = np.random.default_rng(5)
    probabilities_K = generator.random(400) ** 3
    return (generator.random(400) < probabilities_K).astype(np.int8), probabilities_K


def test_brier_score_and_log_loss_agree_with_scikit_learn(column):
    assert brier(*column).value == pytest.approx(reference.brier_score_loss(*column), abs=1e-14)
    assert log_loss(*column).value == pytest.approx(reference.log_loss(*column), abs=1e-14)


def test_certain_probabilities_are_clipped_as_scikit_learn_clips_them():
    targets_K, probabilities_K = np.array([1, 0, 1, 0], dtype=np.int8), np.array([0.0, 1.0, 1.0, 0.0])
    ours = log_loss(targets_K, probabilities_K).value
    assert ours == pytest.approx(reference.log_loss(targets_K, probabilities_K), rel=1e-12)
    assert ours == pytest.approx(-np.log(np.finfo(np.float64).eps) / 2)
    # Single precision is no reason to clip more.
    assert log_loss(targets_K, probabilities_K.astype(np.float32)).value == ours


def test_one_class_has_proper_scores():
    targets_K, probabilities_K = np.zeros(2, dtype=np.int8), np.array([0.5, 0.25])
    assert brier(targets_K, probabilities_K).value == (0.25 + 0.0625) / 2
    assert log_loss(targets_K, probabilities_K).value == pytest.approx(-(np.log(0.5) + np.log(0.75)) / 2)
    assert expected_calibration_error(targets_K, probabilities_K).value == 0.375


def test_nothing_annotated_has_none():
    nothing = np.zeros(0, dtype=np.int8), np.zeros(0)
    for measure in (brier, log_loss, expected_calibration_error):
        assert measure(*nothing).reason == "nothing is annotated"
    assert expected_cost(Counts(0, 0, 0, 0), 1.0, 1.0).reason == "nothing is annotated"
    assert [len(part) for part in vars(reliability(*nothing)).values()] == [0, 0, 0]


def error_by_loops(targets_K, probabilities_K, num_bins):
    """The rule of the module, row by row: each row's bin from its mean position among equal ones."""
    num_rows = len(targets_K)
    used = max(1, min(num_bins, num_rows // 5))
    members = {}
    for target, probability in zip(targets_K.tolist(), probabilities_K.tolist(), strict=True):
        lower = sum(other < probability for other in probabilities_K.tolist())
        equal = sum(other == probability for other in probabilities_K.tolist())
        mean_position = lower + (equal - 1) / 2
        members.setdefault(int(used * mean_position // num_rows), []).append((target, probability))
    total = 0.0
    for rows in members.values():
        targets, probabilities = zip(*rows, strict=True)
        total += abs(sum(targets) - sum(probabilities))
    return total / num_rows


@pytest.mark.parametrize("num_rows", [1, 4, 5, 23, 74, 75, 300])
@pytest.mark.parametrize("digits", [1, 2, 17])
def test_calibration_error_is_that_of_the_loops(column, num_rows, digits):
    targets_K, probabilities_K = column[0][:num_rows], np.round(column[1][:num_rows], digits)
    for num_bins in (1, 10, 15):
        ours = expected_calibration_error(targets_K, probabilities_K, num_bins=num_bins).value
        assert ours == pytest.approx(error_by_loops(targets_K, probabilities_K, num_bins), abs=1e-12)


def test_without_ties_bins_hold_equally_many_rows_and_give_the_error_of_array_split():
    generator = np.random.default_rng(2)
    probabilities_K = generator.permutation(np.linspace(0.01, 0.99, 300))
    targets_K = (generator.random(300) < 0.3).astype(np.int8)
    shown = reliability(targets_K, probabilities_K)
    assert shown.rows_B.tolist() == [20] * 15
    bins = np.array_split(np.argsort(probabilities_K), 15)
    assert shown.probability_B == pytest.approx([probabilities_K[rows].mean() for rows in bins])
    assert shown.positive_share_B == pytest.approx([targets_K[rows].mean() for rows in bins])
    gaps = np.abs(shown.probability_B - shown.positive_share_B)
    assert expected_calibration_error(targets_K, probabilities_K).value == pytest.approx(gaps.mean())


def test_perfectly_calibrated_groups_have_no_error():
    # A quarter of the rows at 0.25 are positive, half at 0.5, all at 1: any union of them is calibrated.
    probabilities_K = np.repeat([0.0, 0.25, 0.5, 1.0], 40)
    targets_K = np.concatenate([np.arange(40) < positives for positives in (0, 10, 20, 40)]).astype(np.int8)
    for num_bins in range(1, 16):
        assert expected_calibration_error(targets_K, probabilities_K, num_bins=num_bins).value == 0.0
    shown = reliability(targets_K, probabilities_K)
    assert shown.probability_B.tolist() == shown.positive_share_B.tolist() == [0.0, 0.25, 0.5, 1.0]
    assert shown.rows_B.tolist() == [40] * 4


def test_wrong_confidence_costs_its_distance():
    # 0.9 where half are positive: 0.4 apart; 0.1 where none is: 0.1 apart.
    probabilities_K = np.repeat([0.9, 0.1], 10)
    targets_K = np.array([1, 0] * 5 + [0] * 10, dtype=np.int8)
    assert expected_calibration_error(targets_K, probabilities_K).value == pytest.approx(0.25)


def test_a_large_tie_keeps_to_itself():
    probabilities_K = np.concatenate([np.full(60, 0.01), np.linspace(0.1, 0.9, 40)])
    bins_K = equal_mass_bins(probabilities_K, 10)
    # The tie's mean position is 29.5 of 100 rows; the others keep the bins of their own positions.
    assert bins_K.tolist() == [2] * 60 + [6] * 10 + [7] * 10 + [8] * 10 + [9] * 10


@pytest.mark.parametrize("num_bins", [0, -3])
def test_impossible_numbers_of_bins_are_refused(column, num_bins):
    for use in (reliability, expected_calibration_error):
        with pytest.raises(ValueError, match="allowed are 1 and more"):
            use(*column, num_bins=num_bins)


def test_expected_cost_is_per_annotated_cell():
    # Ten cells: four positive, three decided, two of them rightly: two missed, one false alarm.
    counts = Counts(annotated=10, positives=4, decided=3, true_positives=2)
    assert expected_cost(counts, 1.0, 1.0).value == 0.3
    assert expected_cost(counts, 5.0, 0.5).value == (2 * 5 + 0.5) / 10
    assert expected_cost(counts, 0.0, 0.0).value == 0.0
