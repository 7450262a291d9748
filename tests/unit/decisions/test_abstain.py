import json

import numpy as np
import pytest

from manylabel.decisions.abstain import (
    ABOVE_ALL,
    ZoneGoal,
    Zones,
    fit_zones,
    measure_workload,
    zones_for_quality,
    zones_for_workload,
)
from manylabel.decisions.thresholds import Thresholds
from manylabel.errors import BundleError, ConfigError

# Five positives in ten rows; cuts 1..10 have precision 1, 1, 2/3, 3/4, 3/5, 2/3, 4/7, 1/2, 5/9, 1/2.
SCORES_NL = np.array([0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])[:, None]
TARGETS_NL = np.array([1, 1, 0, 1, 0, 1, 0, 0, 1, 0], dtype=np.int8)[:, None]


def limits(zones):
    return zones.low_L[0], zones.high_L[0]


def test_a_zone_by_hand():
    # Precision 1 from 0.85; of five positives one may be missed: the one at 0.2.
    zones = zones_for_quality(TARGETS_NL, SCORES_NL, ("only",), precision=0.99, miss_rate=0.2)
    assert limits(zones) == pytest.approx((0.45, 0.85))
    work = measure_workload(zones, SCORES_NL)
    assert (work.rows, work.sent, work.share, work.by_label) == (10, 4, 0.4, (4,))
    assert work.interval == pytest.approx((0.1216, 0.7376), abs=1e-4)  # Clopper and Pearson's table.


def test_limits_that_cross_need_no_human():
    zones = zones_for_quality(TARGETS_NL, SCORES_NL, ("only",), precision=0.5, miss_rate=0.2)
    assert limits(zones) == pytest.approx((0.15, 0.15))
    assert measure_workload(zones, SCORES_NL).sent == 0


def test_a_precision_out_of_reach_decides_nothing_alone():
    targets_NL = TARGETS_NL.copy()
    targets_NL[:2], targets_NL[3] = 0, 0
    targets_NL[[6, 7, 9]] = 1
    zones = zones_for_quality(targets_NL, SCORES_NL, ("only",), precision=0.9, miss_rate=0.1)
    assert limits(zones) == pytest.approx((0.05, ABOVE_ALL))
    assert not zones.decide(np.ones((1, 1))).any()
    assert "no cut reaches precision=0.9" in zones.notes[0]


def test_a_zone_within_a_workload_by_hand():
    zones = zones_for_workload(TARGETS_NL, SCORES_NL, ("only",), workload=0.4)
    inside = zones.inside(SCORES_NL)[:, 0]
    yes, positive = zones.decide(SCORES_NL)[:, 0], TARGETS_NL[:, 0] == 1
    assert inside.sum() <= 4
    # Sending ranks 3 to 6 leaves the miss at 0.2 alone; no four neighbouring rows leave fewer.
    assert int((yes & ~positive).sum() + (positive & ~yes & ~inside).sum()) == 1
    assert inside.nonzero()[0].tolist() == [2, 3, 4, 5]


def test_the_workload_of_all_labels_together_keeps_to_the_limit():
    generator = np.random.default_rng(2)
    targets_NL = (generator.random((400, 5)) < 0.3).astype(np.int8)
    scores_NL = np.clip(0.2 * targets_NL + generator.random((400, 5)) * 0.8, 0, 1)
    for workload in (0.0, 0.1, 0.5):
        zones = zones_for_workload(targets_NL, scores_NL, tuple("abcde"), workload=workload)
        assert measure_workload(zones, scores_NL).share <= workload


def test_a_guaranteed_zone_is_wider_and_gives_up_what_it_cannot_promise():
    generator = np.random.default_rng(4)
    log_odds = generator.normal(0.0, 3.0, 3000)
    scores_NL = 1 / (1 + np.exp(-log_odds))[:, None]
    targets_NL = (generator.random((3000, 1)) < scores_NL).astype(np.int8)
    plain = zones_for_quality(targets_NL, scores_NL, ("a",), precision=0.95, miss_rate=0.05)
    sure = zones_for_quality(targets_NL, scores_NL, ("a",), precision=0.95, miss_rate=0.05, confidence=0.95)
    assert sure.low_L[0] <= plain.low_L[0]
    assert sure.high_L[0] > plain.high_L[0]
    assert sure.notes == (None,)
    few = zones_for_quality(
        targets_NL[:30], scores_NL[:30], ("a",), precision=0.95, miss_rate=0.01, confidence=0.95
    )
    assert limits(few) == (0.0, ABOVE_ALL)
    assert "without an error" in few.notes[0]
    assert "at least 99 needed" in few.notes[0]
    assert measure_workload(few, scores_NL).share == 1.0


def test_an_unjudged_label_sends_nothing_and_says_why():
    zones = zones_for_quality(TARGETS_NL[:3], SCORES_NL[:3], ("only",), precision=0.9, miss_rate=0.1)
    assert zones.reasons == ("2 positive rows, at least 5 needed",)
    assert limits(zones) == (0.5, 0.5)
    assert zones.notes == (None,)
    promised = zones_for_quality(
        TARGETS_NL[:3], SCORES_NL[:3], ("only",), precision=0.9, miss_rate=0.1, confidence=0.9
    )
    assert promised.notes == ("not guaranteed: 2 positive rows, at least 5 needed",)


def test_rows_count_once_however_many_labels_ask():
    zones = Zones(("a", "b"), np.array([0.2, 0.2]), np.array([0.8, 0.8]), (None, None), (None, None))
    work = measure_workload(zones, np.array([[0.5, 0.5], [0.5, 0.9], [0.1, 0.8], [0.2, 0.0]]))
    assert (work.sent, work.by_label) == (3, (3, 1))
    nothing = measure_workload(zones, np.zeros((0, 2)))
    assert (nothing.share, nothing.interval) == (None, None)


def test_json_round_trip_and_damage():
    zones = zones_for_quality(TARGETS_NL, SCORES_NL, ("only",), precision=0.9, miss_rate=1 / 3)
    again = Zones.from_json(json.loads(json.dumps(zones.to_json(), allow_nan=False)))
    assert limits(again) == limits(zones)
    assert (again.labels, again.reasons, again.notes) == (zones.labels, zones.reasons, zones.notes)
    for damage in (
        {"low": [2.0]}, {"low": ["0.1"]}, {"low": None}, {"high": []}, {"low": [float("nan")]}, {"low": [True]},
        {"low": [10**400]}, {"labels": "only"}, {"labels": [1]}, {"reasons": "x"}, {"notes": [0]}, {"notes": {}},
    ):  # fmt: skip
        with pytest.raises(BundleError, match="B453 zones: the zones are damaged"):
            Zones.from_json({**zones.to_json(), **damage})
    for damage in ([], "zones", 3, {}):
        with pytest.raises(BundleError, match="damaged"):
            Zones.from_json(damage)


@pytest.mark.parametrize(
    "options", [{"precision": 0.0, "miss_rate": 0.1}, {"precision": 0.9, "miss_rate": 1}]
)
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="between 0 and 1"):
        zones_for_quality(TARGETS_NL, SCORES_NL, ("only",), **options)
    with pytest.raises(ValueError, match="workload"):
        zones_for_workload(TARGETS_NL, SCORES_NL, ("only",), workload=1.5)


def deciding_at(value):
    return Thresholds(("only",), np.array([value]), np.array([True]), (None,))


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (0.68, (0.68, 0.68)),  # Precision 3/4 and 3 of 5 found: the threshold alone will do.
        (0.85, (0.65, 0.85)),  # Precision 1, but 2 of 5 found: down to the third positive.
        (0.3, (0.3, 0.65)),  # Precision 4/8: up to the cut that has 3/4.
        (1.0, (0.65, ABOVE_ALL)),  # Nothing is decided, so nothing has the precision.
    ],
)
def test_a_zone_for_quality_around_a_threshold_by_hand(threshold, expected):
    zones = zones_for_quality(
        TARGETS_NL, SCORES_NL, ("only",), precision=0.7, miss_rate=0.4, thresholds=deciding_at(threshold)
    )
    assert limits(zones) == pytest.approx(expected, abs=1e-12)
    assert zones.hold(deciding_at(threshold)).all()
    assert (zones.notes[0] is not None) == (threshold == 1.0)


def test_a_zone_for_workload_around_a_threshold_by_hand():
    # At 0.65 one false alarm (0.8) and two misses (0.5, 0.2). Two rows for a human: 0.8 and 0.7, or 0.6 and 0.5.
    rows = TARGETS_NL, SCORES_NL, ("only",)
    zones = zones_for_workload(*rows, workload=0.2, thresholds=deciding_at(0.65))
    assert limits(zones) == pytest.approx((0.65, 0.85))
    assert limits(zones_for_workload(*rows, workload=0.0, thresholds=deciding_at(0.44))) == (0.44, 0.44)


def test_a_guaranteed_zone_does_not_trust_a_threshold_above_the_certified_one():
    generator = np.random.default_rng(4)
    scores_NL = 1 / (1 + np.exp(-generator.normal(0.0, 3.0, 3000)))[:, None]
    targets_NL = (generator.random((3000, 1)) < scores_NL).astype(np.int8)
    goal = ZoneGoal(precision=0.8, misses=0.05)
    free = zones_for_quality(targets_NL, scores_NL, ("only",), precision=0.8, miss_rate=0.05, confidence=0.9)
    low, high = limits(free)
    assert low < high < 0.99
    for threshold, expected, note in (
        ((low + high) / 2, (low, high), False),
        (low / 2, (low / 2, high), False),
        (0.99, (low, ABOVE_ALL), True),
    ):
        zones = fit_zones(targets_NL, scores_NL, deciding_at(threshold), goal, confidence=0.9)
        assert limits(zones) == expected
        assert (zones.notes[0] is not None and "not at the threshold above it" in zones.notes[0]) == note


def test_an_unjudged_label_has_an_empty_zone_at_its_threshold():
    zones = fit_zones(TARGETS_NL[:3], SCORES_NL[:3], deciding_at(0.3), ZoneGoal(workload=1.0))
    assert limits(zones) == (0.3, 0.3)
    assert zones.reasons == ("2 positive rows, at least 5 needed",)


def test_a_zone_holds_a_threshold_within_it_or_at_an_end():
    zones = Zones(tuple("abcd"), np.full(4, 0.25), np.full(4, 0.75), (None,) * 4, (None,) * 4)
    at = Thresholds(tuple("abcd"), np.array([0.2, 0.25, 0.75, 0.8]), np.ones(4, bool), (None,) * 4)
    assert zones.hold(at).tolist() == [False, True, True, False]


@pytest.mark.parametrize(
    ("text", "goal", "written"),
    [
        ("precision=0.9,misses=0.05", ZoneGoal(precision=0.9, misses=0.05), "precision=0.9,misses=0.05"),
        (" Misses = .05, PRECISION=0.9", ZoneGoal(precision=0.9, misses=0.05), "precision=0.9,misses=0.05"),
        ("workload=1", ZoneGoal(workload=1.0), "workload=1.0"),
        ("workload=1e-3", ZoneGoal(workload=0.001), "workload=0.001"),
        ("none", ZoneGoal(), "none"),
    ],
)
def test_goals_are_read_and_written(text, goal, written):
    assert ZoneGoal.parse(text) == goal
    assert str(goal) == written
    assert ZoneGoal.parse(written) == goal
    assert goal.is_none == (text == "none")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "this is no goal of zones"),
        ("recall=0.9", "this is no goal of zones"),
        ("none,workload=0.1", "this is no goal of zones"),
        ("precision=0.9", "precision and misses go together"),
        ("misses=0.1,misses=0.1", "misses is given twice"),
        ("precision=0.9,misses=0.1,workload=0.1", "workload goes alone"),
        ("workload", "workload has no number"),
        ("workload=10%", "workload has no number"),
        ("workload=nan", "workload has no number"),
        ("workload=1.1", "workload is 1.1, not above 0 and at most 1"),
        ("workload=0", "not above 0"),
        ("precision=1,misses=0.1", "precision is 1, not above 0 and below 1"),
        ("precision=90,misses=5", "precision is 90"),
    ],
)
def test_what_is_no_goal_of_zones_is_said_with_what_is(text, found):
    with pytest.raises(ConfigError, match="C244") as refused:
        ZoneGoal.parse(text)
    assert found in str(refused.value)
    assert "precision=P,misses=R" in str(refused.value)
    assert "write for example precision=0.9,misses=0.05" in str(refused.value)


def test_goals_and_rows_that_do_not_fit_are_refused():
    for wrong in ({"precision": 0.9}, {"misses": 0.1}, {"precision": 0.9, "misses": 0.1, "workload": 0.1}):
        with pytest.raises(ValueError, match="zones need"):
            ZoneGoal(**wrong)
    with pytest.raises(ValueError, match="no goal of zones"):
        fit_zones(TARGETS_NL, SCORES_NL, deciding_at(0.5), ZoneGoal())
    with pytest.raises(ValueError, match="guaranteed"):
        fit_zones(TARGETS_NL, SCORES_NL, deciding_at(0.5), ZoneGoal(workload=0.1), confidence=0.9)
    with pytest.raises(ValueError, match="other labels"):
        zones_for_workload(TARGETS_NL, SCORES_NL, ("x",), workload=0.1, thresholds=deciding_at(0.5))
