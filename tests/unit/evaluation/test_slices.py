"""Reference: scikit-learn on the rows of a slice."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from manylabel.decisions.thresholds import Thresholds
from manylabel.evaluation.slices import (
    Slice,
    average_figures,
    evaluate_slices,
    quantile_bounds,
    slices_by_length,
    slices_by_value,
)

LABELS = ("a", "b", "c")


def thresholds(*values):
    return Thresholds(LABELS, np.array(values), np.ones(3, np.bool_), (None,) * 3)


def rows(count, seed=1, missing=0.0):
    choose = np.random.default_rng(seed)
    probabilities_NL = choose.random((count, 3)).round(2)
    targets_NL = (choose.random((count, 3)) < probabilities_NL).astype(np.int8)
    targets_NL[choose.random((count, 3)) < missing] = -1
    return targets_NL, probabilities_NL


def test_lengths_fall_into_the_stated_ranges():
    lengths_N = np.array([1, 16, 17, 64, 65, 256, 257, 9999])
    found = {each.value: each.rows_K.tolist() for each in slices_by_length(lengths_N)}
    assert found == {"1-16": [0, 1], "17-64": [2, 3], "65-256": [4, 5], "257+": [6, 7]}
    assert [each.value for each in slices_by_length(np.array([20, 30]))] == ["17-64"]
    assert slices_by_length(np.zeros(0, np.int64)) == []


@given(st.lists(st.integers(1, 600), min_size=1, max_size=60), st.integers(2, 6))
def test_quantile_bounds_make_slices_that_cover_all_rows(lengths, parts):
    lengths_N = np.array(lengths)
    bounds = quantile_bounds(lengths_N, parts)
    assert list(bounds) == sorted(set(bounds))
    assert len(bounds) < parts
    slices = slices_by_length(lengths_N, bounds=bounds)
    assert sorted(np.concatenate([each.rows_K for each in slices]).tolist()) == list(range(len(lengths)))
    assert len(slices) == len(bounds) + 1


def test_quantiles_halve_different_lengths():
    assert quantile_bounds(np.arange(1, 101), 2) == (50,)
    assert quantile_bounds(np.zeros(0), 4) == ()


@given(st.lists(st.sampled_from([None, "x", "y", "(other)", "(missing)", "z" * 99]), max_size=40))
def test_values_make_slices_that_cover_all_rows_once(values):
    slices = slices_by_value("column", values, top=2)
    covered = [row for each in slices for row in each.rows_K.tolist()]
    assert sorted(covered) == list(range(len(values)))
    assert len({each.value for each in slices}) == len(slices)
    assert all(len(each.value) <= 60 and each.column == "column" for each in slices)


def test_values_are_ranked_and_the_rest_is_other():
    values = ["b", "a", "b", "c", None, "d", "a", "b"]
    found = {each.value: each.rows_K.tolist() for each in slices_by_value("origin", values, top=2)}
    assert found == {"b": [0, 2, 7], "a": [1, 6], "(other)": [3, 5], "(missing)": [4]}
    three = [each.value for each in slices_by_value("origin", ["b", "a", "b", "c"], top=2)]
    assert three == ["b", "a", "c"]
    assert [each.value for each in slices_by_value("origin", ["(other)", None])] == ['"(other)"', "(missing)"]


def test_figures_equal_scikit_learn_on_the_rows_of_the_slice():
    targets_NL, probabilities_NL = rows(400)
    values = [("x", "y", None)[row % 3] for row in range(400)]
    chosen = thresholds(0.4, 0.5, 0.6)
    for figures in evaluate_slices(targets_NL, probabilities_NL, chosen, slices_by_value("origin", values)):
        mask = np.array([(value or "(missing)") == figures.value for value in values])
        targets, scores = targets_NL[mask], probabilities_NL[mask]
        decided = scores >= chosen.values_L
        content = figures.to_json()
        for kind in ("macro", "micro"):
            expected = {
                "roc_auc": roc_auc_score(targets, scores, average=kind),
                "average_precision": average_precision_score(targets, scores, average=kind),
                "f1": f1_score(targets, decided, average=kind),
            }
            assert content[kind] == pytest.approx(expected)
        assert content["rows"] == mask.sum()
        assert content["reason"] is None


def test_cells_without_annotation_count_nowhere():
    targets_NL, probabilities_NL = rows(300, missing=0.3)
    found = average_figures(targets_NL, probabilities_NL, probabilities_NL >= 0.5)
    known = [targets_NL[:, column] >= 0 for column in range(3)]
    aucs = [roc_auc_score(targets_NL[known[i], i], probabilities_NL[known[i], i]) for i in range(3)]
    assert found.macro["roc_auc"] == pytest.approx(np.mean(aucs))
    cells = targets_NL >= 0
    expected = f1_score(targets_NL[cells], probabilities_NL[cells] >= 0.5)
    assert found.micro["f1"] == pytest.approx(expected)


def test_labels_without_positives_are_left_out_and_counted():
    targets_NL, probabilities_NL = rows(100)
    targets_NL[:, 1] = 0
    found = average_figures(targets_NL, probabilities_NL, probabilities_NL >= 0.5)
    assert found.undefined == {"roc_auc": 1, "average_precision": 1, "f1": 1}
    aucs = [roc_auc_score(targets_NL[:, i], probabilities_NL[:, i]) for i in (0, 2)]
    assert found.macro["roc_auc"] == pytest.approx(np.mean(aucs))
    nothing = average_figures(targets_NL[:, 1:2], probabilities_NL[:, 1:2], probabilities_NL[:, 1:2] >= 0.5)
    assert nothing.macro["roc_auc"] is None
    assert nothing.reasons["macro/roc_auc"] == "undefined for every label"
    assert nothing.reasons["micro/f1"] == "no positive rows"


def test_small_slices_are_counted_and_not_judged():
    targets_NL, probabilities_NL = rows(40)
    small, large = Slice("origin", "x", np.arange(29)), Slice("origin", "y", np.arange(30))
    of_small, of_large = evaluate_slices(
        targets_NL, probabilities_NL, thresholds(0.5, 0.5, 0.5), [small, large]
    )
    assert of_small.figures is None
    assert of_small.reason == "29 rows, at least 30 needed"
    assert of_small.to_json()["macro"] == {"roc_auc": None, "average_precision": None, "f1": None}
    assert of_large.figures is not None
    assert json.dumps([of_small.to_json(), of_large.to_json()], allow_nan=False)


def test_intervals_are_asked_for_by_rows_and_passed_on():
    targets_NL, probabilities_NL = rows(60)
    asked = []

    def intervals(rows_K):
        asked.append(rows_K.tolist())
        return {"macro": {"f1": [0.1, 0.2]}}

    slices = [Slice("origin", "x", np.arange(40)), Slice("origin", "y", np.arange(40, 60))]
    found = evaluate_slices(
        targets_NL, probabilities_NL, thresholds(0.5, 0.5, 0.5), slices, intervals=intervals
    )
    assert asked == [list(range(40))]
    assert found[0].to_json()["intervals"] == {"macro": {"f1": [0.1, 0.2]}}
    assert "intervals" not in found[1].to_json()


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="disagree"):
        evaluate_slices(np.zeros((2, 3), np.int8), np.zeros((3, 3)), thresholds(0.5, 0.5, 0.5), [])
