"""Bootstrap resamples as row weights; drawn for `evaluation.intervals` and `evaluation.paired`.

A resample of N rows drawn with replacement is the same as a whole number for each row: how often it was drawn.
With weights instead of copied rows every figure is computed for many resamples at once (`evaluation.weighted`).
Where groups are given, whole groups are drawn: the *units* of the bootstrap are groups then, and rows otherwise.

Strata. Of a label with m positive rows a plain resample holds none with probability e^-m, so a rare label would drop
out of some resamples and change what the macro average is a mean of. Therefore units that carry a rare side of a
label (its positives, or its negatives where those are few) form a stratum of their own, at the rarest side they
carry. How many units a stratum yields stays random, Binomial(units, share), so that the variance that comes from a
label's frequency is kept, which a stratified bootstrap with fixed sizes would lose. A stratum of fewer than `SMALL`
units yields one for certain and the others at random, which keeps its mean and loses a part of its variance. A label
with `RARE` or more units on both sides makes no stratum and is drawn as in a plain bootstrap.

Letters: G units, S strata, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.values import BoolArray, IntArray

SMALL = 8
"""A stratum of so many units yields none with probability e^-8, once in 3,000 resamples."""
RARE = 20
"""A plain resample misses a side of so many units with probability e^-20, two in a thousand million."""


@dataclass(frozen=True, eq=False)
class Resampler:
    """Draws row weights; resample r depends on the seed and r alone, not on how many are drawn at a time.

    `units_N` is the unit of each row, `members_S` the units of each stratum (the common ones first, possibly
    none), `positive_units_L` and `negative_units_L` how many units hold a positive or a negative of a label.
    """

    units_N: IntArray
    members_S: tuple[IntArray, ...]
    positive_units_L: IntArray
    negative_units_L: IntArray
    seed: int
    grouped: bool

    @property
    def num_units(self) -> int:
        """G."""
        return sum(len(members) for members in self.members_S)

    def draw(self, resample: int) -> npt.NDArray[np.uint16]:
        """How often each row is in this resample, N numbers; a group's rows share one."""
        choose = self._generator(0, resample)
        num_units = self.num_units
        sizes_S = np.array([len(members) for members in self.members_S])
        # A floor of 1 would count strata of one unit 1.4 times on average, so small ones draw 1 and the rest at random:
        # never none, and the right number in the mean.
        certain_S = np.where((sizes_S > 0) & (sizes_S < SMALL), 1, 0)
        drawn_S = certain_S + choose.binomial(num_units, (sizes_S - certain_S) / max(num_units, 1))
        drawn_S = np.maximum(drawn_S, sizes_S > 0)
        if sizes_S[0]:
            drawn_S[0] = max(num_units - drawn_S[1:].sum(), 1)
        counts_G = np.zeros(num_units, dtype=np.uint16)
        for members, size, drawn in zip(self.members_S, sizes_S, drawn_S, strict=True):
            if size:
                counts_G[members] = np.bincount(choose.integers(0, size, drawn), minlength=size)
        return counts_G[self.units_N] if self.grouped else counts_G

    def draw_matrix(self, first: int, stop: int) -> npt.NDArray[np.float64]:
        """Weights of resamples `first` to `stop`, not included: N x R, doubles, in which sums are exact."""
        weights_RN = np.stack([self.draw(resample) for resample in range(first, stop)])
        return np.ascontiguousarray(weights_RN.T, dtype=np.float64)

    def leave_out_matrix(self, num_blocks: int) -> npt.NDArray[np.float64]:
        """Weights of a block jackknife: N x B of 1, and 0 for the units of one block; B is at most the units.

        Blocks are drawn at random and as equal in size as can be.
        """
        num_blocks = min(num_blocks, self.num_units)
        blocks_G = self._generator(2, 0).permutation(self.num_units) % max(num_blocks, 1)
        return np.ascontiguousarray(blocks_G[self.units_N, None] != np.arange(num_blocks), dtype=np.float64)

    def swap_matrix(self, first: int, stop: int) -> npt.NDArray[np.float64]:
        """0 or 1 for each row and permutation, equally likely: N x R; a group's rows share one.

        Used by the permutation test; independent of `draw`.
        """
        coins_GR = np.stack(
            [
                self._generator(1, permutation).integers(0, 2, self.num_units, dtype=np.int8)
                for permutation in range(first, stop)
            ],
            axis=1,
        )
        return np.ascontiguousarray(coins_GR[self.units_N], dtype=np.float64)

    def _generator(self, purpose: int, number: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(purpose, number)))


def make_resampler(
    targets_NL: IntArray, groups_N: Sequence[str] | IntArray | None = None, *, seed: int
) -> Resampler:
    """Units and strata of N rows with L labels; `targets_NL` holds 1, 0 and -1 (not annotated).

    Raises:
        ValueError: there is not one group a row.

    """
    num_rows, num_labels = targets_NL.shape
    units_N = np.arange(num_rows)
    if groups_N is not None:
        if len(groups_N) != num_rows:
            raise ValueError(f"{len(groups_N)} groups for {num_rows} rows")
        units_N = np.unique(np.asarray(groups_N), return_inverse=True)[1].reshape(-1)
    num_units = int(units_N.max()) + 1 if num_rows else 0
    sides = {
        (column, value): _units_with(units_N, targets_NL[:, column] == value, num_units)
        for column in range(num_labels)
        for value in (1, 0)
    }
    return Resampler(
        units_N=units_N,
        members_S=_strata(list(sides.values()), num_units),
        positive_units_L=np.array([len(sides[column, 1]) for column in range(num_labels)], dtype=np.int64),
        negative_units_L=np.array([len(sides[column, 0]) for column in range(num_labels)], dtype=np.int64),
        seed=seed,
        grouped=groups_N is not None,
    )


def _units_with(units_N: IntArray, chosen_N: BoolArray, num_units: int) -> IntArray:
    present_G = np.zeros(num_units, dtype=np.bool_)
    present_G[units_N[chosen_N]] = True
    return np.flatnonzero(present_G)


def _strata(sides: list[IntArray], num_units: int) -> tuple[IntArray, ...]:
    """Units of each stratum: the common ones, then those of each rare side that is the rarest of some unit."""
    rare = sorted((side for side in sides if 0 < len(side) < RARE), key=len, reverse=True)
    stratum_G = np.zeros(num_units, dtype=np.int64)
    for number, side in enumerate(rare, start=1):
        stratum_G[side] = number  # A rarer side comes later and takes the unit over.
    common, *others = (np.flatnonzero(stratum_G == number) for number in range(len(rare) + 1))
    return (common, *(members for members in others if len(members)))
