"""Learning-rate schedules: pure functions from step to multiplier; called by the loop."""

from __future__ import annotations


def linear_warmup_decay(step: int, *, num_steps: int, warmup: float) -> float:
    """Multiplier in [0, 1] for step `step` (from 0): linear rise over `warmup * num_steps` steps, then linear fall.

    As BERT was fine-tuned (Devlin et al. 2019, appendix A.3). The first step is not wasted at rate 0: it has
    1 / warmup steps, and the last has a rate above 0.
    """
    num_warmup = round(warmup * num_steps)
    if step < num_warmup:
        return (step + 1) / (num_warmup + 1)
    return (num_steps - step) / max(num_steps - num_warmup, 1)
