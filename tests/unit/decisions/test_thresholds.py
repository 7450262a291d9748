import json

import numpy as np
import pytest

from manylabel.decisions.thresholds import Thresholds, fit_thresholds
from manylabel.errors import BundleError


def fit_one(targets, scores, dtype=np.float64, **options):
    targets_NL = np.array(targets, dtype=np.int8)[:, None]
    probabilities_NL = np.array(scores, dtype=dtype)[:, None]
    return fit_thresholds(targets_NL, probabilities_NL, ("only",), **{"min_positives": 1, **options})


def test_hand_worked_cut_is_the_midpoint_below_the_last_row_it_decides():
    # Cuts 1..5 have F1 2/3, 1, 4/5, 2/3, 4/7: two rows are best, 0.6 is decided and 0.3 is not.
    fitted = fit_one([1, 1, 0, 0, 0], [0.9, 0.6, 0.3, 0.2, 0.1])
    assert fitted.values_L.tolist() == pytest.approx([0.45])
    assert fitted.judged_L.tolist() == [True]
    assert fitted.reasons == (None,)


def test_rows_with_equal_scores_are_decided_together():
    fitted = fit_one([1, 0, 1, 0], [0.8, 0.4, 0.4, 0.1])
    assert fitted.values_L[0] == pytest.approx(0.25)


def test_lowest_cut_lies_halfway_to_zero_and_zero_decides_everything():
    assert fit_one([0, 1], [0.9, 0.4]).values_L[0] == pytest.approx(0.2)
    assert fit_one([0, 1], [0.9, 0.0]).values_L[0] == 0.0


def test_of_equally_good_cuts_the_nearest_to_the_default_wins_then_the_higher():
    # F1 is 2/3 for 1 row (threshold 0.8) and for 4 rows (threshold 0.1), 1/2 and 2/5 between.
    targets, scores = [1, 0, 0, 1], [0.9, 0.7, 0.6, 0.2]
    assert fit_one(targets, scores).values_L[0] == pytest.approx(0.8)
    assert fit_one(targets, scores, default=0.2).values_L[0] == pytest.approx(0.1)
    # Thresholds 0.75 and 0.25, both 0.25 away from 0.5 and exact in binary.
    assert fit_one([1, 0, 0, 1], [0.875, 0.625, 0.5625, 0.5]).values_L[0] == 0.75


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("score", [1.0, 0.5, 0.1, 1e-30])
def test_neighbouring_scores_are_still_separated(dtype, score):
    upper = dtype(score)
    lower = np.nextafter(upper, dtype(0.0))
    fitted = fit_one([1, 1, 0, 0], [upper, upper, lower, lower], dtype)
    decided = fitted.decide(np.array([[upper], [lower]], dtype=dtype))
    assert decided[:, 0].tolist() == [True, False]


def test_smallest_number_above_zero_is_separated_from_zero():
    tiny = np.nextafter(0.0, 1.0)
    fitted = fit_one([1, 0], [tiny, 0.0])
    assert fitted.decide(np.array([[tiny], [0.0]]))[:, 0].tolist() == [True, False]


def test_a_label_that_validation_cannot_judge_keeps_the_default_with_a_reason():
    targets_NL = np.array(
        [[1, 1, 0, -1, 1], [0, 1, 0, -1, -1], [1, 1, 0, -1, 0], [0, 1, 0, -1, 1]], dtype=np.int8
    )
    probabilities_NL = np.linspace(0.05, 0.95, 20).reshape(4, 5)
    fitted = fit_thresholds(targets_NL, probabilities_NL, tuple("abcde"), min_positives=2, default=0.4)
    assert fitted.judged_L.tolist() == [True, False, False, False, False]
    assert fitted.values_L[1:].tolist() == [0.4, 0.4, 0.4, 0.4]
    needed = "0 positive rows, at least 2 needed"
    # Four positives, no negative; and two positives, one negative.
    negatives = ("0 negative rows, at least 2 needed", "1 negative row, at least 2 needed")
    assert fitted.reasons == (None, negatives[0], needed, needed, negatives[1])


def test_without_rows_every_label_keeps_the_default():
    fitted = fit_thresholds(np.zeros((0, 2), dtype=np.int8), np.zeros((0, 2)), ("a", "b"), default=0.3)
    assert fitted.values_L.tolist() == [0.3, 0.3]
    assert fitted.reasons == ("0 positive rows, at least 5 needed",) * 2


def test_rows_that_are_not_annotated_do_not_move_the_threshold():
    with_gaps = fit_one([1, -1, 1, -1, 0], [0.9, 0.8, 0.6, 0.5, 0.3])
    without = fit_one([1, 1, 0], [0.9, 0.6, 0.3])
    assert with_gaps.values_L.tolist() == without.values_L.tolist()


def test_decide_compares_in_double_precision():
    # 0.1 as float32 is above 0.1 as float64; 0.7 as float32 is below 0.7 as float64.
    thresholds = Thresholds(("a", "b"), np.array([0.1, 0.7]), np.array([True, True]), (None, None))
    decisions_BL = thresholds.decide(np.array([[0.1, 0.7]], dtype=np.float32))
    assert decisions_BL.tolist() == [[True, False]]
    assert decisions_BL.dtype == np.bool_


def test_decide_refuses_another_number_of_labels():
    thresholds = Thresholds(("a", "b"), np.array([0.1, 0.7]), np.array([True, True]), (None, None))
    with pytest.raises(ValueError, match="expected 2 columns"):
        thresholds.decide(np.zeros((3, 1)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.1, 1.1])
def test_numbers_that_are_no_probabilities_are_refused(bad):
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        fit_one([1, 0], [bad, 0.5])
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        Thresholds(("a",), np.array([bad]), np.array([True]), (None,))


def test_shapes_that_disagree_are_refused():
    with pytest.raises(ValueError, match="disagree"):
        fit_thresholds(np.zeros((2, 1), dtype=np.int8), np.zeros((2, 2)), ("a", "b"))


def test_json_round_trip_keeps_every_bit():
    fitted = fit_thresholds(
        np.array([[1, 0], [0, 0], [1, 0]], dtype=np.int8),
        np.array([[1 / 3, 0.2], [0.1, 0.2], [2 / 3, 0.2]]),
        ("a", "b"),
        min_positives=1,
    )
    again = Thresholds.from_json(json.loads(json.dumps(fitted.to_json(), allow_nan=False)))
    assert again.labels == fitted.labels
    assert again.reasons == fitted.reasons
    assert again.values_L.tobytes() == fitted.values_L.tobytes()
    assert again.judged_L.tolist() == fitted.judged_L.tolist()


GOOD = {
    "labels": ["a", "b"],
    "values": [0.5, 1],
    "judged": [True, False],
    "reasons": [None, "no negative rows"],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": [0.5, float("nan")]}, "value 2 is nan"),
        ({"values": [float("inf"), 0.5]}, "value 1 is inf"),
        ({"values": [1.5, -0.1]}, "value 2 is -0.1"),
        ({"values": [0.5, "0.5"]}, "value 2 is str"),
        ({"values": [0.5, True]}, "value 2 is True"),
        ({"values": [0.5]}, "differ in length"),
        ({"values": None}, "values is not a list"),
        ({"judged": [1, 0]}, "true or false"),
        ({"labels": ["a", 2]}, "not text"),
        ({"reasons": [None, 3]}, "neither text nor null"),
    ],
)
def test_damaged_json_is_refused_with_what_is_wrong(change, message):
    assert Thresholds.from_json(GOOD).values_L.tolist() == [0.5, 1.0]
    with pytest.raises(BundleError, match=message):
        Thresholds.from_json({**GOOD, **change})


def test_all_problems_of_a_damaged_json_are_reported_at_once():
    with pytest.raises(BundleError) as caught:
        Thresholds.from_json({"labels": ["a"], "values": [2.0, 3.0], "judged": ["yes"]})
    assert len(caught.value.findings) == 4
