import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from manylabel.config.schema import TrainingSettings
from manylabel.training.schedule import (
    SCHEDULES,
    cosine,
    linear_warmup_decay,
    rate_multiplier,
    slanted_triangular,
)

NAMES = list(SCHEDULES)


def test_hand_worked_case():
    # 10 steps, 2 of warmup: 1/3, 2/3, then 8/8 down to 1/8.
    values = [linear_warmup_decay(step, num_steps=10, warmup=0.2) for step in range(10)]
    assert values == pytest.approx([1 / 3, 2 / 3, *[k / 8 for k in range(8, 0, -1)]])


def test_cosine_by_hand():
    # 6 steps, 2 of warmup: 1/3, 2/3, then (1 + cos) / 2 at 0, 45, 90 and 135 degrees, and 180 after the last.
    values = [cosine(step, num_steps=6, warmup=1 / 3) for step in range(7)]
    half = math.sqrt(0.5)
    assert values == pytest.approx([1 / 3, 2 / 3, 1.0, (1 + half) / 2, 0.5, (1 - half) / 2, 0.0])


def test_slanted_triangular_by_hand():
    # Howard & Ruder 2018 with T = 10, cut = 2, ratio = 32: p = 1 - (t - 2) / 8, rate (1 + 31 p) / 32.
    values = [slanted_triangular(step, num_steps=10, warmup=0.2) for step in range(11)]
    fall = [(1 + 31 * (1 - (step - 2) / 8)) / 32 for step in range(2, 11)]
    assert values == pytest.approx([1 / 3, 2 / 3, *fall])
    assert fall[4] == 16.5 / 32


@pytest.mark.parametrize("warmup", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("num_steps", [1, 2, 7, 1000])
def test_always_above_zero_and_at_most_one(num_steps, warmup):
    values = [linear_warmup_decay(step, num_steps=num_steps, warmup=warmup) for step in range(num_steps)]
    assert all(0 < value <= 1 for value in values)


@given(name=st.sampled_from(NAMES), num_steps=st.integers(1, 400), warmup=st.floats(0, 1))
def test_a_schedule_rises_then_falls_within_its_bounds(name, num_steps, warmup):
    values = [rate_multiplier(name, step, num_steps=num_steps, warmup=warmup) for step in range(num_steps)]
    num_warmup = round(warmup * num_steps)
    rise, fall = values[:num_warmup], values[num_warmup:]
    assert all(0 < value <= 1 for value in values)
    assert all(before < after for before, after in pairwise(rise))
    assert all(before > after for before, after in pairwise(fall))
    if fall:
        assert fall[0] == 1


@pytest.mark.parametrize(("name", "last"), [("linear", 0.0), ("cosine", 0.0), ("slanted_triangular", 1 / 32)])
def test_the_end_is_exact(name, last):
    assert rate_multiplier(name, 50, num_steps=50, warmup=0.1) == last


def test_the_setting_names_all_schedules():
    allowed = TrainingSettings.model_json_schema()["properties"]["schedule"]["enum"]
    assert sorted(allowed) == sorted(NAMES)


@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.parametrize(("num_steps", "num_warmup"), [(20, 4), (7, 0), (5, 5)])
def test_equal_to_transformers_one_step_later(name, num_steps, num_warmup):
    from transformers import get_scheduler

    # transformers spends its first step at rate 0; without that step, both are the same.
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = get_scheduler(
        name, optimizer, num_warmup_steps=num_warmup + 1, num_training_steps=num_steps + 1
    ).lr_lambdas[0]
    warmup = num_warmup / num_steps
    for step in range(num_steps):
        value = rate_multiplier(name, step, num_steps=num_steps, warmup=warmup)
        assert value == pytest.approx(reference(step + 1), rel=1e-12)
