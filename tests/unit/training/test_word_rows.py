"""Row updates against torch's AdamW on the whole table."""

import numpy as np
import pytest
import torch
from torch import nn

from manylabel.training.optimizer import ADAM_BETAS, ADAM_EPSILON
from manylabel.training.word_rows import WordRows

ROWS, WIDTH, STEPS = 60, 8, 300


def schedule(step, num_steps=STEPS):
    return 1e-3 * min(step / 30, (num_steps + 1 - step) / (num_steps - 30))


def batches(seed, scale, first=0, last=STEPS):
    """(rows, gradient) of every step: common rows often, rare rows once in a hundred steps, some rows never."""
    choose = np.random.default_rng(seed)
    weights = 1.0 / np.arange(1, ROWS - 9) ** 1.3
    for step in range(last):
        count = int(choose.integers(1, 12))
        rows = np.unique(choose.choice(ROWS - 10, size=count, p=weights / weights.sum()))
        gradient = choose.normal(size=(len(rows), WIDTH)) * scale
        if step >= first:
            yield torch.from_numpy(rows), torch.from_numpy(gradient).float()


def table(dtype=torch.float32):
    return nn.Parameter(
        torch.from_numpy(np.random.default_rng(0).normal(size=(ROWS, WIDTH)) * 0.05).to(dtype)
    )


def run_dense(weight_decay, scale):
    """AdamW in float64, so that only the row updates bring rounding."""
    dense = table(torch.float64)
    optimizer = torch.optim.AdamW([dense], betas=ADAM_BETAS, eps=ADAM_EPSILON, weight_decay=weight_decay)
    for step, (rows, gradient) in enumerate(batches(1, scale), start=1):
        dense.grad = torch.zeros_like(dense)
        dense.grad[rows] = gradient.double()
        optimizer.param_groups[0]["lr"] = schedule(step)
        optimizer.step()
    return dense.detach()


def run_rows(weight_decay, scale):
    sparse = table()
    rows_updated = WordRows(sparse, weight_decay=weight_decay, num_steps=STEPS)
    for step, (rows, gradient) in enumerate(batches(1, scale), start=1):
        rows_updated.refresh(rows)
        rows_updated.update(rows, gradient, schedule(step))
    rows_updated.refresh()
    return sparse.detach()


@pytest.mark.parametrize("weight_decay", [0.0, 0.01, 0.3])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-5])
def test_rows_equal_adamw_on_the_whole_table(weight_decay, scale):
    """Every row moved by about 0.1 in all; the difference stays at the rounding of fp32."""
    dense, sparse = run_dense(weight_decay, scale), run_rows(weight_decay, scale)
    moved = (dense - table(torch.float64).detach()).abs().max()
    assert moved > 0.02
    assert (sparse.double() - dense).abs().max() < 2e-6 * (1 + 1e-5 / scale)


def test_gradients_near_epsilon_stay_close():
    """Where the denominator is mostly epsilon the closed form is only an expansion: 0.1 % of what the rows moved."""
    dense, sparse = run_dense(0.01, 1e-7), run_rows(0.01, 1e-7)
    moved = (dense - table(torch.float64).detach()).abs().max()
    assert (sparse.double() - dense).abs().max() < 1e-3 * moved


def test_a_row_read_in_between_is_what_adamw_has_at_that_step():
    dense, sparse = table(torch.float64), table()
    optimizer = torch.optim.AdamW([dense], betas=ADAM_BETAS, eps=ADAM_EPSILON, weight_decay=0.01)
    rows_updated = WordRows(sparse, weight_decay=0.01, num_steps=STEPS)
    for step, (rows, gradient) in enumerate(batches(2, 1e-2, last=60), start=1):
        rows_updated.refresh(rows)
        assert (sparse.detach()[rows].double() - dense.detach()[rows]).abs().max() < 1e-6
        dense.grad = torch.zeros_like(dense)
        dense.grad[rows] = gradient.double()
        optimizer.param_groups[0]["lr"] = schedule(step)
        optimizer.step()
        rows_updated.update(rows, gradient, schedule(step))


def test_refreshing_twice_changes_nothing_and_rate_zero_moves_nothing():
    sparse = table()
    rows_updated = WordRows(sparse, weight_decay=0.1, num_steps=STEPS)
    rows, gradient = next(batches(3, 1.0))
    rows_updated.update(rows, gradient, 0.0)
    rows_updated.refresh()
    assert torch.equal(sparse, table())
    rows_updated.update(rows, gradient, 1e-3)
    rows_updated.refresh()
    once = sparse.detach().clone()
    rows_updated.refresh()
    assert torch.equal(sparse, once)


def test_a_restored_state_goes_on_bit_for_bit():
    whole = run_rows(0.01, 1e-2)
    first = WordRows(table(), weight_decay=0.01, num_steps=STEPS)
    for step, (rows, gradient) in enumerate(batches(1, 1e-2, last=170), start=1):
        first.refresh(rows)
        first.update(rows, gradient, schedule(step))
    state = {name: value.clone() for name, value in first.state().items()}
    parameter = table()
    second = WordRows(parameter, weight_decay=0.01, num_steps=STEPS)
    second.restore(state)
    for step, (rows, gradient) in enumerate(batches(1, 1e-2, first=170), start=171):
        second.refresh(rows)
        second.update(rows, gradient, schedule(step))
    second.refresh()
    assert torch.equal(parameter, whole)
