import json

import numpy as np
import pytest

from manylabel.decisions.goals import Goal, fit_goal
from manylabel.decisions.thresholds import Thresholds
from manylabel.errors import BundleError, ConfigError

# Five positives in ten rows; the cuts 1..10 have precision 1, 1, 2/3, 3/4, 3/5, 2/3, 4/7, 1/2, 5/9, 1/2.
SCORES = np.array([0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
TARGETS = np.array([1, 1, 0, 1, 0, 1, 0, 0, 1, 0], dtype=np.int8)


def fit(text, targets=TARGETS, scores=SCORES, **options):
    return fit_goal(targets[:, None], scores[:, None], ("only",), Goal.parse(text), **options)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("f1", "f1"),
        ("F0.5", "f0.5"),
        ("f2", "f2"),
        ("f2.0", "f2"),
        ("recall=0.95", "recall=0.95"),
        (" Recall = .5 ", "recall=0.5"),
        ("precision=1", "precision=1"),
        ("cost=5:1", "cost=5:1"),
        ("cost=0.5:2.25", "cost=0.5:2.25"),
        ("alerts=50", "alerts=50"),
        ("alerts=1e-3", "alerts=0.001"),
        ("one", "one=micro"),
        ("one=micro", "one=micro"),
        ("one=samples", "one=samples"),
    ],
)
def test_a_goal_is_read_and_written(text, written):
    goal = Goal.parse(text)
    assert str(goal) == written
    assert Goal.parse(str(goal)) == goal


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "this is no goal"),
        ("f", "this is no goal"),
        ("f-1", "this is no goal"),
        ("f0", "not above 0"),
        ("recall", "this is no goal"),
        ("recall=", "this is no goal"),
        ("recall=0", "not above 0 and at most 1"),
        ("recall=95", "95 is not above 0 and at most 1"),
        ("recall=nan", "this is no goal"),
        ("recall=1_0", "this is no goal"),
        ("recall=٠.٥", "this is no goal"),
        ("precision=1.01", "at most 1"),
        ("cost=5", "this is no goal"),
        ("cost=5:0", "not above 0"),
        ("cost=5:1:2", "this is no goal"),
        ("alerts=10001", "at most 10000"),
        ("one=", "this is no goal"),
        ("one=macro", "this is no goal"),
        ("accuracy", "this is no goal"),
    ],
)
def test_what_is_no_goal_is_refused_with_all_that_are(text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        Goal.parse(text)
    assert "recall=0.95" in caught.value.findings[0].allowed


@pytest.mark.parametrize(
    ("text", "threshold"),
    [
        ("recall=0.6", 0.65),  # Three of five: four rows are decided.
        ("recall=0.61", 0.45),
        ("recall=1", 0.15),
        ("precision=1", 0.85),
        ("precision=0.75", 0.65),  # Four rows; two are precise too, but find less.
        ("precision=0.5", 0.15),  # All positives; not the tenth row, which is precise enough but no use.
        ("f1", 0.45),  # F1 of cuts 4 and 6 is 6/9 and 8/11.
        ("f0.5", 0.85),  # 10/13 = 0.769 for two rows, 15/21 = 0.714 for four.
        ("cost=1:1", 0.45),  # Cuts 2, 4 and 6 cost 3; their thresholds are 0.85, 0.65 and 0.45.
        ("cost=10:1", 0.15),
        ("cost=1:10", 0.85),
        ("alerts=3000", 0.75),
        ("alerts=3999", 0.75),
        ("alerts=10000", 0.05),
    ],
)
def test_hand_worked_cuts(text, threshold):
    fitted = fit(text)
    assert fitted.values_L[0] == pytest.approx(threshold)
    assert fitted.goals == (text,)
    assert fitted.notes == (None,)
    assert fitted.judged_L.all()


def test_a_precision_out_of_reach_keeps_the_best_cut_and_says_so():
    fitted = fit("precision=0.9", targets=np.array([0, 1, 1, 1, 0, 1, 0, 0, 1, 0], dtype=np.int8))
    assert fitted.notes == ("no cut reaches precision=0.9, the highest precision is 0.7500",)
    assert fitted.values_L[0] == pytest.approx(0.65)
    assert fitted.judged_L.all()


def test_a_budget_below_one_row_decides_nothing_and_says_so():
    fitted = fit("alerts=50")
    assert fitted.notes == ("only deciding nothing keeps to alerts=50",)
    assert fitted.values_L[0] == pytest.approx((0.95 + 1.0) / 2)


def test_scores_of_one_are_always_decided():
    ties = np.array([1.0, 1.0, 1.0, 0.5, 0.4, 0.4, 0.4, 0.3, 0.2, 0.1])
    fitted = fit("alerts=2000", scores=ties)
    assert fitted.notes == ("no cut keeps to alerts=2000, the fewest alerts are 3000.0",)
    assert fitted.values_L[0] == pytest.approx(0.75)


def test_false_alarms_can_be_too_dear_for_any_decision():
    fitted = fit("cost=1:100", targets=np.array([0, 1, 1, 1, 0, 1, 0, 0, 1, 0], dtype=np.int8))
    assert fitted.notes == ("deciding nothing costs least",)
    assert not fitted.decide(SCORES[:, None]).any()


def table(rows=60, seed=3):
    generator = np.random.default_rng(seed)
    targets_NL = (generator.random((rows, 3)) < (0.4, 0.3, 0.02)).astype(np.int8)
    targets_NL[:, 2] = 0
    targets_NL[:2, 2] = 1
    probabilities_NL = np.clip(0.3 * targets_NL + 0.6 * generator.random((rows, 3)), 0, 1)
    return targets_NL, probabilities_NL, ("a", "b", "rare")


def test_labels_with_too_few_positives_keep_the_default_but_take_part_in_one_threshold():
    targets_NL, probabilities_NL, labels = table()
    fitted = fit_goal(targets_NL, probabilities_NL, labels, Goal.parse("recall=0.9"), default=0.4)
    assert fitted.judged_L.tolist() == [True, True, False]
    assert fitted.values_L[2] == 0.4
    assert fitted.reasons[2] == "2 positive rows, at least 5 needed"
    assert fitted.goals == ("recall=0.9", "recall=0.9", None)
    together = fit_goal(targets_NL, probabilities_NL, labels, Goal.parse("one=micro"), default=0.4)
    assert together.judged_L.all()
    assert len(set(together.values_L.tolist())) == 1


def test_a_label_has_a_goal_of_its_own_and_the_others_share_one_threshold_without_it():
    targets_NL, probabilities_NL, labels = table()
    own = {"b": Goal.parse("precision=0.8")}
    mixed = fit_goal(targets_NL, probabilities_NL, labels, Goal.parse("one=micro"), per_label=own)
    alone = fit_goal(targets_NL[:, [1]], probabilities_NL[:, [1]], ("b",), own["b"])
    rest = fit_goal(targets_NL[:, [0, 2]], probabilities_NL[:, [0, 2]], ("a", "rare"), Goal.parse("one"))
    assert mixed.values_L.tolist() == [rest.values_L[0], alone.values_L[0], rest.values_L[1]]
    assert mixed.goals == ("one=micro", "precision=0.8", "one=micro")


def test_without_a_complete_row_there_is_no_sample_f1():
    targets_NL, probabilities_NL, labels = table()
    targets_NL[::2, 0], targets_NL[1::2, 1] = -1, -1
    fitted = fit_goal(targets_NL, probabilities_NL, labels, Goal.parse("one=samples"))
    assert fitted.values_L.tolist() == [0.5, 0.5, 0.5]
    assert fitted.reasons == ("0 positive rows, at least 5 needed",) * 3


def test_wrong_goals_of_labels_are_refused():
    targets_NL, probabilities_NL, labels = table()
    with pytest.raises(ConfigError, match='no label "c"'):
        fit_goal(targets_NL, probabilities_NL, labels, Goal("fbeta"), per_label={"c": Goal("fbeta")})
    with pytest.raises(ConfigError, match="all labels together"):
        fit_goal(targets_NL, probabilities_NL, labels, Goal("fbeta"), per_label={"a": Goal("one")})


@pytest.mark.parametrize("text", ["f1", "one=micro", "one=samples", "alerts=5"])
def test_no_rows_keep_the_default(text):
    nothing = np.zeros((0, 2))
    fitted = fit_goal(nothing.astype(np.int8), nothing, ("a", "b"), Goal.parse(text))
    assert fitted.values_L.tolist() == [0.5, 0.5]
    assert not fitted.judged_L.any()


def test_goals_and_notes_survive_json_and_old_files_have_none():
    fitted = fit("precision=0.9", targets=np.array([0, 1, 1, 1, 0, 1, 0, 0, 1, 0], dtype=np.int8))
    again = Thresholds.from_json(json.loads(json.dumps(fitted.to_json(), allow_nan=False)))
    assert (again.goals, again.notes) == (fitted.goals, fitted.notes)
    assert again.values_L.tobytes() == fitted.values_L.tobytes()
    old = {"labels": ["a"], "values": [0.5], "judged": [True], "reasons": [None]}
    loaded = Thresholds.from_json(old)
    assert (loaded.goals, loaded.notes) == (None, None)
    assert loaded.to_json() == old
    for wrong, message in (
        ({"goals": ["f1", "f1"]}, "differ in length"),
        ({"goals": "f1"}, "goals is not a list"),
        ({"notes": [1]}, "a note is neither"),
    ):
        with pytest.raises(BundleError, match=message):
            Thresholds.from_json({**old, **wrong})
    with pytest.raises(ValueError, match="one goal"):
        Thresholds(("a",), np.array([0.5]), np.array([True]), (None,), ("f1", "f1"))


def test_a_threshold_chosen_by_hand_holds_however_few_the_positives():
    targets_NL = np.array([[1, 0], [0, 0], [0, 0]], dtype=np.int8)
    probabilities_NL = np.array([[0.9, 0.2], [0.1, 0.3], [0.2, 0.4]])
    found = fit_goal(
        targets_NL, probabilities_NL, ("a", "b"), Goal.parse("f1"), per_label={"b": Goal.parse("AT = 0.25")}
    )
    assert found.values_L.tolist() == [0.5, 0.25]
    assert found.goals == (None, "at=0.25")
    assert str(Goal.parse("at=0")) == "at=0"
    for wrong in ("at=1.5", "at=", "at=-0.1"):
        with pytest.raises(ConfigError, match="C241"):
            Goal.parse(wrong)
