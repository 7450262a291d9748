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


def clustered_interval(
    successes_G: IntArray, trials_G: IntArray, *, confidence: float = 0.95
) -> tuple[float, float] | None:
    """The interval of a share whose trials come in G units that may be alike inside; None without trials.

    `successes_G` of `trials_G` in each unit. Where no unit has more than one trial it is Clopper and Pearson's.
    Otherwise it is that of as many trials as would vary as much (Korn and Graubard 1998, "Confidence intervals for
    proportions with small expected number of positive counts estimated from survey data", without their finite
    population): the number of trials over the design effect, at most the trials there are, times the square of the
    ratio of Student's t quantiles. A share of 0 or 1 does not vary, and counts one trial a unit.
    """
    from scipy.special import betaincinv, stdtrit

    successes_G, trials_G = successes_G[trials_G > 0], trials_G[trials_G > 0]
    successes, trials, units = int(successes_G.sum()), int(trials_G.sum()), len(trials_G)
    if trials == units:
        return clopper_pearson(successes, trials, confidence=confidence)
    share = successes / trials
    pulls_G = successes_G - share * trials_G
    variance = units / max(units - 1, 1) * float(np.square(pulls_G).sum()) / trials**2
    if share in (0.0, 1.0) or variance <= 0.0:
        effective = float(units)
    else:
        tail = 0.5 + confidence / 2.0
        ratio = stdtrit(trials - 1, tail) / stdtrit(max(units - 1, 1), tail)
        effective = min(share * (1.0 - share) / variance, float(trials)) * float(ratio) ** 2
    hits, tail = share * effective, (1.0 - confidence) / 2.0
    low = 0.0 if successes == 0 else float(betaincinv(hits, effective - hits + 1.0, tail))
    high = 1.0 if successes == trials else float(betaincinv(hits + 1.0, effective - hits, 1.0 - tail))
    return low, high


def chance_of_at_least(successes_C: IntArray, trials_C: IntArray, share: float) -> npt.NDArray[np.float64]:
    """P(Binomial(trials, share) >= successes) for each pair: the exact p-value of 'the true share is at most `share`'.

    1 where no success is asked for, so also without trials.
    """
    from scipy.special import betainc

    asked_C = np.maximum(successes_C, 1)
    tail_C = betainc(asked_C, np.maximum(trials_C, asked_C) - asked_C + 1, share)
    return np.where(successes_C < 1, 1.0, tail_C)
