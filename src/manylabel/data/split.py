"""One corpus into training, validation, calibration and test rows. Called by the training recipe and by `check`.

Clusters of duplicates and groups stay whole; labels are spread by iterative stratification (Sechidis,
Tsoumakas and Vlahavas, 2011; package iterative-stratification) over the clusters, each with the labels of
any of its rows. The same seed gives the same split on any machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from iterstrat.ml_stratifiers import IterativeStratification

from manylabel.data.duplicates import Clusters, duplicate_groups
from manylabel.data.pairs import joined
from manylabel.data.problems import finding
from manylabel.errors import ConfigError, DataError, Finding
from manylabel.values import BoolArray, Corpus, IntArray

PARTS = ("train", "validation", "test", "calibration")
LARGE_SHARE = 0.5
"""A cluster with more than this share of the smallest part's rows goes to training."""
MIN_TRAIN_FRACTION = 0.05


@dataclass(frozen=True, eq=False)
class Splits:
    """Positions of a corpus' rows by part, each in ascending order; together every row exactly once.

    `unjudged` names (part, label) for every label without a positive row in a part: nothing can be said
    about it there. `warnings` says the same in sentences.
    """

    train: IntArray
    validation: IntArray
    test: IntArray
    calibration: IntArray
    unjudged: tuple[tuple[str, str], ...] = ()
    warnings: tuple[Finding, ...] = ()


@dataclass(frozen=True, eq=False)
class _Pieces:
    """C clusters: their labels, their sizes in rows, and the cluster of each row."""

    positives_CL: BoolArray
    sizes_C: IntArray
    cluster_N: IntArray


def split_corpus(
    corpus: Corpus,
    *,
    validation_fraction: float,
    test_fraction: float,
    near_duplicate_similarity: float,
    seed: int,
    calibration_fraction: float = 0.0,
) -> Splits:
    """Splits the rows of `corpus`.

    Args:
        corpus: N rows.
        validation_fraction: Share of the rows for validation, 0 for none.
        test_fraction: Share of the rows for testing, 0 for none.
        near_duplicate_similarity: Jaccard similarity from which texts stay together.
        seed: Seed of every choice.
        calibration_fraction: Share of the rows for calibration and thresholds, 0 for none.

    Returns:
        No part that is wanted is empty. Where as many clusters as parts carry a label, each part has one of them.

    Raises:
        ConfigError: the fractions leave less than 5 % for training.
        DataError: the rows form fewer clusters than there are parts.
    """
    held_out = (validation_fraction, test_fraction, calibration_fraction)
    wanted = (1.0 - sum(held_out), *held_out)
    if min(held_out) < 0.0 or wanted[0] < MIN_TRAIN_FRACTION:
        shares = ", ".join(
            f"{name} {share:g}" for name, share in zip(PARTS[1:], held_out, strict=True) if share
        )
        found = f"{shares} leave too little for training"
        allowed = "fractions of 0 or more that leave at least 0.05"
        raise ConfigError(finding("C211", "split", found, allowed, "lower one of them"))
    texts = joined(corpus.texts, corpus.pairs)
    clusters_N = duplicate_groups(texts, similarity=near_duplicate_similarity)
    pieces = _pieces(corpus, with_groups(clusters_N, corpus.groups))
    parts = [name for name, fraction in zip(PARTS, wanted, strict=True) if fraction > 0.0]
    if len(pieces.sizes_C) < len(parts):
        raise DataError(_too_few_clusters(corpus, len(pieces.sizes_C), parts))
    part_C = _assign(pieces, np.asarray(wanted), seed)
    part_N = part_C[pieces.cluster_N]
    indices = [np.flatnonzero(part_N == part) for part in range(len(PARTS))]
    unjudged = _unjudged(corpus, indices)
    return Splits(
        indices[0],
        indices[1],
        indices[2],
        indices[3],
        unjudged=unjudged,
        warnings=_warnings(corpus, unjudged),
    )


def with_groups(clusters_N: IntArray, groups: Sequence[str] | None) -> IntArray:
    """Clusters joined so that rows of one group are in one cluster; an empty group name is no group."""
    if groups is None:
        return clusters_N
    clusters = Clusters(len(clusters_N))
    first_of: dict[str, int] = {}
    for row, group in enumerate(groups):
        clusters.join(row, int(clusters_N[row]))
        if group:
            clusters.join(row, first_of.setdefault(group, row))
    return clusters.numbers()


def _too_few_clusters(corpus: Corpus, count: int, parts: Sequence[str]) -> Finding:
    """Why the rows cannot be divided, and the ways out."""
    what, step = "duplicates", "give validation rows of their own with --validation"
    if corpus.groups is not None:
        what, step = "duplicates or of one group", f"name a --group-column with more values, or {step}"
    if len(parts) > 2:
        step += ", or do without test rows: --set split.test_fraction=0"
    plural = "" if count == 1 else "s"
    found = f"the {len(corpus):,} rows form only {count} cluster{plural} of {what}, and no cluster is divided"
    allowed = f"at least {len(parts)}, one for each of {', '.join(parts)}"
    return finding("D171", corpus.source, found, allowed, step)


def _pieces(corpus: Corpus, clusters_N: IntArray) -> _Pieces:
    _, cluster_N, sizes_C = np.unique(clusters_N, return_inverse=True, return_counts=True)
    positives_CL = np.zeros((len(sizes_C), len(corpus.labels)), dtype=np.bool_)
    rows, columns = np.nonzero(corpus.targets_NL == 1)
    positives_CL[cluster_N[rows], columns] = True
    return _Pieces(positives_CL, sizes_C, cluster_N)


def _assign(pieces: _Pieces, fractions: npt.NDArray[np.float64], seed: int) -> IntArray:
    """The part, as a position in PARTS, of each cluster."""
    num_rows = int(pieces.sizes_C.sum())
    part_C = np.zeros(len(pieces.sizes_C), dtype=np.int64)
    smallest = min(fraction for fraction in fractions if fraction > 0.0) * num_rows
    small_C = np.flatnonzero(pieces.sizes_C <= max(1.0, LARGE_SHARE * smallest))
    held_out = fractions[1:] * num_rows
    room = num_rows - int(held_out.sum())
    in_train = num_rows - int(pieces.sizes_C[small_C].sum())
    shares = np.array([max(0.0, room - in_train), *held_out])
    used = np.flatnonzero(fractions > 0.0)
    if len(small_C) and len(used) > 1 and shares[used].sum() > 0.0:
        random_state = np.random.RandomState(seed)  # what the library asks for
        ratios = shares[used] / shares[used].sum()
        part_C[small_C] = used[IterativeStratification(_strata(pieces, small_C), ratios, random_state)]
    _fill_empty_parts(pieces, part_C, used)
    _spread_rare_labels(pieces, part_C, used)
    return part_C


def _strata(pieces: _Pieces, chosen_C: IntArray) -> BoolArray:
    """The columns to spread evenly: labels, clusters without label, and clusters of similar size.

    The size classes (2, 3-4, 5-8, ... rows) make the parts agree in rows and not only in clusters.
    """
    positives_CL = pieces.positives_CL[chosen_C]
    classes_C = np.ceil(np.log2(pieces.sizes_C[chosen_C])).astype(np.int64)
    by_size = [classes_C == size for size in range(1, int(classes_C.max()) + 1)]
    columns = [*positives_CL.T, ~positives_CL.any(axis=1), *by_size]
    return np.stack([column for column in columns if column.any()], axis=1)


def _fill_empty_parts(pieces: _Pieces, part_C: IntArray, used: IntArray) -> None:
    """Gives an empty part the smallest cluster of a part that has two or more; training comes first."""
    for part in used:
        if (part_C == part).any():
            continue
        counts = Counter(part_C.tolist())
        donor = max(used, key=lambda other: (counts[int(other)], -other))
        if counts[int(donor)] < 2:
            return
        members = np.flatnonzero(part_C == donor)
        part_C[members[np.argmin(pieces.sizes_C[members])]] = part


def _spread_rare_labels(pieces: _Pieces, part_C: IntArray, used: IntArray) -> None:
    """Moves clusters so that each part has a positive of every label that as many clusters as parts carry.

    Rare labels come first; a move never takes the last positive of another label or the last cluster.
    """
    counts_L = pieces.positives_CL.sum(axis=0)
    for label in np.argsort(counts_L, kind="stable"):
        if counts_L[label] < len(used):
            continue
        for part in used:
            carriers = np.flatnonzero(pieces.positives_CL[:, label])
            if not (part_C[carriers] == part).any():
                _move_one(pieces, part_C, carriers, int(part), num_parts=len(used))


def _move_one(pieces: _Pieces, part_C: IntArray, carriers: IntArray, part: int, *, num_parts: int) -> None:
    """Moves the smallest of `carriers` that its own part can spare to `part`."""
    order = carriers[np.lexsort((carriers, pieces.sizes_C[carriers]))]
    positives_PL = np.stack([pieces.positives_CL[part_C == other].sum(axis=0) for other in range(len(PARTS))])
    for cluster in order:
        own = part_C[cluster]
        needed_L = pieces.positives_CL[cluster] & (pieces.positives_CL.sum(axis=0) >= num_parts)
        if (positives_PL[own][needed_L] > 1).all() and (part_C == own).sum() > 1:
            part_C[cluster] = part
            return


def _unjudged(corpus: Corpus, indices: Sequence[IntArray]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (part, name)
        for part, rows in zip(PARTS, indices, strict=True)
        if len(rows)
        for name, judged in zip(corpus.labels.names, (corpus.targets_NL[rows] == 1).any(axis=0), strict=True)
        if not judged
    )


def _warnings(corpus: Corpus, unjudged: tuple[tuple[str, str], ...]) -> tuple[Finding, ...]:
    by_part = {part: [name for of, name in unjudged if of == part] for part in PARTS}
    return tuple(
        finding(
            "D170",
            f"{corpus.source}, {part} rows",
            "no row carries " + ", ".join(f'"{name}"' for name in names),
            "rows with every label",
            "add rows with these labels; until then nothing can be said about them",
            severity="warning",
        )
        for part, names in by_part.items()
        if names
    )
