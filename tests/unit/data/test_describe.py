import json
from dataclasses import replace

import numpy as np
import pytest

from manylabel.data.describe import describe_corpus
from manylabel.data.validate import check_corpus
from manylabel.values import Corpus, LabelSet


def corpus_of(targets, texts=None):
    targets = np.asarray(targets, dtype=np.int8)
    texts = texts or [f"text {row}" for row in range(len(targets))]
    names = tuple("abcdef"[: targets.shape[1]])
    ids = tuple(map(str, range(len(targets))))
    return Corpus("t.csv", tuple(texts), LabelSet(names), targets, ids, np.arange(1, len(targets) + 1))


def test_a_hand_counted_corpus():
    corpus = corpus_of([[1, 0], [1, 1], [0, -1], [0, 0]], ["x y", "X  Y", "z", "z"])
    summary = describe_corpus(corpus, np.array([5, 7, 300, 10]), 256)
    assert summary.rows == 4
    assert [(label.annotated, label.positives) for label in summary.labels] == [(4, 2), (3, 1)]
    assert summary.labels[1].prevalence == pytest.approx(1 / 3)
    assert summary.rows_without_label == 2
    assert summary.labels_per_row == 0.75
    assert summary.duplicates == 2
    assert summary.contradictory == 2  # A cell that nobody annotated contradicts nothing.
    assert summary.lengths is not None
    assert (summary.lengths.p50, summary.lengths.p90, summary.lengths.longest) == (7, 300, 300)
    assert (summary.lengths.truncated, summary.lengths.truncated_share) == (1, 0.25)
    stored = json.loads(json.dumps(summary.to_json()))
    assert stored["labels"]["b"] == {"annotated": 3, "positives": 1, "prevalence": pytest.approx(1 / 3)}
    assert stored["lengths"]["p95"] == 300


def test_a_label_nobody_annotated_has_no_prevalence():
    summary = describe_corpus(corpus_of([[-1], [-1]]), None, 256)
    assert summary.to_json()["labels"]["a"]["prevalence"] is None
    assert summary.lengths is None


def codes(corpus):
    return [(finding.code, finding.severity) for finding in check_corpus(corpus)]


def test_a_good_corpus_has_no_findings():
    assert codes(corpus_of([[0, 1], [1, 0]] * 4)) == []


def test_what_training_would_refuse():
    assert codes(corpus_of(np.zeros((0, 1)))) == [("D160", "error")]
    assert ("D160", "error") in codes(corpus_of([[1], [0]]))
    assert ("D161", "error") in codes(corpus_of([[1], [0]] * 4, ["same"] * 8))
    assert ("D162", "error") in codes(corpus_of([[0], [-1]] * 4))


def test_what_is_doubtful():
    targets = np.array([[1, 0, -1, 1]] * 4 + [[1, 0, -1, 0]] * 4)
    findings = check_corpus(corpus_of(targets))
    assert [finding.code for finding in findings] == ["D164", "D163", "D163"]
    assert {finding.severity for finding in findings} == {"warning"}
    assert [finding.place[-2] for finding in findings] == ["a", "b", "c"]


def test_names_that_one_cell_cannot_hold_are_told():
    corpus = replace(corpus_of([[0, 1, 0], [1, 0, 1]] * 4), labels=LabelSet(("x|y", "two\nlines", "x, y")))
    assert [(each.code, each.found) for each in check_corpus(corpus)] == [
        ("D197", "its name has a | in it"),
        ("D197", "its name has a line break in it"),
    ]


def test_a_label_of_a_single_row_is_named():
    (only,) = check_corpus(corpus_of([[1, 0], [0, 1]] + [[0, 1], [0, 0]] * 3))
    assert (only.code, only.severity, only.found) == ("D166", "warning", "only one row carries it")
    assert only.place.endswith('label "a"')
    assert "add rows or drop the label" in only.sentence()
    # Without a row that lacks it, that is what there is to say.
    (only,) = check_corpus(corpus_of([[1, 1]] + [[-1, 0], [-1, 1]] * 4))
    assert only.code == "D164"


def test_equal_texts_with_different_labels_are_named():
    corpus = corpus_of([[0, 1], [1, 0]] * 4, ["same", "SAME", *"cdefgh"])
    (finding,) = check_corpus(corpus)
    assert (finding.code, finding.rows) == ("D165", (1, 2))
