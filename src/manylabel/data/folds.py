"""One corpus into k folds of equal size for predictions out of fold. Called by recipes/folds.py.

As in `split`, clusters of duplicates and groups stay whole and labels are spread by iterative stratification over the
clusters. The same seed gives the same folds on any machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from iterstrat.ml_stratifiers import IterativeStratification

from manylabel.data.duplicates import duplicate_groups
from manylabel.data.pairs import joined
from manylabel.data.problems import finding
from manylabel.data.split import LARGE_SHARE, with_groups
from manylabel.errors import DataError, Finding, UsageError
from manylabel.values import BoolArray, Corpus, IntArray

MIN_FOLDS, MAX_FOLDS = 2, 20


@dataclass(frozen=True, eq=False)
class Folds:
    """The fold of each of N rows, 0 to `count` - 1, and the cluster of each row, which no fold divides.

    `warnings` name the labels that a fold's model cannot learn, since all rows with them are in that fold.
    """

    fold_N: IntArray
    cluster_N: IntArray
    count: int
    warnings: tuple[Finding, ...] = ()

    def held_out(self, fold: int) -> npt.NDArray[np.int64]:
        """Positions of the rows of `fold`, in order."""
        return np.flatnonzero(self.fold_N == fold)

    def others(self, fold: int) -> npt.NDArray[np.int64]:
        """Positions of all other rows, in order."""
        return np.flatnonzero(self.fold_N != fold)


def make_folds(corpus: Corpus, *, count: int, near_duplicate_similarity: float, seed: int) -> Folds:
    """Divide the rows of `corpus` into `count` folds.

    Args:
        corpus: N rows.
        count: How many folds, 2 to 20.
        near_duplicate_similarity: Jaccard similarity, 0 to 1, from which texts stay together.
        seed: Seed of every choice.

    Returns:
        Folds of nearly equal size, none of them empty.

    Raises:
        UsageError: `count` is not from 2 to 20.
        DataError: the rows form fewer clusters than folds.
    """
    if not MIN_FOLDS <= count <= MAX_FOLDS:
        raise UsageError(
            finding("U246", "folds", str(count), f"{MIN_FOLDS} to {MAX_FOLDS}", "give --folds 5")
        )
    texts = joined(corpus.texts, corpus.pairs)
    cluster_N = duplicate_groups(texts, similarity=near_duplicate_similarity)
    cluster_N = with_groups(cluster_N, corpus.groups)
    _, index_N, sizes_C = np.unique(cluster_N, return_inverse=True, return_counts=True)
    if len(sizes_C) < count:
        found = f"the {len(corpus):,} rows form only {len(sizes_C)} clusters of duplicates or groups"
        step = "give fewer --folds, or a --group-column with more values"
        raise DataError(finding("D172", corpus.source, found, f"at least {count}, one a fold", step))
    positives_CL = np.zeros((len(sizes_C), len(corpus.labels)), dtype=np.bool_)
    rows, labels = np.nonzero(corpus.targets_NL == 1)
    positives_CL[index_N[rows], labels] = True
    fold_C = _assign(positives_CL, sizes_C, count, seed)
    return Folds(fold_C[index_N], cluster_N, count, _warnings(corpus, positives_CL, fold_C))


def _assign(positives_CL: BoolArray, sizes_C: IntArray, count: int, seed: int) -> IntArray:
    """The fold of each cluster: large ones to the emptiest fold, the others spread by label."""
    fold_C = np.zeros(len(sizes_C), dtype=np.int64)
    target = sizes_C.sum() / count
    is_large_C = sizes_C > max(1.0, LARGE_SHARE * target)
    filled = np.zeros(count)
    for cluster in np.flatnonzero(is_large_C)[np.argsort(-sizes_C[is_large_C], kind="stable")]:
        fold_C[cluster] = int(np.argmin(filled))
        filled[fold_C[cluster]] += sizes_C[cluster]
    small_C = np.flatnonzero(~is_large_C)
    room = np.maximum(target - filled, 0.0)
    if len(small_C):
        random_state = np.random.RandomState(seed)  # what the library asks for
        strata = _strata(positives_CL[small_C], sizes_C[small_C])
        fold_C[small_C] = IterativeStratification(strata, room / room.sum(), random_state)
    _fill_empty_folds(fold_C, sizes_C, count)
    _divide_labels(positives_CL, sizes_C, fold_C, count)
    return fold_C


def _strata(positives_CL: BoolArray, sizes_C: IntArray) -> BoolArray:
    """The columns to spread evenly: labels, clusters without label, and clusters of similar size."""
    classes_C = np.ceil(np.log2(sizes_C)).astype(np.int64)
    by_size = [classes_C == size for size in range(1, int(classes_C.max()) + 1)]
    columns = [*positives_CL.T, ~positives_CL.any(axis=1), *by_size]
    return np.stack([column for column in columns if column.any()], axis=1)


def _fill_empty_folds(fold_C: IntArray, sizes_C: IntArray, count: int) -> None:
    """Gives an empty fold the smallest cluster of the fold that has most clusters."""
    for fold in range(count):
        if not (fold_C == fold).any():
            donor = int(np.argmax(np.bincount(fold_C, minlength=count)))
            members = np.flatnonzero(fold_C == donor)
            fold_C[members[np.argmin(sizes_C[members])]] = fold


def _divide_labels(positives_CL: BoolArray, sizes_C: IntArray, fold_C: IntArray, count: int) -> None:
    """Moves one cluster of a label whose clusters are all in one fold, where that gathers no other label."""
    for label in np.argsort(positives_CL.sum(axis=0), kind="stable"):
        carriers = np.flatnonzero(positives_CL[:, label])
        if len(carriers) < 2 or len(np.unique(fold_C[carriers])) > 1:
            continue
        emptiest_first = np.argsort(np.bincount(fold_C, weights=sizes_C, minlength=count), kind="stable")
        moves = (
            (cluster, fold)
            for cluster in carriers[np.argsort(sizes_C[carriers], kind="stable")]
            for fold in emptiest_first
            if fold != fold_C[cluster] and not _gathers(positives_CL, fold_C, int(cluster), int(fold))
        )
        for cluster, fold in moves:
            fold_C[cluster] = fold
            break


def _gathers(positives_CL: BoolArray, fold_C: IntArray, cluster: int, fold: int) -> bool:
    """Whether moving `cluster` to `fold` would bring all clusters of one of its labels there."""
    elsewhere_C = fold_C != fold
    elsewhere_C[cluster] = False
    carries_L = positives_CL[cluster] & (positives_CL.sum(axis=0) > 1)
    return bool((carries_L & ~positives_CL[elsewhere_C].any(axis=0)).any())


def _warnings(corpus: Corpus, positives_CL: BoolArray, fold_C: IntArray) -> tuple[Finding, ...]:
    """Labels with rows in one fold only."""
    names = [
        name
        for name, carries_C in zip(corpus.labels.names, positives_CL.T, strict=True)
        if carries_C.any() and len(np.unique(fold_C[carries_C])) == 1
    ]
    if not names:
        return ()
    found = "all rows that carry " + ", ".join(f'"{name}"' for name in names) + " are in one fold"
    step = "add rows with these labels; until then what the folds say about them means little"
    return (
        finding(
            "D173",
            corpus.source,
            found,
            "rows in two folds or more, for each label",
            step,
            severity="warning",
        ),
    )
