"""Blends: worked cases, planted weights, refusals, and that a row's labels take no part in its blending."""

import json

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from manylabel.decisions import blend_fit
from manylabel.decisions.blend import KINDS, Blend, cross_fitted, fit_blend
from manylabel.decisions.blend_fit import average_precision, rank_knots
from manylabel.errors import BundleError

NAMES = ("a", "b", "c")
LABELS = ("x", "y")


def drawn(seed=0, num_rows=400, num_components=3, num_labels=2, share=0.3):
    generator = np.random.default_rng(seed)
    targets_NL = (generator.random((num_rows, num_labels)) < share).astype(np.int8)
    noise = generator.normal(size=(num_components, num_rows, num_labels))
    scale = np.arange(1, num_components + 1)[:, None, None]
    return (2.0 * targets_NL - 1.0 + scale * noise).astype(np.float32), targets_NL


def fitted(kind, logits_CNL, targets_NL, seed=1):
    components, labels = NAMES[: len(logits_CNL)], LABELS[: targets_NL.shape[1]]
    return fit_blend(kind, logits_CNL, targets_NL, components=components, labels=labels, seed=seed)


def test_mean_is_the_mean_of_probabilities_by_hand():
    # (0.9 + 0.5) / 2 = 0.7 and (0.2 + 0.4) / 2 = 0.3.
    logits_CNL = logit(np.array([[[0.9], [0.2]], [[0.5], [0.4]]]))
    found = Blend("mean", ("x",), ("a", "b")).apply(logits_CNL)
    assert expit(found)[:, 0] == pytest.approx([0.7, 0.3], abs=1e-6)
    assert found.dtype == np.float32


def test_mean_keeps_what_a_probability_would_round_away():
    found = Blend("mean", ("x",), ("a", "b")).apply(np.array([[[50.0]], [[50.0]]]))
    assert found[0, 0] == 50.0
    assert np.isfinite(Blend("mean", ("x",), ("a",)).apply(np.array([[[np.inf]], [[-np.inf]]])[:1])).all()


def test_ranks_by_hand():
    # Of 4 rows the places of -2, 0, 0 and 3 are 1/8, (1/4 + 3/4) / 2 = 1/2 twice, and 7/8.
    logits_CNL = np.array([[[-2.0], [0.0], [0.0], [3.0]]])
    blend = fit_blend(
        "ranks", logits_CNL, np.zeros((4, 1), np.int8), components=("a",), labels=("x",), seed=1
    )
    assert expit(blend.apply(logits_CNL))[:, 0] == pytest.approx([1 / 8, 1 / 2, 1 / 2, 7 / 8])
    # Half way between two knots; beyond the ends the share of rows left over falls as exp(-distance).
    beyond = blend.apply(np.array([[[-1.0], [4.0], [-3.0]]]))
    expected = [5 / 16, 1 - np.exp(-1) / 8, np.exp(-1) / 8]
    assert expit(beyond)[:, 0] == pytest.approx(expected, abs=1e-6)


def test_of_many_values_the_curve_keeps_the_ends_fine():
    values = np.random.default_rng(3).normal(size=(1, 50_000, 1)).astype(np.float32)
    knots, places, starts = rank_knots(values)
    assert len(knots) <= 1001
    assert starts.tolist() == [0, len(knots)]
    ranks = np.interp(np.sort(values[0, :, 0]), knots, places) * 50_000
    off = np.abs(ranks - (np.arange(50_000) + 0.5))
    # Half the knots are 100 rows apart; at the ends every row has one.
    assert off.max() < 60
    assert off[-10:].max() < 0.5


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_scikit_learns(seed):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 30, 500).astype(np.float32)
    positives = generator.random(500) < 0.1
    assert average_precision(scores, positives) == pytest.approx(average_precision_score(positives, scores))


def test_a_sample_with_weights_has_the_average_precision_of_all_rows():
    """Unbiased: over many draws the mean of the weighted figure is that of scikit-learn on all rows."""
    generator = np.random.default_rng(3)
    positives = generator.random(90_000) < 0.01
    scores = (generator.normal(size=90_000) + 2.0 * positives).astype(np.float32)
    found = []
    for seed in range(8):
        kept = blend_fit._sampled(np.arange(90_000), positives, seed)
        assert len(kept.rows_n) == blend_fit.MOST_ROWS
        assert kept.positives_n.sum() == positives.sum()  # The rarer class is there whole.
        assert kept.counts_n.sum() == pytest.approx(90_000)
        found.append(average_precision(scores[kept.rows_n], kept.positives_n, kept.negative_counts))
    expected = average_precision_score(positives, scores)
    assert np.mean(found) == pytest.approx(expected, abs=0.01)
    both_many = blend_fit._sampled(np.arange(90_000), generator.random(90_000) < 0.4, 1)
    assert both_many.positives_n.sum() == len(both_many.rows_n) // 2 == blend_fit.MOST_ROWS // 2
    assert both_many.counts_n.sum() == pytest.approx(90_000)


@pytest.mark.parametrize("kind", ["greedy", "stacked"])
def test_a_blend_chosen_on_a_sample_is_as_good_as_one_chosen_on_all_rows(kind, monkeypatch):
    generator = np.random.default_rng(11)
    truth = generator.normal(size=(40_000, 2))
    targets_NL = (truth > np.array([1.3, 2.3])).astype(np.int8)
    noise = generator.normal(size=(3, 40_000, 2)) * np.array([0.5, 0.8, 2.0])[:, None, None]
    logits_CNL = (3 * (truth[None] + noise) - 6).astype(np.float32)
    sampled = fitted(kind, logits_CNL, targets_NL)
    monkeypatch.setattr(blend_fit, "MOST_ROWS", 10**9)
    whole = fitted(kind, logits_CNL, targets_NL)
    for label in range(2):
        reached = [
            average_precision_score(targets_NL[:, label], blend.apply(logits_CNL)[:, label])
            for blend in (sampled, whole)
        ]
        assert reached[0] == pytest.approx(reached[1], abs=0.003)


def test_greedy_takes_the_component_that_knows_and_leaves_noise_out():
    logits_CNL, targets_NL = drawn(num_rows=2000)
    logits_CNL[0] += 3.0 * (2.0 * targets_NL - 1.0)
    logits_CNL[2] = np.random.default_rng(9).normal(size=logits_CNL[2].shape) * 3
    weights_CL = fitted("greedy", logits_CNL, targets_NL).arrays["weights_CL"]
    assert (weights_CL[0] > 0.4).all()
    assert (weights_CL[2] < 0.1).all()


def test_greedy_gives_rare_labels_one_set_of_weights():
    logits_CNL, targets_NL = drawn(num_rows=1000)
    targets_NL[:] = 0
    targets_NL[:20] = (
        1  # Twenty positives each, and each label has a component that puts them first by chance.
    )
    logits_CNL[1, :20, 0] = logits_CNL[2, :20, 1] = 20.0
    for label, component in ((0, 1), (1, 2)):
        alone = fitted("greedy", logits_CNL[:, :, [label]], targets_NL[:, [label]]).arrays["weights_CL"][:, 0]
        assert alone[component] == 1.0
    first, second = fitted("greedy", logits_CNL, targets_NL).arrays["weights_CL"].T
    assert np.array_equal(first, second)
    # With a hundred and more each has its own.
    more = np.tile(logits_CNL, (1, 5, 1)), np.tile(targets_NL, (5, 1))
    first, second = fitted("greedy", *more).arrays["weights_CL"].T
    assert first[1] == second[2] == 1.0


def test_stacked_recovers_planted_weights():
    generator = np.random.default_rng(5)
    logits_CNL = generator.normal(size=(3, 60_000, 1)) * 2
    truth_N = 1.5 * logits_CNL[0, :, 0] + 0.5 * logits_CNL[1, :, 0] - 1.0
    targets_NL = (generator.random(60_000) < expit(truth_N)).astype(np.int8)[:, None]
    blend = fitted("stacked", logits_CNL, targets_NL)
    assert blend.arrays["weights_CL"][:, 0] == pytest.approx([1.5, 0.5, 0.0], abs=0.05)
    assert blend.arrays["intercepts_L"][0] == pytest.approx(-1.0, abs=0.05)


def test_stacked_is_scikit_learns_regression_where_the_ridge_is_weak():
    logits_CNL, targets_NL = drawn(num_rows=5000)
    blend = fitted("stacked", logits_CNL, targets_NL)
    for label in range(2):
        regression = LogisticRegression(C=1e6, tol=1e-8).fit(logits_CNL[:, :, label].T, targets_NL[:, label])
        assert blend.arrays["weights_CL"][:, label] == pytest.approx(regression.coef_[0], abs=0.03)
        assert blend.arrays["intercepts_L"][label] == pytest.approx(regression.intercept_[0], abs=0.03)


def test_stacked_weighs_all_components_alike_for_a_rare_label():
    logits_CNL, targets_NL = drawn(num_rows=300)
    targets_NL[:, 1] = 0
    targets_NL[:19, 1] = 1
    blend = fitted("stacked", logits_CNL, targets_NL)
    assert blend.arrays["weights_CL"][:, 1] == pytest.approx([1 / 3] * 3)
    assert blend.arrays["intercepts_L"][1] == 0.0


def test_cells_without_annotation_are_left_out():
    logits_CNL, targets_NL = drawn(num_rows=1000)
    unknown = targets_NL.copy()
    unknown[500:, 0] = -1
    for kind in ("greedy", "stacked"):
        expected = fitted(kind, logits_CNL[:, :500, :1], targets_NL[:500, :1]).arrays["weights_CL"][:, 0]
        assert fitted(kind, logits_CNL, unknown).arrays["weights_CL"][:, 0] == pytest.approx(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_a_fold_decide_nothing_about_its_rows(kind):
    logits_CNL, targets_NL = drawn()
    fold_N = np.arange(400) % 3
    named = {"components": NAMES, "labels": LABELS, "seed": 1}
    before = cross_fitted(kind, logits_CNL, targets_NL, fold_N, **named)
    changed = targets_NL.copy()
    changed[fold_N == 1] = 1 - changed[fold_N == 1]
    after = cross_fitted(kind, logits_CNL, changed, fold_N, **named)
    assert np.array_equal(before[fold_N == 1], after[fold_N == 1])
    if kind in ("greedy", "stacked"):
        assert not np.array_equal(before[fold_N != 1], after[fold_N != 1])


@pytest.mark.parametrize("kind", KINDS)
def test_json_gives_back_the_same_numbers(kind):
    logits_CNL, targets_NL = drawn()
    blend = fitted(kind, logits_CNL, targets_NL)
    again = Blend.from_json(json.loads(json.dumps(blend.to_json())))
    assert np.array_equal(again.apply(logits_CNL), blend.apply(logits_CNL))
    assert (again.kind, again.labels, again.components) == (blend.kind, blend.labels, blend.components)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "magic"},
        {"weights_CL": [[1.0], [0.0], [0.0]]},
        {"weights_CL": [[2.0, 1.0], [-1.0, 0.0], [0.0, 0.0]]},
        {"weights_CL": [["much", 1.0], [0.0, 0.0], [0.0, 0.0]]},
        {"weights_CL": [[float("nan"), 1.0], [0.0, 0.0], [0.0, 0.0]]},
        {"components": ["a", "a", "b"]},
        {"labels": "xy"},
        {"more": 1},
    ],
)
def test_damaged_json_is_refused(change):
    content = fitted("greedy", *drawn()).to_json()
    with pytest.raises(BundleError, match="B471"):
        Blend.from_json({**content, **change})


@pytest.mark.parametrize(
    "change", [{"knots_P": [0.0] * 8}, {"starts_S": [0, 1]}, {"places_P": [2.0] * 8}, {"starts_S": [0, 9, 8]}]
)
def test_damaged_curves_are_refused(change):
    logits_CNL = np.arange(8, dtype=np.float32).reshape(1, 4, 2)
    content = fitted("ranks", logits_CNL, np.zeros((4, 2), np.int8)).to_json()
    with pytest.raises(BundleError, match="B471"):
        Blend.from_json({**content, **change})


def test_wrong_shapes_are_refused():
    logits_CNL, targets_NL = drawn()
    with pytest.raises(ValueError, match="expected 3 x N x 2"):
        fitted("mean", logits_CNL, targets_NL).apply(logits_CNL[:2])
    with pytest.raises(ValueError, match="expected"):
        fit_blend("mean", logits_CNL, targets_NL, components=("a",), labels=LABELS, seed=1)
    with pytest.raises(ValueError, match="not finite"):
        fitted("mean", np.full_like(logits_CNL, np.nan), targets_NL)
    with pytest.raises(ValueError, match="two folds"):
        cross_fitted("mean", logits_CNL, targets_NL, np.zeros(400), components=NAMES, labels=LABELS, seed=1)
