import numpy as np
import pytest

from manylabel.decisions.missed_share import MissedShare
from manylabel.errors import ConfigError

pytestmark = pytest.mark.slow  # many seconds together


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("missed-share=0.1", MissedShare(0.1)),
        (" Missed-Share = .25 , labelled", MissedShare(0.25, labelled_only=True)),
        ("missed-share=1e-3", MissedShare(0.001)),
    ],
)
def test_forms_are_read_and_written_again(text, expected):
    assert MissedShare.parse(text) == expected
    assert MissedShare.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text", ["missed-share", "missed-share=", "missed-share=0", "missed-share=1", "missed-share=0.1,all"]
)
def test_other_forms_are_refused(text):
    with pytest.raises(ConfigError, match="C246"):
        MissedShare.parse(text)


def test_a_hand_worked_share():
    # Row 1 misses one of two labels, row 2 has none, row 3 misses its one (the other is not annotated), row 4 is empty.
    targets_NL = np.array([[1, 1], [0, 0], [1, -1], [-1, -1]], np.int8)
    decisions_NL = np.array([[True, False], [True, False], [False, True], [False, False]])
    assert MissedShare(0.1).measure(targets_NL, decisions_NL) == pytest.approx((0.5 + 0.0 + 1.0) / 3)
    assert MissedShare(0.1, labelled_only=True).measure(targets_NL, decisions_NL) == pytest.approx(0.75)
    assert MissedShare(0.1).measure(targets_NL[3:], decisions_NL[3:]) is None


def test_the_promise_holds_over_draws():
    """200 draws of 300 rows; the mean share missed on the other rows is at most alpha, up to 3 standard errors."""
    choose = np.random.default_rng(3)
    targets_NL = (choose.random((20_000, 4)) < [0.3, 0.2, 0.1, 0.02]).astype(np.int8)
    probabilities_NL = 1 / (1 + np.exp(-(choose.normal(size=targets_NL.shape) + 2.0 * targets_NL - 1.0)))
    for goal in (MissedShare(0.1), MissedShare(0.2, labelled_only=True)):
        shares = []
        for _ in range(200):
            drawn = choose.choice(20_000, 300, replace=False)
            threshold = goal.control(targets_NL[drawn], probabilities_NL[drawn]).threshold
            rest = np.setdiff1d(np.arange(20_000), drawn)
            shares.append(goal.measure(targets_NL[rest], probabilities_NL[rest] >= threshold))
        assert np.mean(shares) <= goal.alpha + 3 * np.std(shares) / np.sqrt(200)
        assert np.mean(shares) >= 0.8 * goal.alpha
