"""Zones around given thresholds, against a search over all pairs of ends."""

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from manylabel.decisions.abstain import Zones, zones_for_quality, zones_for_workload
from manylabel.decisions.thresholds import Thresholds

NEIGHBOURS = [float(np.nextafter(np.float32(x), np.float32(0))) for x in (0.5, 0.25, 1.0)]
SCORES = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, *NEIGHBOURS]), st.floats(0, 1, width=32))
ROWS = st.lists(st.tuples(st.sampled_from([-1, 0, 1]), SCORES), min_size=1, max_size=25)


def arrays_of(rows):
    return np.array([[target] for target, _ in rows], np.int8), np.array([[score] for _, score in rows])


def deciding_at(threshold):
    return Thresholds(("only",), np.array([threshold]), np.array([True]), (None,))


def outside_the_threshold_decides_as_the_zone(zones, scores_NL, thresholds):
    outside_NL = ~zones.inside(scores_NL)
    same_NL = zones.decide(scores_NL) == thresholds.decide(scores_NL)
    return zones.hold(thresholds).all() and (same_NL | ~outside_NL).all()


@given(ROWS, SCORES, st.sampled_from([0.5, 0.75, 0.9]), st.sampled_from([0.1, 0.25, 0.5]))
def test_outside_a_zone_around_a_threshold_both_limits_are_kept(rows, threshold, precision, miss_rate):
    targets_NL, scores_NL = arrays_of(rows)
    thresholds = deciding_at(threshold)
    zones = zones_for_quality(
        targets_NL,
        scores_NL,
        ("only",),
        precision=precision,
        miss_rate=miss_rate,
        min_positives=1,
        thresholds=thresholds,
    )
    assert outside_the_threshold_decides_as_the_zone(zones, scores_NL, thresholds)
    if zones.reasons[0] is not None:
        assert zones.low_L == zones.high_L == threshold
        return
    annotated = targets_NL[:, 0] >= 0
    targets, yes = targets_NL[annotated, 0] == 1, zones.decide(scores_NL)[annotated, 0]
    asked = zones.inside(scores_NL)[annotated, 0]
    if yes.any():
        assert Fraction(int((yes & targets).sum()), int(yes.sum())) >= Fraction(str(precision))
    missed = targets & ~yes & ~asked
    assert Fraction(int(missed.sum()), int(targets.sum())) <= Fraction(str(miss_rate))
    # Where the threshold keeps both limits by itself, nobody is asked.
    decided = scores_NL[annotated, 0] >= threshold
    found = Fraction(int((decided & targets).sum()), int(targets.sum()))
    if decided.any() and 1 - found <= Fraction(str(miss_rate)):
        exact = Fraction(int((decided & targets).sum()), int(decided.sum()))
        assert asked.any() <= (exact < Fraction(str(precision)))


@given(ROWS, SCORES, st.sampled_from([0.0, 0.1, 0.3, 1.0]))
def test_no_zone_around_a_threshold_within_the_workload_leaves_fewer_errors(rows, threshold, workload):
    targets_NL, scores_NL = arrays_of(rows)
    thresholds = deciding_at(threshold)
    zones = zones_for_workload(
        targets_NL, scores_NL, ("only",), workload=workload, min_positives=1, thresholds=thresholds
    )
    assert outside_the_threshold_decides_as_the_zone(zones, scores_NL, thresholds)
    if zones.reasons[0] is not None:
        return
    annotated = targets_NL[:, 0] >= 0
    targets, scores = targets_NL[annotated, 0] == 1, scores_NL[annotated, 0]
    limit = int(Fraction(str(workload)) * len(scores))

    def errors(low, high):
        return int((targets & (scores < low)).sum() + (~targets & (scores >= high)).sum())

    def size(low, high):
        return int(((scores >= low) & (scores < high)).sum())

    # A score of 1 is always decided, as no threshold lies above it.
    ends = [*np.unique(scores), 1.0, threshold]
    best = min(
        (errors(low, high), size(low, high))
        for low in ends
        for high in ends
        if low <= threshold <= high and size(low, high) <= limit
    )
    low, high = zones.low_L[0], zones.high_L[0]
    assert (errors(low, high), size(low, high)) == best


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=5))
def test_zones_come_back_from_json_to_the_last_bit(ends):
    low_L, high_L = (np.array(column) for column in zip(*map(sorted, ends), strict=True))
    nothing = (None,) * len(ends)
    zones = Zones(tuple(map(str, range(len(ends)))), low_L, high_L, nothing, nothing)
    again = Zones.from_json(zones.to_json())
    assert again.low_L.tobytes() == low_L.tobytes()
    assert again.high_L.tobytes() == high_L.tobytes()
