"""Exact statements about a share from counts; called by risk, abstain and the recipe of thresholds.

scipy is imported where it is used: a prediction needs none of this.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from manylabel.values import IntArray


def clopper_pearson(successes: int, trials: int, *, confidence: float = 0.95) -> tuple[float, float] | None:
    """The exact two-sided interval of a binomial share (Clopper and Pearson 1934); None without trials.

    It covers the true share with at least `confidence`, whatever the share and the number of trials.
    """
    from scipy.special import betaincinv

    if not 0 <= successes <= trials or not 0.0 < confidence < 1.0:
        raise ValueError("successes must be from 0 to trials, the confidence between 0 and 1")
    if trials == 0:
        return None
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if successes == 0 else float(betaincinv(successes, trials - successes + 1, tail))
    high = 1.0 if successes == trials else float(betaincinv(successes + 1, trials - successes, 1.0 - tail))
    return low, high


def chance_of_at_least(successes_C: IntArray, trials_C: IntArray, share: float) -> npt.NDArray[np.float64]:
    """P(Binomial(trials, share) >= successes) for each pair: the exact p-value of 'the true share is at most `share`'.

    1 where no success is asked for, so also without trials.
    """
    from scipy.special import betainc

    asked_C = np.maximum(successes_C, 1)
    tail_C = betainc(asked_C, np.maximum(trials_C, asked_C) - asked_C + 1, share)
    return np.where(successes_C < 1, 1.0, tail_C)
