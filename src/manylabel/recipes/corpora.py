"""From what the user named to checked training, validation and test rows; called by recipes/train.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from manylabel.config.schema import DataSettings, RunSettings
from manylabel.data.corpus import Loaded, load_corpus, load_table
from manylabel.data.duplicates import LeakAudit, leak_audit
from manylabel.data.layout import Layout
from manylabel.data.memory import corpus_from_memory
from manylabel.data.pairs import joined
from manylabel.data.split import split_corpus
from manylabel.data.validate import check_corpus
from manylabel.errors import DataError, Finding
from manylabel.training.observers import Observer
from manylabel.values import BoolArray, Corpus, LabelSet

Source = Any
"""A path, an Arrow table, a pandas frame, or (texts, labels)."""


@dataclass(frozen=True, eq=False)
class Corpora:
    """Rows by role. Validation rows choose the epoch and the thresholds; test rows choose nothing.

    `leaks` audits the test rows against the other two, whoever made the split; None without test rows.
    """

    train: Corpus
    validation: Corpus
    test: Corpus | None
    layout: Layout
    leaks: LeakAudit | None

    @property
    def seen_test_rows(self) -> BoolArray | None:
        """Which test rows were seen, exactly or nearly, in training or validation."""
        return None if self.leaks is None else self.leaks.exact_N | self.leaks.near_N


def load_source(
    source: Source, options: DataSettings, *, labels: LabelSet | None = None, stored: Layout | None = None
) -> Loaded:
    """A file or an object in memory as a corpus; all errors at once.

    `labels` and `stored` are those of an existing model: columns are then matched by name.
    """
    if isinstance(source, str | Path):
        return load_corpus(Path(source), options, labels=labels, stored=stored)
    if isinstance(source, tuple):
        texts, targets = source
        return corpus_from_memory(texts, targets, known=labels)
    return load_table(source, options, labels=labels, stored=stored)


def gather_corpora(
    source: Source,
    validation: Source | None,
    test: Source | None,
    *,
    settings: RunSettings,
    observer: Observer,
) -> Corpora:
    """Read and check everything that was named, split off what was not, audit the test rows for leaks.

    Raises DataError with all problems of a file at once.
    """
    observer.stage("Reading and checking the data")
    loaded = load_source(source, settings.data)
    for line in loaded.layout.describe():
        observer.stage("  " + "  ".join(map(str, line)))
    _tell(loaded.warnings, observer)
    _refuse_if_unusable(loaded.corpus, observer)
    labels = loaded.corpus.labels
    own_validation = _load_other(validation, loaded.layout, settings.data, labels, observer)
    own_test = _load_other(test, loaded.layout, settings.data, labels, observer)
    train, validation_rows, test_rows = _split(loaded.corpus, own_validation, own_test, settings, observer)
    leaks = None
    if test_rows is not None:
        seen = [*all_texts(train), *all_texts(validation_rows)]
        leaks = leak_audit(seen, all_texts(test_rows), similarity=settings.split.near_duplicate_similarity)
        _tell_leaks(leaks, len(test_rows), observer)
    return Corpora(train, validation_rows, test_rows, loaded.layout, leaks)


def all_texts(corpus: Corpus) -> list[str]:
    """Each row as one text, the pair included."""
    return list(joined(corpus.texts, corpus.pairs))


def _load_other(
    source: Source | None, layout: Layout, options: DataSettings, labels: LabelSet, observer: Observer
) -> Corpus | None:
    """A validation or test file: read like the training file, its labels matched by name."""
    if source is None:
        return None
    loaded = load_source(source, options, labels=labels, stored=layout)
    _tell(loaded.warnings, observer)
    return loaded.corpus


def _split(
    corpus: Corpus, validation: Corpus | None, test: Corpus | None, settings: RunSettings, observer: Observer
) -> tuple[Corpus, Corpus, Corpus | None]:
    """Split off what has no file of its own."""
    validation_fraction = 0.0 if validation is not None else settings.split.validation_fraction
    test_fraction = 0.0 if test is not None else settings.split.test_fraction
    if validation_fraction + test_fraction > 0.0:
        observer.stage("Splitting, duplicates kept together")
        splits = split_corpus(
            corpus,
            validation_fraction=validation_fraction,
            test_fraction=test_fraction,
            near_duplicate_similarity=settings.split.near_duplicate_similarity,
            seed=settings.split.seed,
        )
        _tell(splits.warnings, observer)
        if validation is None:
            validation = corpus.select(splits.validation)
        if test is None and len(splits.test):
            test = corpus.select(splits.test)
        corpus = corpus.select(splits.train)
    assert validation is not None
    sizes = f"  train {len(corpus):,}  validation {len(validation):,}  test {len(test) if test else 0:,}"
    observer.stage(sizes)
    return corpus, validation, test


def _refuse_if_unusable(corpus: Corpus, observer: Observer) -> None:
    findings = check_corpus(corpus)
    errors = [finding for finding in findings if finding.severity == "error"]
    _tell([finding for finding in findings if finding.severity == "warning"], observer)
    if errors:
        raise DataError(*errors)


def _tell(findings: list[Finding] | tuple[Finding, ...], observer: Observer) -> None:
    for finding in findings:
        observer.stage("  note: " + finding.sentence())


def _tell_leaks(leaks: LeakAudit, num_rows: int, observer: Observer) -> None:
    exact, near = int(np.sum(leaks.exact_N)), int(np.sum(leaks.near_N & ~leaks.exact_N))
    observer.stage(f"  leak audit: of {num_rows:,} test rows {exact:,} were seen in training or validation, "
                   f"{near:,} more nearly so")  # fmt: skip
