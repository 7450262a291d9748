import pytest

from manylabel.training.schedule import linear_warmup_decay


def test_hand_worked_case():
    # 10 steps, 2 of warmup: 1/3, 2/3, then 8/8 down to 1/8.
    values = [linear_warmup_decay(step, num_steps=10, warmup=0.2) for step in range(10)]
    assert values == pytest.approx([1 / 3, 2 / 3, *[k / 8 for k in range(8, 0, -1)]])


@pytest.mark.parametrize("warmup", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("num_steps", [1, 2, 7, 1000])
def test_always_above_zero_and_at_most_one(num_steps, warmup):
    values = [linear_warmup_decay(step, num_steps=num_steps, warmup=warmup) for step in range(num_steps)]
    assert all(0 < value <= 1 for value in values)
