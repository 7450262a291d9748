"""References: scipy's exact interval, a case worked by hand, and a simulation with clusters."""

import numpy as np
import pytest
from scipy.stats import beta, binomtest
from scipy.stats import t as student

from manylabel.decisions.binomial import clopper_pearson, clustered_interval


@pytest.mark.parametrize(("successes", "trials"), [(0, 20), (3, 20), (20, 20)])
def test_one_trial_a_unit_is_the_exact_interval(successes, trials):
    hits = np.zeros(trials, np.int64)
    hits[:successes] = 1
    expected = binomtest(successes, trials).proportion_ci(0.9, method="exact")
    assert clustered_interval(hits, np.ones(trials, np.int64), confidence=0.9) == pytest.approx(
        tuple(expected)
    )
    # Units without a trial say nothing.
    padded = np.append(np.ones(trials, np.int64), [0, 0])
    found = clustered_interval(np.append(hits, [0, 0]), padded, confidence=0.9)
    assert found == pytest.approx(tuple(expected))
    assert clopper_pearson(successes, trials, confidence=0.9) == pytest.approx(tuple(expected))


def test_a_hand_worked_case():
    """Four units of 5 trials, two of them all successes: p = 1/2, the variance of the unit means is 1/3 / 4."""
    hits, trials = np.array([5, 5, 0, 0]), np.full(4, 5)
    variance = 4 / 3 * (4 * 2.5**2) / 20**2
    assert variance == pytest.approx(1 / 12)
    effective = 0.25 / variance * (student.ppf(0.975, 19) / student.ppf(0.975, 3)) ** 2
    x = 0.5 * effective
    low, high = beta.ppf(0.025, x, effective - x + 1), beta.ppf(0.975, x + 1, effective - x)
    assert clustered_interval(hits, trials) == pytest.approx((low, high))


def test_a_share_of_0_or_1_counts_one_trial_a_unit():
    trials = np.full(6, 10)
    low, high = clustered_interval(np.zeros(6, np.int64), trials)
    assert (low, high) == (0.0, pytest.approx(binomtest(0, 6).proportion_ci(0.95, method="exact").high))
    low, high = clustered_interval(trials, trials)
    assert (low, high) == (pytest.approx(binomtest(6, 6).proportion_ci(0.95, method="exact").low), 1.0)
    assert clustered_interval(np.zeros(0, np.int64), np.zeros(0, np.int64)) is None


@pytest.mark.parametrize("share", [0.3, 0.05])
def test_it_covers_the_share_of_clusters_that_are_alike(share):
    """400 draws of 60 units of 1 to 9 trials whose own shares are beta; the plain exact interval is far too short."""
    draw = np.random.default_rng(5)
    covered, plainly = 0, 0
    for _ in range(400):
        trials = draw.integers(1, 10, 60)
        hits = draw.binomial(trials, draw.beta(share, 1.0 - share, 60))
        low, high = clustered_interval(hits, trials)
        covered += low <= share <= high
        low, high = clopper_pearson(int(hits.sum()), int(trials.sum()))
        plainly += low <= share <= high
    # 400 draws of a share of 0.95 lie above 0.92 but for once in 300.
    assert covered >= 0.92 * 400
    assert plainly < 0.85 * 400
