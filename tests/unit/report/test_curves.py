import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_curve

from manylabel.report.curves import MAX_POINTS, ranking_curves, reliability, score_counts, thinned
from manylabel.report.numbers import wilson


@pytest.fixture(scope="module")
def column():
    draw = np.random.default_rng(5)
    positive = draw.random(4000) < 0.1
    return positive, 1 / (1 + np.exp(-(draw.normal(size=4000) + 2 * positive - 2)))


def test_small_curves_are_scikit_learns():
    draw = np.random.default_rng(2)
    positive, scores = draw.random(60) < 0.4, np.round(draw.random(60), 1)
    of_precision, of_rates = ranking_curves(positive, scores)
    precision, recall, _ = precision_recall_curve(positive, scores)
    # scikit-learn goes from low to high thresholds and ends with an artificial (recall 0, precision 1).
    np.testing.assert_allclose(of_precision[1:], np.column_stack([recall, precision])[-2::-1])
    false_rate, true_rate, _ = roc_curve(positive, scores, drop_intermediate=False)
    np.testing.assert_allclose(of_rates, np.column_stack([false_rate, true_rate]))


def test_thinned_curves_keep_ends_and_areas(column):
    positive, scores = column
    of_precision, of_rates = ranking_curves(positive, scores)
    assert max(len(of_precision), len(of_rates)) <= MAX_POINTS + 2
    assert of_rates[0].tolist() == [0, 0]
    assert of_rates[-1].tolist() == [1, 1]
    false_rate, true_rate, _ = roc_curve(positive, scores)
    assert auc(*of_rates.T) == pytest.approx(auc(false_rate, true_rate), abs=0.002)
    assert auc(*of_precision.T) == pytest.approx(average_precision_score(positive, scores), abs=0.01)


def test_one_class_has_no_curves():
    assert ranking_curves(np.zeros(3, bool), np.ones(3)) is None
    assert ranking_curves(np.ones(3, bool), np.ones(3)) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=400))
def test_thinned_points_are_some_of_the_points(steps):
    points = np.cumsum(np.array([steps, steps[::-1]]).T, axis=0)
    few = thinned(points)
    assert len(few) <= MAX_POINTS + 2
    assert {tuple(point) for point in few.tolist()} <= {tuple(point) for point in points.tolist()}
    assert few[-1].tolist() == points[-1].tolist()


def test_reliability_by_hand():
    positive = np.array([1, 0, 0, 1, 1], bool)
    scores = np.array([0.05, 0.02, 0.31, 0.39, 1.0])
    first, second, last = reliability(positive, scores)
    assert (first.rows, first.mean_score, first.share) == (2, pytest.approx(0.035), 0.5)
    assert (second.rows, second.mean_score, second.share) == (2, pytest.approx(0.35), 0.5)
    assert (last.rows, last.mean_score, last.share) == (1, 1.0, 1.0)
    assert (first.low, first.high) == wilson(1, 2)


def test_histograms_count_every_row_once(column):
    positive, scores = column
    of_positives, of_negatives = score_counts(positive, scores)
    bins = np.linspace(0, 1, 21)
    assert of_positives == np.histogram(scores[positive], bins)[0].tolist()
    assert of_negatives == np.histogram(scores[~positive], bins)[0].tolist()
    assert score_counts(np.array([True]), np.array([1.0]))[0][-1] == 1
