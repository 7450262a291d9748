"""References: `evaluate` and the full bootstrap, of which these figures are a part."""

import numpy as np
import pytest

from manylabel.config.schema import EvaluationSettings
from manylabel.decisions.thresholds import Thresholds
from manylabel.evaluation.paired import compare_judged
from manylabel.evaluation.weighted import Judged, WeightedFigures
from manylabel.evaluation.weighted_averages import WeightedAverages, changes_from

LABELS = ("a", "b", "c")
THRESHOLDS = Thresholds(LABELS, np.array([0.5, 0.4, 0.6]), np.ones(3, np.bool_), (None,) * 3)
SETTINGS = EvaluationSettings(resamples=150, seed=2)


def judged(seed, targets_NL, sharpness):
    noise_NL = np.random.default_rng(seed).random(targets_NL.shape)
    probabilities_NL = np.round(sharpness * (targets_NL == 1) + (1.0 - sharpness) * noise_NL, 2)
    return Judged(LABELS, targets_NL, probabilities_NL, THRESHOLDS.decide(probabilities_NL))


@pytest.fixture
def targets_NL():
    choose = np.random.default_rng(1)
    targets_NL = (choose.random((300, 3)) < [0.4, 0.2, 0.05]).astype(np.int8)
    targets_NL[choose.random((300, 3)) < 0.05] = -1
    return targets_NL


def test_figures_are_those_of_all_figures(targets_NL):
    one = judged(3, targets_NL, 0.3)
    weights_NR = np.random.default_rng(4).integers(0, 4, (300, 7)).astype(np.float64)
    few, every = WeightedAverages(one), WeightedFigures(one)
    expected = dict(zip(every.paths, every.compute(weights_NR), strict=True))
    for path, values_R in zip(few.paths, few.compute(weights_NR), strict=True):
        assert values_R == pytest.approx(expected[path], abs=1e-12), path


@pytest.mark.parametrize("grouped", [False, True])
def test_changes_are_the_paired_differences_of_a_comparison(targets_NL, grouped):
    clean, attacked = judged(3, targets_NL, 0.4), judged(5, targets_NL, 0.2)
    groups_N = [f"g{row // 2}" for row in range(300)] if grouped else None
    (found,) = changes_from(clean, [attacked], groups_N=groups_N, settings=SETTINGS)
    expected = compare_judged(clean, attacked, groups_N=groups_N, settings=SETTINGS)
    assert set(found) == {
        ("macro", "roc_auc"),
        ("macro", "average_precision"),
        ("macro", "f1"),
        ("micro", "f1"),
    }
    for path, interval in found.items():
        other = expected.figures[path]
        assert interval.value == pytest.approx(other.difference)
        assert [interval.low, interval.high] == pytest.approx([other.low, other.high])
        assert interval.high < 0.0


def test_what_changes_nothing_has_no_interval_and_says_so(targets_NL):
    clean = judged(3, targets_NL, 0.4)
    (found,) = changes_from(clean, [clean], groups_N=None, settings=SETTINGS)
    assert {(each.value, each.limits, each.reason) for each in found.values()} == {
        (0.0, None, "the same in every resample")
    }
    (none,) = changes_from(
        clean, [judged(5, targets_NL, 0.2)], groups_N=None, settings=EvaluationSettings(resamples=0)
    )
    assert {each.reason for each in none.values()} == {"no resamples were drawn"}
    assert none["micro", "f1"].value < 0.0
