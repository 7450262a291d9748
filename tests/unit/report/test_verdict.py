"""Every rule, by a change of one figure: which outcome, and a sentence with the number."""

import copy
from dataclasses import replace

import numpy as np
import pytest

from manylabel.decisions.thresholds import Thresholds
from manylabel.report.inputs import ChosenRows
from manylabel.report.verdict import false_alarms, judge


def changed(inputs, path, value):
    """The inputs with one entry of their evaluation replaced, or removed where the value is None."""
    evaluation = copy.deepcopy(dict(inputs.evaluation))
    place = evaluation
    for key in path[:-1]:
        place = place[key]
    if value is None:
        place.pop(path[-1])
    else:
        place[path[-1]] = value
    return replace(inputs, evaluation=evaluation)


@pytest.fixture(scope="module")
def good(make_inputs):
    """A model that passes every check."""
    inputs = make_inputs(1500, 4, contradictory_rows=0, chosen=ChosenRows(0, 0, 0))
    for path, value in (
        (("slices",), [{"column": "length", "value": "1-16", "rows": 700, "macro": {"f1": 0.99}}]),
        (("bias",), [{"subgroup": "x", "rows": 9, "labels": {"label 1": {"subgroup_auc": 0.99}}}]),
        (
            ("robustness",),
            [{"attack": "clean", "micro": {"f1": 0.5}}, {"attack": "leet", "micro": {"f1": 0.45}}],
        ),
        (("label_errors",), []),
        (("rows_seen_in_training",), 0),
    ):
        inputs = changed(inputs, path, value)
    # Thresholds high enough that rows without a label stay quiet.
    high = Thresholds(inputs.labels, np.full(4, 0.8), np.ones(4, bool), (None,) * 4)
    return replace(inputs, thresholds=high)


def test_a_good_model_ships(good):
    verdict = judge(good)
    assert [check.sentence for check in verdict.reasons] == []
    assert verdict.outcome == "ship"
    assert len({check.name for check in verdict.checks}) == len(verdict.checks) == 14


def interval_of_difference(low, high):
    return {"figures": {"macro/average_precision": {"low": low, "high": high}}}


CASES = [
    ("against_baseline", interval_of_difference(-0.01, 0.2), "do not ship", "−0.010 to +0.200"),
    ("against_baseline", interval_of_difference(0.001, 0.2), "ship", None),
    (("macro", "average_precision"), 0.01, "ship", None),  # the paired interval decides
    ("baseline", None, "look closer", "no baseline"),
    ("intervals", None, "look closer", "No intervals"),
    ("rows_seen_in_training", None, "look closer", "no leak audit"),
    ("rows_seen_in_training", 15, "ship", None),  # 1 % of 1,500
    ("rows_seen_in_training", 150, "look closer", "150 rows (10.0\N{NO-BREAK SPACE}%)"),
    (("calibration", "ece_after"), 0.051, "look closer", "0.051"),
    (("calibration", "ece_after"), 0.05, "ship", None),
    (("intervals", "labels", "label 2", "average_precision"), [0.5, 0.71], "look closer", "label 2"),
    (
        ("intervals", "labels", "label 2", "average_precision"),
        [0.0, 0.01],
        "look closer",
        "worse than the baseline",
    ),
    (("labels", "label 3", "average_precision"), None, "look closer", "label 3"),
    (
        "slices",
        [{"column": "c", "value": "v", "rows": 60, "macro": {"f1": 0.1}}],
        "look closer",
        "c = v (0.100",
    ),
    ("slices", [{"column": "c", "value": "v", "rows": 49, "macro": {"f1": 0.1}}], "ship", None),
    (
        ("bias", 0, "labels", "label 1", "subgroup_auc"),
        0.7,
        "look closer",
        "label 1 on texts about x (0.700)",
    ),
    (("robustness", 1, "micro", "f1"), 0.39, "look closer", "leet (−0.110)"),
    ("label_errors", [{"id": str(row)} for row in range(16)], "look closer", "16 rows"),
    ("label_errors", [{"id": str(row)} for row in range(15)], "ship", None),
]


@pytest.mark.parametrize(("path", "value", "outcome", "words"), CASES)
def test_one_figure_changes_the_verdict(good, path, value, outcome, words):
    verdict = judge(changed(good, (path,) if isinstance(path, str) else path, value))
    assert verdict.outcome == outcome
    assert len(verdict.reasons) == (words is not None)
    if words:
        assert words in verdict.reasons[0].sentence


def test_leaks_that_change_the_figures_stop_the_model(good):
    leaky = changed(good, ("rows_seen_in_training",), 150)
    worse = changed(leaky, ("without_seen_rows",), {"macro": {"f1": good.figure("macro", "f1") - 0.0051}})
    assert judge(worse).outcome == "do not ship"
    assert "−0.005" in judge(worse).reasons[0].sentence
    assert judge(changed(leaky, ("without_seen_rows",), {"macro": {}})).outcome == "do not ship"


def test_without_a_paired_interval_the_models_own_must_clear_the_baseline(good):
    alone = changed(good, ("against_baseline",), None)
    baseline = good.figure("baseline", "macro", "average_precision")
    assert judge(alone).outcome == "ship"
    overlapping = changed(alone, ("intervals", "macro", "average_precision"), [baseline - 0.01, 0.9])
    assert judge(overlapping).outcome == "do not ship"
    assert judge(changed(alone, ("macro", "average_precision"), baseline)).outcome == "do not ship"


@pytest.mark.parametrize(
    ("chosen", "outcome"),
    [
        (ChosenRows(), "ship"),
        (ChosenRows(0, 0, 15), "ship"),
        (ChosenRows(0, 16, 0), "look closer"),
        (ChosenRows(0, 0, 1500), "do not ship"),
    ],
)
def test_rows_that_chose_something(good, chosen, outcome):
    assert judge(replace(good, chosen=chosen)).outcome == outcome


def test_roles_of_the_evaluation_say_what_the_rows_chose(good):
    from_roles = changed(replace(good, chosen=None), ("roles",), {"train": 0, "calibration": 1500})
    assert "1,500 rows chose calibration" in judge(from_roles).reasons[0].sentence


def test_thresholds_and_copies(good):
    unjudged = Thresholds(
        good.labels, np.full(4, 0.8), np.array([1, 1, 0, 1], bool), (None, None, "2 rows", None)
    )
    assert "label 3" in judge(replace(good, thresholds=unjudged)).reasons[0].sentence
    assert judge(replace(good, contradictory_rows=2)).outcome == "look closer"


def test_false_alarms_are_counted_on_rows_without_any_label(good):
    targets_NL = np.array([[0, 0], [0, 0], [0, -1], [1, 0], [0, 0]], dtype=np.int8)
    scores_NL = np.array([[0.9, 0.9], [0.1, 0.1], [0.9, 0.9], [0.9, 0.9], [0.1, 0.9]])
    thresholds = Thresholds(("a", "b"), np.full(2, 0.5), np.ones(2, bool), (None, None))
    small = replace(
        good,
        targets_NL=targets_NL,
        probabilities_NL=scores_NL,
        thresholds=thresholds,
        ids=tuple("12345"),
        uncalibrated_NL=None,
        baseline_probabilities_NL=None,
    )
    found = false_alarms(small)
    assert (found.rows, found.alarmed, dict(found.by_label)) == (3, 2, {"a": 1, "b": 2})
    assert found.rate == pytest.approx(2 / 3)
    noisy = next(check for check in judge(small).checks if check.name.startswith("False alarms"))
    assert noisy.outcome == "look closer"


def test_gravest_reason_first(good):
    worse = changed(good, ("against_baseline",), interval_of_difference(-0.1, 0.1))
    outcomes = [check.outcome for check in judge(replace(worse, contradictory_rows=2)).reasons]
    assert outcomes == ["do not ship", "look closer"]
