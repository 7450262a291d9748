"""AdamW on the rows of the word embeddings that a batch touches, equal to AdamW on the whole table; called by weights.

Half of a small BERT's parameters are word embeddings, and a batch uses a few hundred of 30,522 rows. A row without
gradient still moves under AdamW: its momentum fades and its decay goes on. Both have a closed form over the steps a row
was left alone, so a row is brought up to date only when a batch is about to read it, and all rows before the table is
read as a whole.

With m and v of the last update at step s and no gradient since, step j takes from the row

    rate_j / (1 - b1^j) * b1^(j-s) m / (b2^((j-s)/2) sqrt(v) / sqrt(1 - b2^j) + epsilon)

after scaling it by (1 - rate_j decay) (Loshchilov & Hutter 2019, algorithm 2; Kingma & Ba 2015 for the bias
corrections). With u_j = sqrt(1 - b2^j) / b2^((j-s)/2) that is W_j m / (sqrt(v) + epsilon u_j), whose sum over j needs
only the sums of W_j, W_j u_j and W_j u_j^2 for each s, as long as epsilon u_j varies little against sqrt(v): the
remainder is of third order in that. Tests compare with `torch.optim.AdamW` on the whole table.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from manylabel.training.optimizer import ADAM_BETAS, ADAM_EPSILON

WINDOW = 512
"""Steps after which a momentum has faded below any fp32 rounding: 0.9^512 is 4e-24."""
SMALLEST_DENOMINATOR = 1e-12
"""Epsilon times the smallest u is 3e-10, so this is met only where a sum is empty."""


class WordRows:
    """The word embeddings [V, D] with their moments; `last_V` is the step every row has been brought to."""

    def __init__(self, table: nn.Parameter, *, weight_decay: float, num_steps: int) -> None:
        """Start at step 0; `num_steps` is the length of the run."""
        self._table = table
        self._weight_decay = weight_decay
        self._exp_avg_VD = torch.zeros_like(table, requires_grad=False)
        self._exp_avg_sq_VD = torch.zeros_like(table, requires_grad=False)
        self._last_V = torch.zeros(len(table), dtype=torch.int64, device=table.device)
        self._rates = np.zeros(num_steps + 1)
        self._idle = _IdleSums(num_steps, weight_decay)
        self._step = 0

    def refresh(self, rows_U: Tensor | None = None) -> None:
        """Bring rows (all by default; none twice) to the present step, as if they had been updated all along."""
        last = self._last_V if rows_U is None else self._last_V.index_select(0, rows_U)
        behind = torch.nonzero(last < self._step).squeeze(1)
        if not len(behind):
            return
        rows_U = behind if rows_U is None else rows_U.index_select(0, behind)
        since_U = last.index_select(0, behind).cpu().numpy()
        sums_4U = torch.from_numpy(self._idle.sums(since_U, self._step)).to(self._table)
        weight, mean, variance, kept = sums_4U.unsqueeze(2).unbind(0)
        exp_avg, exp_avg_sq = self._exp_avg_VD[rows_U], self._exp_avg_sq_VD[rows_U]
        # The limit keeps an untouched row at rate 0 (moments and mean 0) from 0 times infinity.
        inverse = 1 / (exp_avg_sq.sqrt() + mean * ADAM_EPSILON).clamp_min(SMALLEST_DENOMINATOR)
        change = weight * exp_avg * inverse * (1 + variance * (ADAM_EPSILON * inverse).square())
        gaps = (self._step - torch.from_numpy(since_U)).to(self._table).unsqueeze(1)
        with torch.no_grad():
            self._table.index_copy_(0, rows_U, self._table[rows_U] * kept - change)
        self._exp_avg_VD.index_copy_(0, rows_U, exp_avg * ADAM_BETAS[0] ** gaps)
        self._exp_avg_sq_VD.index_copy_(0, rows_U, exp_avg_sq * ADAM_BETAS[1] ** gaps)
        self._last_V.index_fill_(0, rows_U, self._step)

    def update(self, rows_U: Tensor, gradient_UD: Tensor, rate: float) -> None:
        """One AdamW step: `rows_U`, refreshed before, with their gradient; all other rows are left for later."""
        self._step += 1
        self._rates[self._step] = rate
        self._idle.add(self._step, rate)
        beta1, beta2 = ADAM_BETAS
        exp_avg = self._exp_avg_VD[rows_U].lerp_(gradient_UD, 1 - beta1)
        exp_avg_sq = (
            self._exp_avg_sq_VD[rows_U].mul_(beta2).addcmul_(gradient_UD, gradient_UD, value=1 - beta2)
        )
        denominator = exp_avg_sq.sqrt().div_((1 - beta2**self._step) ** 0.5).add_(ADAM_EPSILON)
        with torch.no_grad():
            rows = self._table[rows_U].mul_(1 - rate * self._weight_decay)
            rows.addcdiv_(exp_avg, denominator, value=-rate / (1 - beta1**self._step))
            self._table.index_copy_(0, rows_U, rows)
        self._exp_avg_VD.index_copy_(0, rows_U, exp_avg)
        self._exp_avg_sq_VD.index_copy_(0, rows_U, exp_avg_sq)
        self._last_V.index_fill_(0, rows_U, self._step)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint needs, not copied."""
        return {
            "table": self._table.detach(),
            "exp_avg": self._exp_avg_VD,
            "exp_avg_sq": self._exp_avg_sq_VD,
            "last": self._last_V,
            "rates": torch.from_numpy(self._rates[: self._step + 1]),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from `state()`."""
        with torch.no_grad():
            self._table.copy_(state["table"])
        self._exp_avg_VD.copy_(state["exp_avg"])
        self._exp_avg_sq_VD.copy_(state["exp_avg_sq"])
        self._last_V.copy_(state["last"])
        rates = state["rates"].cpu().numpy()
        self._step = len(rates) - 1
        self._rates[: len(rates)] = rates
        self._idle = _IdleSums(len(self._rates) - 1, self._weight_decay)
        for step in range(1, self._step + 1):
            self._idle.add(step, float(rates[step]))


class _IdleSums:
    """For every step s: the sums over the steps after it that a row idle since s has missed.

    Kept divided by the product of all (1 - rate decay) up to the present step, so that only the last `WINDOW` of them
    change in a step.
    """

    def __init__(self, num_steps: int, weight_decay: float) -> None:
        self._weight_decay = weight_decay
        self._powers_3S: npt.NDArray[np.float64] = np.zeros((3, num_steps + 1))
        self._kept_S: npt.NDArray[np.float64] = np.ones(num_steps + 1)

    def add(self, step: int, rate: float) -> None:
        """Step `step` was made at `rate`."""
        beta1, beta2 = ADAM_BETAS
        self._kept_S[step] = self._kept_S[step - 1] * (1 - rate * self._weight_decay)
        first = max(step - WINDOW, 0)
        gaps = step - np.arange(first, step)
        u = np.sqrt(1 - beta2**step) / beta2 ** (gaps / 2)
        share = rate * beta1**gaps / (1 - beta1**step) * u / self._kept_S[step]
        self._powers_3S[:, first:step] += share * np.stack([np.ones_like(u), u, u * u])

    def sums(self, since_U: npt.NDArray[np.int64], step: int) -> npt.NDArray[np.float64]:
        """[4, U]: sum of W, weighted mean and variance of u, and what decay left of a row, since `since_U`."""
        total, first, second = self._powers_3S[:, since_U]
        safe = np.where(total > 0, total, 1.0)
        mean = first / safe
        variance = np.maximum(second / safe - mean * mean, 0.0)
        kept = self._kept_S[step] / self._kept_S[since_U]
        return np.stack([total * self._kept_S[step], mean, variance, kept])
