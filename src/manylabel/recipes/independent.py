"""Rows that a guarantee may rest on: new to the model, and independent of each other; called by recipes/thresholds.py.

The theorems of `decisions.risk` count rows. Three copies of a row, or three e-mails of one thread, are hardly more
than one row; counted as three they make the certificate too sure.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from manylabel.data.duplicates import LeakAudit, duplicate_groups
from manylabel.data.split import with_groups
from manylabel.errors import DataError, Finding, counted
from manylabel.recipes.corpora import all_texts
from manylabel.training.observers import Observer
from manylabel.values import Corpus, IntArray


def tell_seen(audit: LeakAudit, roles: Mapping[str, int], observer: Observer, *, drop: bool) -> None:
    """Say how many rows made the model, and what becomes of them."""
    num_seen = int(audit.seen_N.sum())
    if not num_seen:
        return
    counts = {**roles, "near": audit.counts()["near"]}
    parts = ", ".join(f"{name} {number:,}" for name, number in counts.items() if number)
    rows = counted(len(audit.seen_N), "row")
    found = f"{num_seen:,} of {rows} made the model or nearly equal such rows ({parts})"
    if drop:
        observer.stage(f"  {found}: left out, since a guarantee needs new rows")
    else:
        observer.stage(f"  warning: {found}; on rows of training the model is surer than on new ones")


def independent_rows(corpus: Corpus, *, similarity: float, seed: int, observer: Observer) -> Corpus:
    """One row, in the order of the file, of each cluster of copies, near copies and rows of one group.

    `similarity` is the Jaccard similarity of near copies, as in `data.duplicates`. How many rows are left out is
    told. The guarantees are then about the row that a random cluster gives.
    """
    clusters_N = with_groups(duplicate_groups(all_texts(corpus), similarity=similarity), corpus.groups)
    kept = one_of_each(clusters_N, seed=seed)
    if num_dropped := len(corpus) - len(kept):
        shared = "are copies or near copies of others" + (" or of their group" if corpus.groups else "")
        observer.stage(
            f"  {num_dropped:,} of {counted(len(corpus), 'row')} {shared}: left out, "
            "since a guarantee needs independent rows; of each cluster one row was drawn"
        )
    return corpus.select(kept)


def one_of_each(clusters_N: IntArray, *, seed: int) -> IntArray:
    """A random position, in ascending order, of each cluster number: every member equally likely."""
    shuffled = np.random.default_rng(seed).permutation(len(clusters_N))
    _, firsts = np.unique(clusters_N[shuffled], return_index=True)
    kept: IntArray = np.sort(shuffled[firsts])
    return kept


def require_rows(corpus: Corpus, *, guarantee: bool) -> None:
    """Raise DataError where no row is left to choose thresholds on."""
    if not len(corpus):
        found = "no row is left" if guarantee else "the file has no rows"
        allowed = "rows with labels that the model has not seen"
        raise DataError(Finding("D188", "--data", found, allowed, "give other rows"))
