"""Whether a corpus can train a model. Called by `check` and by the training recipe before it costs time."""

from __future__ import annotations

import numpy as np

from manylabel.data.duplicates import contradictory_rows
from manylabel.data.problems import finding
from manylabel.data.write import LIST_JOINER
from manylabel.errors import Finding, counted
from manylabel.values import NOT_ANNOTATED, Corpus

MIN_ROWS = 8
"""Fewer rows cannot be split into training, validation and test rows with anything to learn from."""


def check_corpus(corpus: Corpus) -> list[Finding]:
    """Everything that makes training impossible (errors) or doubtful (warnings), all at once."""
    if len(corpus) == 0:
        return [finding("D160", corpus.source, "there are no rows", "at least 8 rows", "check the file")]
    return [*_too_small(corpus), *_labels(corpus), *_names(corpus), *_contradictions(corpus)]


def _too_small(corpus: Corpus) -> list[Finding]:
    findings = []
    if len(corpus) < MIN_ROWS:
        found, allowed = f"there are only {counted(len(corpus), 'row')}", f"at least {MIN_ROWS} rows"
        findings.append(finding("D160", corpus.source, found, allowed, "add rows"))
    if len(set(corpus.texts)) == 1 and len(corpus) > 1:
        found, step = "all texts are the same", "check --text-column"
        findings.append(finding("D161", corpus.source, found, "different texts", step))
    if not (corpus.targets_NL == 1).any():
        found, step = "no row carries any label", "check the label columns"
        findings.append(finding("D162", corpus.source, found, "rows with labels", step))
    return findings


def _labels(corpus: Corpus) -> list[Finding]:
    findings = []
    for name, targets_N in zip(corpus.labels.names, corpus.targets_NL.T, strict=True):
        place = f'{corpus.source}, label "{name}"'
        annotated = int((targets_N != NOT_ANNOTATED).sum())
        positives = int((targets_N == 1).sum())
        if annotated == 0:
            problem = ("D163", "no row is annotated", "the model will not learn it")
        elif positives == 0:
            problem = ("D163", "no row carries it", "the model will not learn it; add rows or drop the label")
        elif positives == annotated:
            problem = ("D164", "every annotated row carries it", "add rows without it or drop the label")
        elif positives == 1:
            step = "nothing can be judged about it; add rows or drop the label"
            problem = ("D166", "only one row carries it", step)
        else:
            continue
        code, found, step = problem
        findings.append(
            finding(code, place, found, "rows with and rows without it", step, severity="warning")
        )
    return findings


def _names(corpus: Corpus) -> list[Finding]:
    """Names that cannot be read back where the decided ones of a row stand in one cell."""
    findings = []
    for name in corpus.labels.names:
        if LIST_JOINER in name or len(name.splitlines()) > 1:
            what = f"a {LIST_JOINER}" if LIST_JOINER in name else "a line break"
            place, found = f'{corpus.source}, label "{name}"', f"its name has {what} in it"
            allowed = f"names without: predict --input joins the names of a row by {LIST_JOINER}"
            step = "rename it, or read the columns of probabilities only"
            findings.append(finding("D197", place, found, allowed, step, severity="warning"))
    return findings


def _contradictions(corpus: Corpus) -> list[Finding]:
    indices = contradictory_rows(corpus)
    if not len(indices):
        return []
    rows = tuple(int(row) for row in np.sort(corpus.rows_N[indices]))
    found, allowed = "equal texts have different labels", "one set of labels a text"
    step = "decide which labels are right"
    return [finding("D165", corpus.source, found, allowed, step, rows=rows, severity="warning")]
