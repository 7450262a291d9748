"""From rows to a checked `Corpus`: the only way training and evaluation get their data.

`load_corpus` composes reading, layout and checking for a file, `load_table` does so for Arrow tables and
pandas frames, `corpus_from_memory` for texts and labels of a Python caller. All raise one `DataError` with
every problem at once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from manylabel.config.schema import DataSettings
from manylabel.data.blank import is_blank
from manylabel.data.header import data_in_header
from manylabel.data.layout import Layout, PredictionColumns, guess_layout, with_stored_header
from manylabel.data.parquet import plain_schema
from manylabel.data.problems import Problem, RowProblems, finding
from manylabel.data.read import read_rows
from manylabel.data.targets import LabelledTable, listed_targets, one_hot_targets
from manylabel.data.translations import read_translations
from manylabel.data.unused import unused_columns
from manylabel.errors import DataError, Finding
from manylabel.values import Corpus, IntArray, LabelSet


@dataclass(frozen=True)
class Loaded:
    """A corpus without errors, the layout it was read with, and what should be shown to the user."""

    corpus: Corpus
    layout: Layout
    warnings: tuple[Finding, ...]


@dataclass(frozen=True)
class ReadCorpus:
    """The rows of a file that could be read, and everything that is wrong with it.

    With an error among the findings the corpus is only to be described (see `to_corpus`).
    """

    corpus: Corpus
    layout: Layout
    findings: tuple[Finding, ...]


def load_corpus(
    path: Path,
    options: DataSettings,
    *,
    labels: LabelSet | None = None,
    stored: Layout | None = None,
) -> Loaded:
    """Reads, guesses and checks a file.

    Args:
        path: CSV, TSV, JSONL or Parquet, plain or compressed.
        options: Flags of the user.
        labels: Labels of an existing model; the targets then have its columns in its order.
        stored: A model's layout, for options the user left open.

    Returns:
        The corpus with layout and warnings.

    Raises:
        DataError: with all errors of the file at once.
    """
    read = read_corpus(path, options, labels=labels, stored=stored)
    return _loaded(read.corpus, read.layout, read.findings)


def read_corpus(
    path: Path,
    options: DataSettings,
    *,
    labels: LabelSet | None = None,
    stored: Layout | None = None,
) -> ReadCorpus:
    """As `load_corpus`, for callers that also describe a file with errors.

    Raises:
        DataError: with all errors of the file, when there is nothing to describe: it cannot be read, has no
            usable row, or its columns cannot be told.
    """
    path = Path(path)
    rows = read_rows(path, with_stored_header(options, stored))
    if rows.table.num_rows == 0:
        raise DataError(*(rows.findings or (_no_rows(path.name),)))
    doubts = data_in_header(rows.table, path, with_stored_header(options, stored))
    try:
        layout = guess_layout(rows.table, options, path.name, labels=labels, stored=stored)
    except DataError as problem:
        raise DataError(*rows.findings, *problem.findings, *doubts) from problem
    corpus, findings = to_corpus(
        rows.table, layout, path.name, labels=labels, rows_N=rows.rows_N, is_named=names_labels(options)
    )
    notes = unused_columns(rows.table, layout, path.name) if labels is None else []
    return ReadCorpus(corpus, layout, (*rows.findings, *doubts, *notes, *findings))


def load_table(
    table: object,
    options: DataSettings,
    *,
    source: str = "table",
    labels: LabelSet | None = None,
    stored: Layout | None = None,
) -> Loaded:
    """As `load_corpus` for an Arrow table, a record batch or a pandas frame (without its index)."""
    arrow = _as_arrow(table, source)
    if arrow.num_rows == 0:
        raise DataError(_no_rows(source))
    layout = guess_layout(arrow, options, source, labels=labels, stored=stored)
    corpus, findings = to_corpus(arrow, layout, source, labels=labels, is_named=names_labels(options))
    notes = unused_columns(arrow, layout, source) if labels is None else []
    return _loaded(corpus, layout, (*notes, *findings))


def to_corpus(
    table: pa.Table,
    layout: Layout,
    source: str,
    *,
    labels: LabelSet | None = None,
    rows_N: IntArray | None = None,
    is_named: bool = False,
) -> tuple[Corpus, list[Finding]]:
    """The corpus in `table` and everything that is wrong with it.

    Args:
        table: The rows.
        layout: Which column holds what.
        source: File name for messages.
        labels: Label order to use; by default the layout's.
        rows_N: 1-based row numbers for messages; by default 1 to N.
        is_named: Whether the user named the label columns; short wrong labels may then be shown.

    Returns:
        Corpus and findings. With an error among the findings the corpus is not to be used: a wrong label
        is -1 in it and a missing text is empty.
    """
    problems = RowProblems()
    rows_N = np.arange(1, table.num_rows + 1, dtype=np.int64) if rows_N is None else rows_N
    labels = labels or LabelSet(layout.label_names)
    data = LabelledTable(table, layout, source, rows_N, is_named)
    texts = _texts(data, layout.text_column, problems)
    pairs = None if layout.pair_column is None else _texts(data, layout.pair_column, problems)
    ids = _ids(data, problems)
    read_targets = one_hot_targets if layout.style == "one_hot" else listed_targets
    targets_NL = read_targets(data, labels, problems)
    groups = None
    if layout.group_column is not None:
        groups = tuple(
            "" if value is None else str(value) for value in table[layout.group_column].to_pylist()
        )
    translations = read_translations(table, layout.translation_columns, source, problems, rows_N=rows_N)
    corpus = Corpus(source, texts, labels, targets_NL, ids, rows_N, pairs, groups, translations)
    return corpus, problems.findings()


def texts_of(
    table: pa.Table | pa.RecordBatch,
    columns: Layout | PredictionColumns,
    *,
    source: str = "table",
    first_row: int = 1,
) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """Texts and second texts to predict; `first_row` is the 1-based number of the table's first row.

    Raises:
        DataError: a text is missing (null) or the column holds no text. An empty text is allowed.
    """
    if isinstance(columns, Layout):
        columns = PredictionColumns(columns.text_column, columns.pair_column, columns.id_column)
    table = pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table
    rows_N = np.arange(first_row, first_row + table.num_rows, dtype=np.int64)
    problems = RowProblems()
    names = [columns.text] if columns.pair is None else [columns.text, columns.pair]
    found = [_column_texts(table[name], f'{source}, column "{name}"', rows_N, problems) for name in names]
    errors = [finding for finding in problems.findings() if finding.severity == "error"]
    if errors:
        raise DataError(*errors)
    return found[0], found[1] if len(found) > 1 else None


def names_labels(options: DataSettings) -> bool:
    """Whether the user says where the labels are."""
    return options.label_columns is not None or options.labels_column is not None


def _loaded(corpus: Corpus, layout: Layout, findings: tuple[Finding, ...]) -> Loaded:
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise DataError(*errors)
    return Loaded(corpus, layout, findings)


def _no_rows(source: str) -> Finding:
    return finding(
        "D104", source, "there are no data rows", "at least one row", "check how the data were written"
    )


def _as_arrow(table: object, source: str) -> pa.Table:
    try:
        arrow = _table_of(table)
        if len(set(arrow.column_names)) < len(arrow.column_names):
            raise DataError(
                finding("D109", source, "column names occur twice", "different names", "rename them")
            )
        return arrow.cast(plain_schema(arrow.schema))
    except (pa.ArrowException, AttributeError, TypeError, ValueError) as problem:
        found, step = (
            "the frame cannot become an Arrow table",
            "use one type a column and text as column names",
        )
        raise DataError(finding("D115", source, found, "plain columns", step)) from problem


def _table_of(table: object) -> pa.Table:
    if isinstance(table, pa.RecordBatch):
        return pa.Table.from_batches([table])
    return table if isinstance(table, pa.Table) else pa.Table.from_pandas(table, preserve_index=False)


def _texts(data: LabelledTable, name: str, problems: RowProblems) -> tuple[str, ...]:
    return _column_texts(data.table[name], f'{data.source}, column "{name}"', data.rows_N, problems)


def _column_texts(
    column: pa.ChunkedArray, place: str, rows_N: IntArray, problems: RowProblems
) -> tuple[str, ...]:
    values = column.to_pylist()
    if not (pa.types.is_string(column.type) or pa.types.is_null(column.type)):
        step = "give the column with the texts, --text-column or --pair-column"
        problems.add(Problem("D142", place, f"the column holds {column.type}, not text", "text", step))
        return tuple("" if value is None else str(value) for value in values)
    missing = [index for index, value in enumerate(values) if value is None]
    blank = [index for index, value in enumerate(values) if value is not None and is_blank(value)]
    step = 'write the text, or "" if it is truly empty'
    problems.extend(Problem("D140", place, "the text is missing (null)", "text", step), rows_N[missing])
    found, step = "the text is empty; the row is kept", "check that this is meant"
    problems.extend(Problem("D141", place, found, "text", step, "warning"), rows_N[blank])
    return tuple(value or "" for value in values)


def _ids(data: LabelledTable, problems: RowProblems) -> tuple[str, ...]:
    name = data.layout.id_column
    if name is None:
        return tuple(str(row) for row in data.rows_N)
    ids = ["" if value is None else str(value) for value in data.table[name].to_pylist()]
    counts = Counter(ids)
    place = f'{data.source}, column "{name}"'
    empty = [index for index, value in enumerate(ids) if not value]
    twice = [index for index, value in enumerate(ids) if value and counts[value] > 1]
    step = "give every row its own id, or another column with --id-column"
    problems.extend(
        Problem("D143", place, "the id is empty", "a different id in each row", step), data.rows_N[empty]
    )
    problems.extend(
        Problem("D143", place, "the id occurs twice", "a different id in each row", step), data.rows_N[twice]
    )
    return tuple(ids)
