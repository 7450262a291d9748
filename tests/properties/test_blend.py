"""Blends hold for all inputs: one component is itself, ranks know order only, greedy never loses on its own rows."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from manylabel.decisions.blend import KINDS, fit_blend
from manylabel.decisions.blend_fit import JUDGED_FROM, average_precision

LOGITS = st.floats(-30, 30, width=32)


@st.composite
def tables(draw, least_components=1):
    shape = (draw(st.integers(least_components, 4)), draw(st.integers(12, 40)), draw(st.integers(1, 3)))
    return (
        draw(hnp.arrays(np.float32, shape, elements=LOGITS)),
        draw(hnp.arrays(np.int8, shape[1:], elements=st.integers(-1, 1))),
    )


def fitted(kind, logits_CNL, targets_NL):
    components = [f"c{number}" for number in range(len(logits_CNL))]
    labels = [f"l{number}" for number in range(targets_NL.shape[1])]
    return fit_blend(kind, logits_CNL, targets_NL, components=components, labels=labels, seed=1)


@given(tables())
@settings(max_examples=30)
def test_the_mean_of_one_component_is_itself_and_several_lie_between(table):
    logits_CNL, targets_NL = table
    alone = fitted("mean", logits_CNL[:1], targets_NL).apply(logits_CNL[:1])
    np.testing.assert_allclose(alone, logits_CNL[0], atol=2e-5)
    together = fitted("mean", logits_CNL, targets_NL).apply(logits_CNL)
    assert (together >= logits_CNL.min(axis=0) - 1e-4).all()
    assert (together <= logits_CNL.max(axis=0) + 1e-4).all()


@given(tables())
@settings(max_examples=30)
def test_ranks_know_the_order_only(table):
    logits_CNL, targets_NL = table
    # A rising map of the few distinct values, exact in float32.
    stretched = np.round(logits_CNL).astype(np.float32)
    mapped = np.where(stretched > 0, stretched * 1.5 + 2, stretched * 0.5).astype(np.float32)
    before = fitted("ranks", stretched, targets_NL).apply(stretched)
    assert np.array_equal(fitted("ranks", mapped, targets_NL).apply(mapped), before)


@given(tables())
@settings(max_examples=30)
def test_greedy_is_never_worse_than_the_best_component_on_its_own_rows(table):
    logits_CNL, targets_NL = table
    rarer = np.minimum((targets_NL == 1).sum(axis=0), (targets_NL == 0).sum(axis=0))
    judged = np.flatnonzero(rarer >= JUDGED_FROM)
    if not len(judged):
        return

    def macro(logits_NL):
        scores = [
            average_precision(logits_NL[targets_NL[:, label] >= 0, label],
                              targets_NL[targets_NL[:, label] >= 0, label] == 1)
            for label in judged
        ]  # fmt: skip
        return float(np.mean(scores))

    # Rounded as the weights see it: probabilities in float32.
    coarse = np.round(logits_CNL)
    blended = fitted("greedy", coarse, targets_NL).apply(coarse)
    assert macro(np.round(blended, 4)) >= max(macro(each) for each in coarse) - 1e-3


@given(tables())
@settings(max_examples=30)
def test_every_blend_is_finite_and_keeps_the_shape(table):
    logits_CNL, targets_NL = table
    for kind in KINDS:
        found = fitted(kind, logits_CNL, targets_NL).apply(logits_CNL)
        assert found.shape == targets_NL.shape
        assert found.dtype == np.float32
        assert np.isfinite(found).all()


@given(tables(least_components=2), st.randoms())
@settings(max_examples=20)
def test_the_order_of_equal_components_makes_no_odds_for_the_mean(table, random):
    logits_CNL, targets_NL = table
    order = list(range(len(logits_CNL)))
    random.shuffle(order)
    for kind in ("mean", "ranks"):
        before = fitted(kind, logits_CNL, targets_NL).apply(logits_CNL)
        after = fitted(kind, logits_CNL[order], targets_NL).apply(logits_CNL[order])
        np.testing.assert_allclose(before, after, atol=1e-4)
