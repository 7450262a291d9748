"""What must hold for every table of targets and probabilities, however degenerate."""

import json
import warnings

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import coverage_error, label_ranking_average_precision_score, label_ranking_loss

from manylabel.decisions.thresholds import Thresholds
from manylabel.evaluation.evaluate import evaluate
from manylabel.evaluation.proper import equal_mass_bins, expected_calibration_error, reliability
from manylabel.evaluation.ranking import per_row_rankings

METRICS = ("roc_auc", "average_precision", "precision", "recall", "f1")


@st.composite
def tables(draw, lowest=-1):
    num_rows, num_labels = draw(st.integers(0, 8)), draw(st.integers(1, 4))
    size = num_rows * num_labels
    targets = draw(st.lists(st.integers(lowest, 1), min_size=size, max_size=size))
    scores = draw(st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]), min_size=size, max_size=size))
    thresholds = draw(
        st.lists(st.sampled_from([0.0, 0.3, 0.5, 1.0]), min_size=num_labels, max_size=num_labels)
    )
    return (
        np.array(targets, dtype=np.int8).reshape(num_rows, num_labels),
        np.array(scores, dtype=np.float32).reshape(num_rows, num_labels),
        Thresholds(
            tuple("abcd")[:num_labels], np.array(thresholds), np.ones(num_labels, bool), (None,) * num_labels
        ),
    )


def evaluated(table):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return evaluate(*table)


@given(tables())
def test_every_number_is_in_its_range_and_every_null_has_a_reason(table):
    ours = evaluated(table)
    json.dumps(ours.to_json(), allow_nan=False)
    parts = [*ours.labels, ours.macro, ours.micro, ours.weighted]
    for part in parts:
        for metric in METRICS:
            value = getattr(part, metric)
            assert (value is None) == (metric in part.reasons)
            assert value is None or 0.0 <= value <= 1.0
    for metric, value in ours.overall.items():
        assert (value is None) == (metric in ours.reasons)
        assert value is None or 0.0 <= value <= (len(ours.labels) if metric == "coverage_error" else 1.0)
    for part in (*ours.labels, ours.macro, ours.micro, ours.weighted):
        for metric in ("brier", "log_loss", "ece")[: 2 if part is ours.micro else 3]:
            value = getattr(part, metric)
            assert (value is None) == (metric in part.reasons)
            assert value is None or 0.0 <= value <= (37.0 if metric == "log_loss" else 1.0)
    for label in ours.labels:
        assert (label.brier is None) == (label.annotated == 0)


@given(tables())
def test_macro_is_the_mean_of_what_is_defined_and_counts_the_rest(table):
    ours = evaluated(table)
    for metric in METRICS:
        values = [value for label in ours.labels if (value := getattr(label, metric)) is not None]
        assert ours.macro.undefined[metric] == len(ours.labels) - len(values)
        if values:
            assert abs(getattr(ours.macro, metric) - np.mean(values)) < 1e-12
        else:
            assert getattr(ours.macro, metric) is None


@given(tables(), st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(table, random):
    targets_NL, probabilities_NL, thresholds = table
    order = np.array(random.sample(range(len(targets_NL)), len(targets_NL)), dtype=np.int64)
    one = evaluated(table).to_json()
    other = evaluated((targets_NL[order], probabilities_NL[order], thresholds)).to_json()
    assert flat(one) == flat(other)


def flat(content, prefix=""):
    if isinstance(content, dict):
        return {
            key: value
            for name, part in content.items()
            for key, value in flat(part, f"{prefix}/{name}").items()
        }
    return {prefix: round(content, 10) if isinstance(content, float) else content}


@settings(max_examples=60)
@given(tables(lowest=0))
def test_rankings_over_labels_are_those_of_scikit_learn(table):
    targets_NL, probabilities_NL, _ = table
    ours = evaluated(table)
    if targets_NL.shape[1] < 2 or not len(targets_NL):
        assert (ours.ranking_loss, ours.lrap) == (None, None)
        return
    assert abs(ours.ranking_loss - label_ranking_loss(targets_NL, probabilities_NL)) < 1e-12
    assert abs(ours.lrap - label_ranking_average_precision_score(targets_NL, probabilities_NL)) < 1e-12
    assert abs(ours.coverage_error - coverage_error(targets_NL, probabilities_NL)) < 1e-12


@given(tables(lowest=0), st.randoms(use_true_random=False))
def test_rankings_do_not_depend_on_the_order_of_the_labels(table, random):
    targets_NL, probabilities_NL, _ = table
    order = random.sample(range(targets_NL.shape[1]), targets_NL.shape[1])
    one = per_row_rankings(targets_NL, probabilities_NL)
    other = per_row_rankings(targets_NL[:, order], probabilities_NL[:, order])
    for metric, values_R in one.items():
        np.testing.assert_allclose(other[metric], values_R, rtol=0, atol=1e-12, err_msg=metric)


@st.composite
def columns(draw):
    size = draw(st.integers(0, 60))
    scores = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]) | st.floats(0.0, 1.0)
    return (
        np.array(draw(st.lists(st.integers(0, 1), min_size=size, max_size=size)), dtype=np.int8),
        np.array(draw(st.lists(scores, min_size=size, max_size=size)), dtype=np.float64),
        draw(st.integers(1, 20)),
    )


@given(columns(), st.randoms(use_true_random=False))
def test_calibration_error_is_a_share_that_no_order_of_rows_changes(column, random):
    targets_K, probabilities_K, num_bins = column
    ours = expected_calibration_error(targets_K, probabilities_K, num_bins=num_bins).value
    if not len(targets_K):
        assert ours is None
        return
    assert 0.0 <= ours <= 1.0
    order = np.array(random.sample(range(len(targets_K)), len(targets_K)), dtype=np.int64)
    again = expected_calibration_error(targets_K[order], probabilities_K[order], num_bins=num_bins)
    assert again.value == ours


@given(columns())
def test_bins_rise_and_never_part_equal_probabilities(column):
    targets_K, probabilities_K, num_bins = column
    bins_K = equal_mass_bins(probabilities_K, num_bins)
    assert ((bins_K >= 0) & (bins_K < num_bins)).all()
    order = np.lexsort((bins_K, probabilities_K))
    assert (np.diff(bins_K[order]) >= 0).all()
    for score in np.unique(probabilities_K):
        assert len(np.unique(bins_K[probabilities_K == score])) == 1
    shown = reliability(targets_K, probabilities_K, num_bins=num_bins)
    assert shown.rows_B.tolist() == [int((bins_K == number).sum()) for number in np.unique(bins_K)]
    if len(np.unique(probabilities_K)) == len(probabilities_K) >= 5 * num_bins:
        assert len(shown.rows_B) == num_bins
        assert shown.rows_B.max() - shown.rows_B.min() <= 1
