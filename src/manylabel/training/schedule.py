"""Learning-rate schedules: pure functions from step to multiplier; called by the loop.

All rise alike and differ in how they fall. `step` counts from 0; with `step == num_steps`, one after the last, a
schedule has reached its end: 0, or 1/32 of the peak.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, Protocol

Schedule = Literal["linear", "cosine", "slanted_triangular"]

SLANTED_RATIO = 32
"""How much smaller than the peak the slanted triangular rate ends (Howard & Ruder 2018, section 3.2)."""


class _Multiplier(Protocol):
    """A schedule as a function of the step."""

    def __call__(self, step: int, *, num_steps: int, warmup: float) -> float: ...


def linear_warmup_decay(step: int, *, num_steps: int, warmup: float) -> float:
    """Multiplier in [0, 1] for step `step` (from 0): linear rise over `warmup * num_steps` steps, then linear fall.

    As BERT was fine-tuned (Devlin et al. 2019, appendix A.3). The first step is not wasted at rate 0: it has
    1 / warmup steps, and the last has a rate above 0.
    """
    num_warmup = round(warmup * num_steps)
    if step < num_warmup:
        return (step + 1) / (num_warmup + 1)
    return (num_steps - step) / max(num_steps - num_warmup, 1)


def cosine(step: int, *, num_steps: int, warmup: float) -> float:
    """Multiplier in [0, 1]: linear rise, then half a cosine wave down to 0 (Loshchilov & Hutter 2017, one cycle)."""
    return _after_rise(
        lambda remaining: 0.5 * (1.0 + math.cos(math.pi * (1.0 - remaining))),
        step,
        num_steps=num_steps,
        warmup=warmup,
    )


def slanted_triangular(step: int, *, num_steps: int, warmup: float) -> float:
    """Multiplier in [0, 1]: linear rise, then linear fall to 1/32 of the peak (Howard & Ruder 2018, section 3.2).

    The fall is the paper's, (1 + p (ratio - 1)) / ratio with p from 1 to 0; the rise begins near 0, as in all
    schedules here, where the paper's begins at 1/32.
    """
    return _after_rise(
        lambda remaining: (1.0 + remaining * (SLANTED_RATIO - 1)) / SLANTED_RATIO,
        step,
        num_steps=num_steps,
        warmup=warmup,
    )


SCHEDULES: dict[Schedule, _Multiplier] = {
    "linear": linear_warmup_decay,
    "cosine": cosine,
    "slanted_triangular": slanted_triangular,
}


def rate_multiplier(name: Schedule, step: int, *, num_steps: int, warmup: float) -> float:
    """What the peak rate is multiplied by in step `step` (from 0) of `num_steps`, as the setting `schedule` says.

    `warmup` is the share of the steps, in [0, 1], in which the rate rises.
    """
    return SCHEDULES[name](step, num_steps=num_steps, warmup=warmup)


def _after_rise(fall: Callable[[float], float], step: int, *, num_steps: int, warmup: float) -> float:
    """The linear schedule, bent after the rise: `fall` maps what is left of it, from 1 to 0."""
    linear = linear_warmup_decay(step, num_steps=num_steps, warmup=warmup)
    return linear if step < round(warmup * num_steps) else fall(linear)
