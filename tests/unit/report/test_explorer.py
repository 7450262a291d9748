from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from manylabel.decisions.thresholds import Thresholds
from manylabel.report.explorer import CUTS_IN_ALL, MOST_CUTS, Reading, cut_tables


@pytest.fixture(scope="module")
def with_gaps(inputs):
    """A fifth of the cells not annotated."""
    gone_NL = np.random.default_rng(1).random(inputs.targets_NL.shape) < 0.2
    return replace(inputs, targets_NL=np.where(gone_NL, -1, inputs.targets_NL).astype(np.int8))


def test_counts_are_scikit_learns_at_every_cut(with_gaps):
    columns = [0, 9, 27]
    for column, table in zip(columns, cut_tables(with_gaps, columns), strict=True):
        annotated_N = with_gaps.targets_NL[:, column] >= 0
        targets = with_gaps.targets_NL[annotated_N, column]
        scores = with_gaps.probabilities_NL[annotated_N, column]
        for index, cut in enumerate(table.cuts_K):
            (tn, fp), (fn, tp) = confusion_matrix(targets, scores >= cut, labels=[0, 1])
            at = table.at(index)
            assert (at.true_negatives, at.false_positives, at.false_negatives, at.true_positives) == (
                tn,
                fp,
                fn,
                tp,
            )


def test_the_start_is_the_models_own_threshold_to_the_last_bit(inputs):
    tables = cut_tables(inputs, list(range(28)))
    assert [float(table.cuts_K[table.start]) for table in tables] == inputs.thresholds.values_L.tolist()
    decided_L = inputs.decisions_NL.sum(axis=0).tolist()
    assert [int(table.decided_K[table.start]) for table in tables] == decided_L


@pytest.mark.parametrize("num_labels", [1, 28, 100])
def test_cuts_are_bounded_rising_and_reach_both_ends(make_inputs, num_labels):
    tables = cut_tables(make_inputs(200, num_labels, full=False), list(range(num_labels)))
    assert all(len(table.cuts_K) <= MOST_CUTS + 1 for table in tables)
    assert sum(len(table.cuts_K) for table in tables) <= CUTS_IN_ALL + num_labels
    for table in tables:
        assert (np.diff(table.cuts_K) > 0).all()
        assert (table.cuts_K[0], table.cuts_K[-1]) == (0.0, 1.0)
        assert int(table.decided_K[0]) == table.annotated


def test_a_label_without_positives_or_rows(make_inputs):
    inputs = make_inputs(50, 2, full=False)
    targets_NL = np.stack([np.zeros(50), np.full(50, -1)], axis=1).astype(np.int8)
    thresholds = Thresholds(
        inputs.labels, np.full(2, 0.5), np.zeros(2, bool), ("0 positive rows", "0 positive rows")
    )
    empty = replace(inputs, targets_NL=targets_NL, thresholds=thresholds)
    none, nothing = (table.at(table.start).shown() for table in cut_tables(empty, [0, 1]))
    assert (none["recall"], none["f1"]) == ("undefined", "undefined")
    assert (nothing["alerts"], nothing["cost"], nothing["tn"]) == ("undefined", "undefined", "0")


def test_a_reading_worked_by_hand():
    """2 of 3 decided are right, 2 of 4 positives found, 20 rows: cost (2 x 5 + 1 x 2) / 20 a row."""
    shown = Reading(0.25, 2, 1, 2, 15).shown(5.0, 2.0)
    space = "\N{NO-BREAK SPACE}"
    assert dict(shown) == {
        "threshold": "0.2500",
        "tp": "2",
        "fp": "1",
        "fn": "2",
        "tn": "15",
        "precision": f"66.7{space}%",
        "recall": f"50.0{space}%",
        "f1": f"57.1{space}%",
        "alerts": "1,500.0",
        "cost": "6,000.0",
    }


@given(
    st.lists(st.sampled_from([0.0, 0.00012345, 0.3, 0.30000000000000004, 1.0]), min_size=1, max_size=20),
    st.data(),
)
def test_equal_and_extreme_scores_are_counted_exactly(scores, data):
    targets = data.draw(st.lists(st.sampled_from([-1, 0, 1]), min_size=len(scores), max_size=len(scores)))
    inputs = inputs_of_column(scores, targets)
    (table,) = cut_tables(inputs, [0])
    pairs = [(score, target) for score, target in zip(scores, targets, strict=True) if target >= 0]
    for cut, decided, hits in zip(table.cuts_K, table.decided_K, table.hits_K, strict=True):
        assert decided == sum(score >= cut for score, _ in pairs)
        assert hits == sum(score >= cut and target == 1 for score, target in pairs)


def inputs_of_column(scores, targets):
    from manylabel.report.inputs import ReportInputs

    return ReportInputs(
        title="one",
        targets_NL=np.array(targets, dtype=np.int8)[:, None],
        probabilities_NL=np.array(scores)[:, None],
        thresholds=Thresholds(("a",), np.array([0.5]), np.ones(1, bool), (None,)),
        ids=tuple(map(str, range(len(scores)))),
        evaluation={},
    )
