"""Which labels of a file are probably wrong, and the file with corrected ones; called by `manylabel label-errors`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from manylabel import __version__
from manylabel.bundle.files import published_file
from manylabel.config.schema import DataSettings, RunSettings
from manylabel.data.corpus import load_corpus
from manylabel.data.corrected import require_correctable, write_corrected
from manylabel.data.formats import format_of_name
from manylabel.data.label_studio import Task, labeling_interface, read_corrections, tasks_of
from manylabel.data.validate import check_corpus
from manylabel.data.write import open_writer
from manylabel.errors import DataError, Finding, UsageError, counted, told_together
from manylabel.evaluation.label_errors import (
    LabelErrors,
    SuspectedCell,
    find_label_errors,
    require_cleanlab,
)
from manylabel.recipes.folds import OutOfFold, forget_folds, out_of_fold
from manylabel.recipes.places import require_place
from manylabel.training.observers import Observer
from manylabel.values import Corpus, FloatArray


@dataclass(frozen=True)
class ErrorSearch:
    """Where labels are searched for errors and what is written: a table, and tasks for Label Studio if named.

    `include_texts` puts the texts into the table; tasks always have them. `fresh` discards the folds of another run.
    """

    source: Path
    out: Path
    folds: int = 5
    label_studio: Path | None = None
    include_texts: bool = False
    fresh: bool = False

    @property
    def work_folder(self) -> Path:
        """Where finished folds are kept until the table is written."""
        place = self.out.resolve()
        return place.with_name(place.name + ".folds")

    @property
    def interface(self) -> Path | None:
        """Where the XML of the labelling interface goes: beside the tasks."""
        return None if self.label_studio is None else self.label_studio.with_suffix(".xml")


@dataclass(frozen=True, eq=False)
class ErrorReport:
    """What was found in a corpus, by predictions out of fold."""

    corpus: Corpus
    errors: LabelErrors
    probabilities_NL: FloatArray
    folds: int

    def to_json(self) -> dict[str, Any]:
        """Plain values; ids and rows, no texts."""
        corpus = self.corpus
        return {
            "source": corpus.source,
            "rows": len(corpus),
            "folds": self.folds,
            "label_errors": [
                {**_row(corpus, cell.row), "label": cell.label, "given": cell.given,
                 "probability": cell.probability, "score": cell.score, "rank": cell.rank}
                for cell in self.errors.suspected
            ],
            "contradictions": [
                {"ids": [corpus.ids[row] for row in each.rows],
                 "rows": [int(corpus.rows_N[row]) for row in each.rows], "labels": list(each.labels)}
                for each in self.errors.contradictions
            ],
            "unjudged": dict(self.errors.unjudged),
        }  # fmt: skip


@dataclass(frozen=True)
class CorrectedFile:
    """What became of a file: rows that people looked at, cells that now hold another label, tasks nobody completed."""

    rows_seen: int
    cells_changed: int
    tasks_skipped: int


def search_label_errors(
    search: ErrorSearch,
    *,
    settings: RunSettings,
    observer: Observer,
    should_stop: Callable[[], bool] = lambda: False,
) -> ErrorReport:
    """Train a model for each fold, let the others' models judge each label, and write what is probably wrong.

    Goes on from the finished folds of an interrupted search. Raises as `out_of_fold` does, UsageError before anything
    takes time where an output cannot be written or cleanlab is missing, DataError with all problems of the file.
    """
    require_cleanlab()
    _check_outputs(search)
    corpus = _checked_corpus(search.source, settings.data, observer)
    if search.label_studio is not None:
        labeling_interface(corpus.labels, has_pair=corpus.pairs is not None)
    predicted = out_of_fold(
        corpus,
        settings,
        folds=search.folds,
        observer=observer,
        work_folder=search.work_folder,
        should_stop=should_stop,
        fresh=search.fresh,
    )
    observer.stage("Comparing the labels with the predictions")
    report = report_errors(corpus, predicted, folds=search.folds)
    _write(report, search, default_threshold=settings.decisions.default_threshold)
    forget_folds(search.work_folder)
    return report


def report_errors(corpus: Corpus, predicted: OutOfFold, *, folds: int) -> ErrorReport:
    """What predictions out of fold say of the labels of a corpus."""
    probabilities_NL = predicted.probabilities_NL
    return ErrorReport(corpus, find_label_errors(corpus, probabilities_NL), probabilities_NL, folds)


def correct_labels(
    source: Path, export: Path, out: Path, *, options: DataSettings, observer: Observer
) -> CorrectedFile:
    """Write `source` with the labels of a Label Studio export as the file `out`; all else stays as it is.

    Raises UsageError where `out` cannot be written or the layout cannot be corrected, DataError with everything that is
    wrong with the file or the export.
    """
    _check_output(out, source, "--out", _table_type)
    loaded = load_corpus(source, options)
    require_correctable(source, out, loaded.layout)
    corrections = read_corrections(export, loaded.corpus)
    for finding in corrections.notes:
        observer.stage("note: " + finding.sentence())
    with published_file(out) as temporary:
        write_corrected(
            source,
            temporary,
            out,
            corpus=loaded.corpus,
            layout=loaded.layout,
            options=options,
            targets_NL=corrections.targets_NL,
        )
    return CorrectedFile(corrections.rows_seen, corrections.cells_changed, corrections.tasks_skipped)


def _checked_corpus(source: Path, options: DataSettings, observer: Observer) -> Corpus:
    """The rows of a file that training would take."""
    observer.stage("Reading and checking the data")
    loaded = load_corpus(source, options)
    for line in loaded.layout.describe():
        observer.stage("  " + "  ".join(line))
    findings = [*loaded.warnings, *check_corpus(loaded.corpus)]
    for finding in told_together(findings):
        if finding.severity == "warning":
            observer.stage("  note: " + finding.sentence())
    if errors := [finding for finding in findings if finding.severity == "error"]:
        raise DataError(*errors)
    return loaded.corpus


def _check_outputs(search: ErrorSearch) -> None:
    """Outputs that cannot be written are found before the first fold, not after the last."""
    _check_output(search.out, search.source, "--out", _table_type)
    if search.label_studio is not None and search.interface is not None:
        _check_output(search.label_studio, search.source, "--label-studio", _tasks_type)
        _check_output(search.interface, search.source, "--label-studio", lambda _: None)


def _table_type(path: Path) -> None:
    try:
        format_of_name(path)
    except DataError as error:
        raise UsageError(*error.findings) from error


def _tasks_type(path: Path) -> None:
    if path.suffix.lower() != ".json":
        found = f'the name ends in "{path.suffix}"'
        raise UsageError(
            Finding("U342", "--label-studio", found, "a name that ends in .json", "choose tasks.json")
        )


def _check_output(path: Path, source: Path, option: str, check_type: Callable[[Path], None]) -> None:
    check_type(path)
    if path.resolve() == source.resolve():
        found = "the same file as the labels are read from"
        raise UsageError(Finding("U204", option, found, "another file", "choose another name"))
    require_place(path, option)


def _write(report: ErrorReport, search: ErrorSearch, *, default_threshold: float) -> None:
    """Every output, each whole or not at all."""
    with published_file(search.out) as temporary, open_writer(temporary, search.out) as writer:
        writer.write(_table(report, include_texts=search.include_texts))
    if search.label_studio is None or search.interface is None:
        return
    corpus = report.corpus
    version = f"manylabel {__version__}, {report.folds} folds"
    tasks = tasks_of(corpus, _tasks(report, default_threshold), model_version=version)
    with published_file(search.label_studio) as temporary:
        # ASCII escapes also hold what UTF-8 cannot: halves of surrogate pairs.
        temporary.write_text(json.dumps(tasks, indent=1, allow_nan=False) + "\n", encoding="ascii")
    with published_file(search.interface) as temporary:
        interface = labeling_interface(corpus.labels, has_pair=corpus.pairs is not None)
        temporary.write_text(interface, encoding="utf-8", errors="strict")


def _table(report: ErrorReport, *, include_texts: bool) -> pa.Table:
    """One row a suspected label, then one for each label of a copy that others contradict; those have no rank."""
    corpus = report.corpus
    rows = [
        {"rank": cell.rank, **_row(corpus, cell.row), "label": cell.label, "given": cell.given,
         "probability": cell.probability, "score": cell.score, "reason": "model"}
        for cell in report.errors.suspected
    ]  # fmt: skip
    rows += [
        {"rank": None, **_row(corpus, row), "label": name, "given": int(corpus.targets_NL[row, column]),
         "probability": float(report.probabilities_NL[row, column]), "score": None, "reason": "contradictory copies"}
        for row, name, column in _contradictory_cells(report)
    ]  # fmt: skip
    schema = {"rank": pa.int64(), "id": pa.string(), "row": pa.int64(), "label": pa.string(), "given": pa.int64(),
              "probability": pa.float64(), "score": pa.float64(), "reason": pa.string()}  # fmt: skip
    if include_texts:
        schema |= {"text": pa.string()} | ({"pair": pa.string()} if corpus.pairs is not None else {})
        position_of = {int(number): position for position, number in enumerate(corpus.rows_N)}
        for row in rows:
            position = position_of[row["row"]]
            row["text"] = corpus.texts[position]
            row["pair"] = None if corpus.pairs is None else corpus.pairs[position]
    return pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in schema.items()})


def _row(corpus: Corpus, row: int) -> dict[str, Any]:
    return {"id": corpus.ids[row], "row": int(corpus.rows_N[row])}


def _contradictory_cells(report: ErrorReport) -> Iterator[tuple[int, str, int]]:
    """Row, label and column of every annotated cell in which copies disagree."""
    column_of = {name: column for column, name in enumerate(report.corpus.labels.names)}
    for each in report.errors.contradictions:
        for name in each.labels:
            for row in each.rows:
                if report.corpus.targets_NL[row, column_of[name]] >= 0:
                    yield row, name, column_of[name]


def _tasks(report: ErrorReport, default_threshold: float) -> Iterator[Task]:
    """One task a row: the likeliest errors first, then copies that disagree."""
    cells_of: dict[int, list[SuspectedCell]] = {}
    for cell in report.errors.suspected:
        cells_of.setdefault(cell.row, []).append(cell)
    copies_of = {row: each for each in report.errors.contradictions for row in each.rows}
    for row in dict.fromkeys([*cells_of, *copies_of]):
        probabilities_L = report.probabilities_NL[row]
        hints = [
            f"{cell.label}: given {cell.given}, probability {cell.probability:.2f}"
            for cell in cells_of.get(row, ())
        ]
        if row in copies_of:
            others = [report.corpus.ids[other] for other in copies_of[row].rows if other != row]
            hints.append(
                f"{', '.join(copies_of[row].labels)}: another copy of the text says otherwise ({', '.join(others)})"
            )
        names = report.corpus.labels.names
        predicted = tuple(
            name for name, value in zip(names, probabilities_L, strict=True) if value >= default_threshold
        )
        doubtful = 1.0 - min((cell.score for cell in cells_of.get(row, ())), default=0.5)
        yield Task(row, predicted, float(np.round(doubtful, 4)), "; ".join(hints))


def found_sentence(report: ErrorReport) -> str:
    """How much was found, in one line."""
    suspected, copies = len(report.errors.suspected), len(report.errors.contradictions)
    rows = len({cell.row for cell in report.errors.suspected})
    return (
        f"{counted(suspected, 'label')} in {counted(rows, 'row')} of {len(report.corpus):,} probably wrong; "
        f"{counted(copies, 'text')} with copies that contradict each other"
    )
