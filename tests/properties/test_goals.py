"""Every goal against a search over all cut points, written as plainly as possible."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, fbeta_score

from manylabel.decisions.abstain import zones_for_quality, zones_for_workload
from manylabel.decisions.goals import Goal, fit_goal
from manylabel.decisions.thresholds import Thresholds, fit_thresholds
from manylabel.evaluation.metrics import sample_averages

pytestmark = pytest.mark.slow  # many seconds together

# Few distinct scores make ties frequent; neighbours differ in the last bit of float32.
NEIGHBOURS = [float(np.nextafter(np.float32(x), np.float32(0))) for x in (0.5, 0.25, 1.0)]
SCORES = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, *NEIGHBOURS]), st.floats(0, 1, width=32))
ROWS = st.lists(st.tuples(st.sampled_from([-1, 0, 1]), SCORES), min_size=1, max_size=30)
SHARES = st.sampled_from([0.1, 0.25, 0.5, 0.6, 0.75, 0.9, 0.95, 1.0])


def arrays_of(rows):
    return np.array([[target] for target, _ in rows], np.int8), np.array([[score] for _, score in rows])


def fit(rows, text):
    """Thresholds; and for the annotated rows: targets, scores, and all decisions that a threshold could make."""
    targets_NL, scores_NL = arrays_of(rows)
    thresholds = fit_goal(targets_NL, scores_NL, ("only",), Goal.parse(text), min_positives=1)
    annotated = targets_NL[:, 0] >= 0
    targets, scores = targets_NL[annotated, 0], scores_NL[annotated, 0]
    limits = [*np.unique(scores), *([] if scores.max(initial=0.0) == 1.0 else [1.0])]
    return thresholds, targets, scores, [scores >= limit for limit in limits]


def counts(targets, decided):
    """Decided rows, true positives, positives."""
    return int(decided.sum()), int((decided & (targets == 1)).sum()), int((targets == 1).sum())


def judged(thresholds, targets):
    if not thresholds.judged_L[0]:
        assert thresholds.values_L[0] == 0.5
        assert (targets == 1).all() or not (targets == 1).any()
        assert thresholds.goals == (None,)
    return thresholds.judged_L[0]


@given(ROWS, st.sampled_from([0.5, 1.0, 2.0]))
def test_f_beta_agrees_with_scikit_learn_over_all_cuts(rows, beta):
    thresholds, targets, scores, cuts = fit(rows, f"f{beta:g}")
    if judged(thresholds, targets):
        best = max(fbeta_score(targets, cut, beta=beta, zero_division=0.0) for cut in cuts)
        got = fbeta_score(targets, scores >= thresholds.values_L[0], beta=beta)
        assert got == pytest.approx(best, abs=1e-12)


@given(ROWS)
def test_f1_is_the_same_as_fit_thresholds(rows):
    targets_NL, scores_NL = arrays_of(rows)
    reference = fit_thresholds(targets_NL, scores_NL, ("only",), min_positives=1)
    assert fit(rows, "f1")[0].values_L.tobytes() == reference.values_L.tobytes()


@given(ROWS, SHARES)
def test_recall_is_reached_with_the_fewest_decided_rows(rows, share):
    thresholds, targets, scores, cuts = fit(rows, f"recall={share}")
    if judged(thresholds, targets):
        reached = [
            counts(targets, cut)[0]
            for cut in cuts
            if Fraction(counts(targets, cut)[1], counts(targets, cut)[2]) >= Fraction(str(share))
        ]
        decided, hits, positives = counts(targets, scores >= thresholds.values_L[0])
        assert Fraction(hits, positives) >= Fraction(str(share))
        assert decided == min(reached)


@given(ROWS, SHARES)
def test_precision_is_reached_with_the_most_recall_or_the_best_is_kept_with_a_note(rows, share):
    thresholds, targets, scores, cuts = fit(rows, f"precision={share}")
    if not judged(thresholds, targets):
        return
    options = [counts(targets, cut)[:2] for cut in cuts if cut.any()]
    decided, hits, _ = counts(targets, scores >= thresholds.values_L[0])
    reaching = [(d, h) for d, h in options if Fraction(h, d) >= Fraction(str(share))]
    if reaching:
        assert thresholds.notes == (None,)
        assert Fraction(hits, decided) >= Fraction(str(share))
        assert hits == max(h for _, h in reaching)
        assert decided == min(d for d, h in reaching if h == hits)
    else:
        assert f"no cut reaches precision={share:g}" in thresholds.notes[0]
        assert Fraction(hits, decided) == max(Fraction(h, d) for d, h in options)


@given(ROWS, st.sampled_from([(5, 1), (1, 5), (1, 1), (2, 3)]))
def test_cost_is_least_over_all_cuts_and_over_deciding_nothing(rows, costs):
    thresholds, targets, scores, cuts = fit(rows, f"cost={costs[0]}:{costs[1]}")
    if judged(thresholds, targets):

        def cost(cut):
            decided, hits, positives = counts(targets, cut)
            return costs[0] * (positives - hits) + costs[1] * (decided - hits)

        chosen = scores >= thresholds.values_L[0]
        assert cost(chosen) == min(map(cost, cuts))
        assert (thresholds.notes[0] is not None) == (not chosen.any())


@given(ROWS, st.sampled_from([1, 500, 2500, 5000, 10000]))
def test_alerts_use_up_the_budget_and_never_more(rows, budget):
    thresholds, targets, scores, cuts = fit(rows, f"alerts={budget}")
    if judged(thresholds, targets):
        within = [int(cut.sum()) for cut in cuts if int(cut.sum()) * 10000 <= budget * len(targets)]
        decided = int((scores >= thresholds.values_L[0]).sum())
        if within:
            assert decided == max(within)
        else:
            assert "the fewest alerts" in thresholds.notes[0]
            assert decided == min(int(cut.sum()) for cut in cuts)


TABLES = st.integers(1, 4).flatmap(
    lambda width: st.lists(
        st.tuples(*[st.tuples(st.sampled_from([-1, 0, 0, 1]), SCORES)] * width), min_size=1, max_size=12
    )
)


def table_of(rows):
    targets_NL = np.array([[target for target, _ in row] for row in rows], np.int8)
    scores_NL = np.array([[score for _, score in row] for row in rows])
    return targets_NL, scores_NL, tuple("abcd")[: targets_NL.shape[1]]


def one_threshold(labels, limit):
    size = len(labels)
    return Thresholds(labels, np.full(size, limit), np.ones(size, bool), (None,) * size)


@given(TABLES)
def test_one_threshold_has_the_highest_micro_f1_of_all_limits(rows):
    targets_NL, scores_NL, labels = table_of(rows)
    fitted = fit_goal(targets_NL, scores_NL, labels, Goal.parse("one=micro"), min_positives=1)
    assert len(set(fitted.values_L.tolist())) == 1
    annotated = targets_NL >= 0
    flat, scores = targets_NL[annotated] == 1, scores_NL[annotated]
    if fitted.judged_L.all():
        best = max(f1_score(flat, scores >= limit, zero_division=0.0) for limit in scores)
        assert f1_score(flat, scores >= fitted.values_L[0]) == pytest.approx(best, abs=1e-12)
    else:
        assert not fitted.judged_L.any()
        assert flat.all() or not flat.any()


@given(TABLES)
def test_one_threshold_has_the_highest_sample_f1_that_the_evaluation_computes(rows):
    targets_NL, scores_NL, labels = table_of(rows)
    fitted = fit_goal(targets_NL, scores_NL, labels, Goal.parse("one=samples"), min_positives=1)
    complete = (targets_NL >= 0).all(axis=1)
    targets_RL, scores_RL = targets_NL[complete], scores_NL[complete]
    if not fitted.judged_L.all():
        assert not fitted.judged_L.any()
        assert not (targets_RL == 1).any() or (targets_RL == 1).all()
        return

    def sample_f1(limit):
        decided_RL = one_threshold(labels, limit).decide(scores_RL)
        return sample_averages(targets_RL, decided_RL).f1.value or 0.0

    best = max(sample_f1(limit) for limit in [*np.unique(scores_RL), 1.0])
    assert sample_f1(fitted.values_L[0]) == pytest.approx(best, abs=1e-9)


@given(ROWS, st.randoms(use_true_random=False), st.sampled_from(["recall=0.6", "precision=0.6", "cost=3:1"]))
def test_order_of_rows_does_not_matter(rows, random, text):
    shuffled = random.sample(rows, len(rows))
    assert fit(rows, text)[0].values_L.tobytes() == fit(shuffled, text)[0].values_L.tobytes()


@given(ROWS, st.sampled_from([0.5, 0.75, 0.9]), st.sampled_from([0.05, 0.25, 0.5]))
def test_outside_a_zone_precision_and_misses_keep_to_their_limits(rows, precision, miss_rate):
    targets_NL, scores_NL = arrays_of(rows)
    options = {"precision": precision, "miss_rate": miss_rate, "min_positives": 1}
    zones = zones_for_quality(targets_NL, scores_NL, ("only",), **options)
    if zones.reasons[0] is not None:
        assert not zones.inside(scores_NL).any()
        return
    annotated = targets_NL[:, 0] >= 0
    targets, yes = targets_NL[annotated, 0] == 1, zones.decide(scores_NL)[annotated, 0]
    asked = zones.inside(scores_NL)[annotated, 0]
    if yes.any():
        assert Fraction(int((yes & targets).sum()), int(yes.sum())) >= Fraction(str(precision))
    missed = targets & ~yes & ~asked
    assert Fraction(int(missed.sum()), int(targets.sum())) <= Fraction(str(miss_rate))


@given(ROWS, st.sampled_from([0.0, 0.1, 0.3, 1.0]))
def test_no_zone_within_the_workload_leaves_fewer_errors(rows, workload):
    targets_NL, scores_NL = arrays_of(rows)
    zones = zones_for_workload(targets_NL, scores_NL, ("only",), workload=workload, min_positives=1)
    annotated = targets_NL[:, 0] >= 0
    targets, scores = targets_NL[annotated, 0] == 1, scores_NL[annotated, 0]
    if zones.reasons[0] is not None or scores.max() == 1.0:  # A score of 1 is always decided.
        return
    limit = int(Fraction(str(workload)) * len(scores))

    def errors(low, high):
        return int((targets & (scores < low)).sum() + (~targets & (scores >= high)).sum())

    ends = [*np.unique(scores), 1.0]

    def size(low, high):
        return int(((scores >= low) & (scores < high)).sum())

    best = min(
        (errors(low, high), size(low, high))
        for low in ends
        for high in ends
        if low <= high and size(low, high) <= limit
    )
    low, high = zones.low_L[0], zones.high_L[0]
    assert (errors(low, high), size(low, high)) == best
