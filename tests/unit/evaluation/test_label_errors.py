"""Suspected labels: cleanlab's own answer where all is annotated, planted errors, -1, contradictions."""

import importlib.util

import numpy as np
import pytest
from cleanlab.multilabel_classification.filter import find_label_issues, find_multilabel_issues_per_class

from manylabel.errors import UsageError
from manylabel.evaluation.label_errors import contradictions, find_label_errors
from manylabel.values import Corpus, LabelSet

NAMES = ("refund", "late", "praise")


def corpus_of(targets, texts=None):
    targets = np.asarray(targets, dtype=np.int8)
    texts = texts or [f"text {row}" for row in range(len(targets))]
    ids = tuple(f"id-{row}" for row in range(len(targets)))
    labels = LabelSet(NAMES[: targets.shape[1]])
    return Corpus("t", tuple(texts), labels, targets, ids, np.arange(1, len(targets) + 1))


@pytest.fixture
def planted():
    """400 rows, an informative model, and 18 flipped cells: (targets, probabilities, flipped cells)."""
    generator = np.random.default_rng(4)
    truth = generator.random((400, 3)) < (0.4, 0.2, 0.1)
    noise = generator.normal(0, 0.7, truth.shape)
    probabilities = 1 / (1 + np.exp(-(np.where(truth, 2.5, -2.5) + noise)))
    cells = [(int(row), index % 3) for index, row in enumerate(generator.choice(400, 18, replace=False))]
    targets = truth.astype(np.int8)
    for row, column in cells:
        targets[row, column] ^= 1
    return targets, probabilities, set(cells)


def cells_of(errors):
    return [(cell.row, NAMES.index(cell.label)) for cell in errors.suspected]


def test_the_flagged_cells_are_those_of_cleanlab(planted):
    targets, probabilities, _ = planted
    labels = [list(np.flatnonzero(row)) for row in targets]
    expected = find_multilabel_issues_per_class(labels, probabilities, n_jobs=1)
    found = cells_of(find_label_errors(corpus_of(targets), probabilities))
    assert set(found) == set(zip(*map(np.ndarray.tolist, np.nonzero(expected)), strict=True))
    rows = find_label_issues(labels, probabilities, n_jobs=1)
    assert {row for row, _ in found} == set(np.flatnonzero(rows).tolist())


def test_planted_errors_come_first_with_their_values(planted):
    targets, probabilities, cells = planted
    errors = find_label_errors(corpus_of(targets), probabilities)
    # It prunes at an estimated rate, so a few are missed; a random choice would find 0.3 of 18.
    assert len(set(cells_of(errors)[:18]) & cells) >= 14
    scores = [cell.score for cell in errors.suspected]
    assert scores == sorted(scores)
    assert [cell.rank for cell in errors.suspected] == list(range(1, len(scores) + 1))
    for cell, (row, column) in zip(errors.suspected, cells_of(errors), strict=True):
        assert cell.given == targets[row, column]
        assert cell.probability == probabilities[row, column]
        assert cell.score == pytest.approx(cell.probability if cell.given else 1 - cell.probability)
    assert errors == find_label_errors(corpus_of(targets), probabilities)


def test_cells_nobody_annotated_neither_appear_nor_count(planted):
    targets, probabilities, _ = planted
    targets[200:, 1] = -1
    found = cells_of(find_label_errors(corpus_of(targets), probabilities))
    assert not [cell for cell in found if cell[1] == 1 and cell[0] >= 200]
    first = find_label_errors(corpus_of(targets[:200]), probabilities[:200])
    late = [cell for cell in found if cell[1] == 1]
    assert late
    assert late == [cell for cell in cells_of(first) if cell[1] == 1]


def test_labels_that_cannot_be_judged_are_named(planted):
    targets, probabilities, _ = planted
    targets[:, 0] = 1
    targets[:, 1] = 0
    targets[5, 1] = 1
    errors = find_label_errors(corpus_of(targets), probabilities)
    assert errors.unjudged == {
        "refund": "0 annotated rows without it, at least 2 needed",
        "late": "1 annotated rows with it, at least 2 needed",
    }
    assert {cell.label for cell in errors.suspected} == {"praise"}


def test_contradictory_copies():
    texts = ["a b", "A  b", "c", "c", "d", "d", "ｅ", "e"]
    targets = [[1, 0, 0], [0, 0, 1], [1, 1, 1], [1, 1, 1], [1, -1, 0], [1, 0, 0], [0, 1, -1], [0, 0, 1]]
    found = contradictions(corpus_of(targets, texts))
    assert [(each.rows, each.labels) for each in found] == [
        ((0, 1), ("refund", "praise")),
        ((6, 7), ("late",)),
    ]


def test_wrong_probabilities_are_refused():
    corpus = corpus_of(np.ones((4, 2)))
    with pytest.raises(ValueError, match="targets"):
        find_label_errors(corpus, np.ones((4, 3)))
    for wrong in (np.nan, 1.5, -0.1):
        with pytest.raises(ValueError, match="finite"):
            find_label_errors(corpus, np.full((4, 2), wrong))


def test_without_cleanlab_the_command_to_install_it_is_told(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "cleanlab" else real(name))
    with pytest.raises(UsageError, match=r"pip install 'manylabel\[label-errors\]'"):
        find_label_errors(corpus_of(np.ones((4, 2))), np.ones((4, 2)))
