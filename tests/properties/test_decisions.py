"""Properties of the threshold rule, against a search over all cut points written as plainly as possible."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import f1_score

from manylabel.decisions.thresholds import fit_thresholds

# Few distinct scores make ties frequent; neighbours differ in the last bit of float32.
NEIGHBOURS = [np.nextafter(np.float32(x), np.float32(0)) for x in (0.5, 0.25, 1.0)]
SCORES = st.one_of(
    st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, *map(float, NEIGHBOURS)]),
    st.floats(0, 1, width=32),
)
ROWS = st.lists(st.tuples(st.sampled_from([-1, 0, 1]), SCORES), min_size=1, max_size=30)


def f1(targets, decided):
    true_positives = int((decided & (targets == 1)).sum())
    return 2 * true_positives / (int(decided.sum()) + int((targets == 1).sum()))


def fit(rows, dtype=np.float32):
    targets_NL = np.array([[target] for target, _ in rows], dtype=np.int8)
    scores_NL = np.array([[score] for _, score in rows], dtype=dtype)
    thresholds = fit_thresholds(targets_NL, scores_NL, ("only",), min_positives=1)
    annotated = targets_NL[:, 0] >= 0
    return thresholds, targets_NL[annotated, 0], scores_NL[annotated]


@given(ROWS, st.sampled_from([np.float32, np.float64]))
def test_no_cut_point_scores_higher(rows, dtype):
    thresholds, targets, scores = fit(rows, dtype)
    if not thresholds.judged_L[0]:
        assert thresholds.values_L[0] == 0.5
        assert (targets == 1).all() or not (targets == 1).any()
        return
    best = max(f1(targets, scores[:, 0] >= cut) for cut in np.unique(scores))
    assert f1(targets, thresholds.decide(scores)[:, 0]) == best


@given(ROWS)
def test_fitted_threshold_never_scores_below_the_default(rows):
    thresholds, targets, scores = fit(rows)
    if thresholds.judged_L[0]:
        assert f1(targets, thresholds.decide(scores)[:, 0]) >= f1(targets, scores[:, 0] >= 0.5)


@given(ROWS)
def test_threshold_separates_its_two_neighbours(rows):
    thresholds, _, scores = fit(rows)
    if thresholds.judged_L[0]:
        value = thresholds.values_L[0]
        decided = scores[scores >= value]
        left_out = scores[scores < value]
        assert len(decided) > 0
        assert (left_out.max() if len(left_out) else 0.0) <= value <= decided.min()


@given(ROWS, st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(rows, random):
    shuffled = random.sample(rows, len(rows))
    assert fit(rows)[0].values_L.tobytes() == fit(shuffled)[0].values_L.tobytes()


@given(
    arrays.arrays(np.int8, st.tuples(st.integers(1, 20), st.integers(1, 4)), elements=st.integers(0, 1)),
    st.integers(0, 2**31),
)
def test_labels_are_fitted_independently_and_agree_with_scikit_learn(targets_NL, seed):
    scores_NL = np.random.default_rng(seed).integers(0, 6, targets_NL.shape) / 5
    names = tuple("abcd")[: targets_NL.shape[1]]
    together = fit_thresholds(targets_NL, scores_NL, names, min_positives=1)
    decided_NL = together.decide(scores_NL)
    for column, name in enumerate(names):
        alone = fit_thresholds(targets_NL[:, [column]], scores_NL[:, [column]], (name,), min_positives=1)
        assert together.values_L[column] == alone.values_L[0]
        if together.judged_L[column]:
            best = max(
                f1_score(targets_NL[:, column], scores_NL[:, column] >= cut) for cut in np.arange(6) / 5
            )
            assert abs(f1_score(targets_NL[:, column], decided_NL[:, column]) - best) < 1e-12
