"""From what the user named to checked rows, each with one role; called by recipes/train.py."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
from manylabel.errors import DataError, Finding, UsageError, counted, told_together
from manylabel.training.observers import Observer
from manylabel.values import BoolArray, Corpus, LabelSet

Source = Any
"""A path, an Arrow table, a pandas frame, or (texts, labels)."""


@dataclass(frozen=True, eq=False)
class Corpora:
    """Rows by role. Validation rows choose the epoch, calibration rows calibration and thresholds, test rows nothing.

    `calibration` is `validation` itself where there are no rows of its own for it. `leaks` audits the test rows against
    the others, whoever made the split; None without test rows. `whole` are training and validation rows together, in
    the order of their file, where they are to be scored out of fold.
    """

    train: Corpus
    validation: Corpus
    calibration: Corpus
    test: Corpus | None
    layout: Layout
    leaks: LeakAudit | None
    whole: Corpus | None = None

    @property
    def seen_test_rows(self) -> BoolArray | None:
        """Which test rows were seen, exactly or nearly, in training, validation or calibration."""
        return None if self.leaks is None else self.leaks.seen_N

    @property
    def by_role(self) -> dict[str, Corpus]:
        """The rows that are not test rows, each role that has rows of its own once."""
        roles = {"train": self.train, "validation": self.validation}
        return roles if self.calibration is self.validation else {**roles, "calibration": self.calibration}

    def seen_texts(self) -> list[str]:
        """All texts that decided anything about the model."""
        return [text for corpus in self.by_role.values() for text in all_texts(corpus)]


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


@dataclass(frozen=True, eq=False)
class Others:
    """Files or objects of their own for a role; None where rows are split off the training file."""

    validation: Source | None = None
    calibration: Source | None = None
    test: Source | None = None
    folds: int = 0
    """Where not 0, rows are scored out of fold: none are split off for calibration and test."""


def gather_corpora(source: Source, others: Others, *, settings: RunSettings, observer: Observer) -> Corpora:
    """Read and check everything that was named, split off what was not, audit the test rows for leaks.

    Raises DataError with all problems of a file at once, UsageError for calibration rows beside folds.
    """
    if others.folds and others.calibration is not None:
        found = "--calibration together with --folds, which calibrates on all rows out of fold"
        raise UsageError(Finding("U250", "train", found, "one of the two", "leave one of them out"))
    observer.stage("Reading and checking the data")
    loaded = load_source(source, settings.data)
    for line in loaded.layout.describe():
        observer.stage("  " + "  ".join(map(str, line)))
    _tell(loaded.warnings, observer)
    _refuse_if_unusable(loaded.corpus, observer)
    labels = loaded.corpus.labels
    validation, calibration, test = (
        _load_other(each, loaded.layout, settings.data, labels, observer)
        for each in (others.validation, others.calibration, others.test)
    )
    own = _Own(validation, calibration, test, others.folds)
    corpus = loaded.corpus
    if settings.split.leaks == "drop":
        corpus = _without_copies(corpus, own, settings, observer)
    corpora = _split(corpus, own, loaded.layout, settings, observer)
    if corpora.test is None:
        return corpora
    similarity = settings.split.near_duplicate_similarity
    leaks = leak_audit(corpora.seen_texts(), all_texts(corpora.test), similarity=similarity)
    _tell_leaks(leaks, len(corpora.test), observer)
    return replace(corpora, leaks=leaks)


@dataclass(frozen=True, eq=False)
class _Own:
    """Rows that came in files of their own."""

    validation: Corpus | None
    calibration: Corpus | None
    test: Corpus | None
    folds: int


def all_texts(corpus: Corpus) -> list[str]:
    """Each row as one text, the pair included."""
    return list(joined(corpus.texts, corpus.pairs))


def _load_other(
    source: Source | None, layout: Layout, options: DataSettings, labels: LabelSet, observer: Observer
) -> Corpus | None:
    """A validation or test file: read like the training file, its labels matched by name."""
    if source is None:
        return None
    # Rows that judge need no translations; the training file's layout names them where a file has them.
    options = options.model_copy(update={"translation_columns": None})
    loaded = load_source(source, options, labels=labels, stored=layout)
    _tell(loaded.warnings, observer)
    return loaded.corpus


def _without_copies(corpus: Corpus, own: _Own, settings: RunSettings, observer: Observer) -> Corpus:
    """The rows that are no copy, exact or near, of a row in a separate file: those rows then judge what is new."""
    separate = [each for each in (own.validation, own.calibration, own.test) if each is not None]
    texts = [text for each in separate for text in all_texts(each)]
    found = leak_audit(texts, all_texts(corpus), similarity=settings.split.near_duplicate_similarity)
    observer.stage(
        f"  left out of training: {counted(int(found.seen_N.sum()), 'row')}, copies of rows in the separate files"
    )
    kept = corpus.select(np.flatnonzero(~found.seen_N))
    _refuse_if_unusable(kept, observer)
    return kept


def _split(corpus: Corpus, own: _Own, layout: Layout, settings: RunSettings, observer: Observer) -> Corpora:
    """Split off what has no file of its own; a validation file calibrates too unless there is a file for that."""
    split = settings.split
    validation, calibration, test = own.validation, own.calibration, own.test
    shares = {
        "validation_fraction": 0.0 if validation is not None else split.validation_fraction,
        "calibration_fraction": 0.0
        if own.folds or validation is not None or calibration is not None
        else split.calibration_fraction,
        "test_fraction": 0.0 if own.folds or test is not None else split.test_fraction,
    }
    whole = corpus if own.folds else None
    if any(shares.values()):
        observer.stage("Splitting, duplicates kept together")
        parts = split_corpus(
            corpus, **shares, near_duplicate_similarity=split.near_duplicate_similarity, seed=split.seed
        )
        _tell(parts.warnings, observer)
        if validation is None:
            validation = corpus.select(parts.validation)
        if calibration is None and len(parts.calibration):
            calibration = corpus.select(parts.calibration)
        if test is None and len(parts.test):
            test = corpus.select(parts.test)
        corpus = corpus.select(parts.train)
    assert validation is not None
    corpora = Corpora(corpus, validation, calibration or validation, test, layout, None, whole)
    sizes = "  ".join(f"{role} {len(rows):,}" for role, rows in corpora.by_role.items())
    observer.stage(f"  {sizes}  test {len(test) if test else 0:,}")
    if calibration is None and not own.folds:
        observer.stage("  note: the validation rows choose the epoch and the thresholds; --calibration FILE, or "
                       "split.calibration_fraction for one file, keeps the two apart")  # fmt: skip
    return corpora


def _refuse_if_unusable(corpus: Corpus, observer: Observer) -> None:
    findings = check_corpus(corpus)
    errors = [finding for finding in findings if finding.severity == "error"]
    _tell([finding for finding in findings if finding.severity == "warning"], observer)
    if errors:
        raise DataError(*errors)


def _tell(findings: list[Finding] | tuple[Finding, ...], observer: Observer) -> None:
    for finding in told_together(findings):
        observer.stage("  note: " + finding.sentence())


def _tell_leaks(leaks: LeakAudit, num_rows: int, observer: Observer) -> None:
    found = leaks.counts()
    copies = found["exact"] + found["normalised"]
    observer.stage(f"  leak audit: of {num_rows:,} test rows {copies:,} are copies of rows that made the model, "
                   f"{found['near']:,} more nearly so")  # fmt: skip


def not_annotated(place: str, num_rows: int, next_step: str) -> Finding:
    """What is said of rows that nothing can be judged on."""
    found = f"none of its {counted(num_rows, 'row')} is annotated: every label is -1"
    return Finding("D167", place, found, "rows with 0 or 1 for a label", next_step)
