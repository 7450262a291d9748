"""Labels that are probably wrong, by confident learning on out-of-fold probabilities, and copies that disagree.

Confident learning (Northcutt, Jiang and Chuang 2021, Confident Learning: Estimating Uncertainty in Dataset Labels) is
cleanlab's; it is imported where it is used and comes with the extra `label-errors`. Called by recipes/label_errors.py.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from manylabel.data.duplicates import contradictory_rows, exact_groups
from manylabel.data.pairs import joined
from manylabel.errors import Finding, UsageError
from manylabel.values import NOT_ANNOTATED, BoolArray, Corpus, FloatArray, IntArray

MIN_OF_EACH = 2
"""Annotated rows with a label, and as many without it, that cleanlab needs to say anything."""
INSTALL = "pip install 'manylabel[label-errors]'"


@dataclass(frozen=True)
class SuspectedCell:
    """One label of one row that is probably wrong.

    `row` is the position in the corpus, `given` 1 or 0, `probability` the model's for the label. `score` is the
    probability of what was given, so the lowest is the likeliest error; `rank` counts from 1 in that order.
    """

    row: int
    label: str
    given: int
    probability: float
    score: float
    rank: int


@dataclass(frozen=True)
class Contradiction:
    """Rows (positions in the corpus, in order) with equal text, and the labels that some carry and others do not."""

    rows: tuple[int, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class LabelErrors:
    """What is probably wrong, the likeliest first; `unjudged` says of labels why nothing can be said about them."""

    suspected: tuple[SuspectedCell, ...]
    contradictions: tuple[Contradiction, ...]
    unjudged: Mapping[str, str] = field(default_factory=dict)


def require_cleanlab() -> None:
    """Raise UsageError where the package is not installed; called before anything takes time."""
    if importlib.util.find_spec("cleanlab") is None:
        raise UsageError(
            Finding("U245", "label errors", "the package cleanlab is not installed", next_step=INSTALL)
        )


def find_label_errors(corpus: Corpus, probabilities_NL: FloatArray) -> LabelErrors:
    """Suspected labels and contradictory copies; the same input gives the same output.

    Args:
        corpus: N rows with L labels; cells that are not annotated (-1) are left out.
        probabilities_NL: 0 to 1, each row by a model that did not see it, nor a copy of it.

    Returns:
        Every cell that cleanlab flags (`prune_by_noise_rate`), in the order of its score.

    Raises:
        UsageError: cleanlab is not installed.
        ValueError: the shapes disagree or a probability is outside 0 to 1 or not a number.
    """
    if probabilities_NL.shape != corpus.targets_NL.shape:
        raise ValueError(f"probabilities are {probabilities_NL.shape}, targets {corpus.targets_NL.shape}")
    if not ((probabilities_NL >= 0.0) & (probabilities_NL <= 1.0)).all():
        raise ValueError("probabilities must be finite and in [0, 1]")
    require_cleanlab()
    flagged_NL = np.zeros(corpus.targets_NL.shape, dtype=np.bool_)
    unjudged: dict[str, str] = {}
    for column, name in enumerate(corpus.labels.names):
        targets_N = corpus.targets_NL[:, column]
        annotated = np.flatnonzero(targets_N != NOT_ANNOTATED)
        positives_K = targets_N[annotated] == 1
        fewest = int(min(positives_K.sum(), (~positives_K).sum()))
        if fewest < MIN_OF_EACH:
            kind = "with" if positives_K.sum() == fewest else "without"
            unjudged[name] = f"{fewest} annotated rows {kind} it, at least {MIN_OF_EACH} needed"
            continue
        flagged_NL[annotated, column] = _flagged(positives_K, probabilities_NL[annotated, column])
    suspected = _ranked(corpus, probabilities_NL.astype(np.float64), flagged_NL)
    return LabelErrors(suspected, contradictions(corpus), unjudged)


def contradictions(corpus: Corpus) -> tuple[Contradiction, ...]:
    """Copies (equal after Unicode, case and space normalisation) of which one carries a label and another does not."""
    groups_N = exact_groups(joined(corpus.texts, corpus.pairs))
    members: dict[int, list[int]] = {}
    for row in contradictory_rows(corpus):
        members.setdefault(int(groups_N[row]), []).append(int(row))
    found = []
    for rows in members.values():
        targets_RL: IntArray = corpus.targets_NL[rows]
        differs_L = (targets_RL == 1).any(axis=0) & (targets_RL == 0).any(axis=0)
        labels = tuple(name for name, differs in zip(corpus.labels.names, differs_L, strict=True) if differs)
        if labels:
            found.append(Contradiction(tuple(rows), labels))
    return tuple(found)


def _flagged(positives_K: BoolArray, probabilities_K: FloatArray) -> BoolArray:
    """Which of K annotated rows of one label cleanlab holds for wrong."""
    from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class

    labels = [[0] if positive else [] for positive in positives_K]
    with warnings.catch_warnings():
        # It warns of few examples, which `unjudged` and the counts say better.
        warnings.simplefilter("ignore")
        flagged_K1 = find_multilabel_issues_per_class(
            labels, probabilities_K.astype(np.float64)[:, None], n_jobs=1
        )
    flagged_K: BoolArray = np.asarray(flagged_K1, dtype=np.bool_)[:, 0]
    return flagged_K


def _ranked(
    corpus: Corpus, probabilities_NL: npt.NDArray[np.float64], flagged_NL: BoolArray
) -> tuple[SuspectedCell, ...]:
    """The flagged cells, the least probable first; of equals the earlier row, then the earlier label."""
    rows, columns = np.nonzero(flagged_NL)
    given = corpus.targets_NL[rows, columns]
    probabilities = probabilities_NL[rows, columns]
    scores = np.where(given == 1, probabilities, 1.0 - probabilities)
    order = np.argsort(scores, kind="stable")
    return tuple(
        SuspectedCell(
            row=int(rows[index]),
            label=corpus.labels.names[columns[index]],
            given=int(given[index]),
            probability=float(probabilities[index]),
            score=float(scores[index]),
            rank=rank,
        )
        for rank, index in enumerate(order, start=1)
    )
