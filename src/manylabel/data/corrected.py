"""A file again, with other labels and nothing else changed. Called by recipes/label_errors.py.

Only cells whose label differs are written anew, in the spelling that their column already has. Texts stay as they are,
also those a spreadsheet would run as a formula: this is the user's own file.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa

from manylabel.config.schema import DataSettings
from manylabel.data.delimited import DelimitedReader
from manylabel.data.dialect import Dialect
from manylabel.data.formats import FileFormat, format_of, format_of_name
from manylabel.data.guessing import FLAG_VALUES, split_cell
from manylabel.data.layout import Layout
from manylabel.data.problems import finding
from manylabel.data.read import read_table
from manylabel.data.write import open_writer
from manylabel.errors import UsageError
from manylabel.values import BoolArray, Corpus, IntArray

ROWS_AT_ONCE = 8192


def require_correctable(source: Path, target: Path, layout: Layout) -> None:
    """Raise UsageError where labels in this layout cannot be written, or the two names are of different formats."""
    if layout.style == "list":
        found, allowed = "the labels are lists", "0/1 columns, or labels with a separator in one column"
        step = "correct the lists in the program that wrote them"
        raise UsageError(finding("U242", f"{source.name}, labels", found, allowed, step))
    kinds = format_of(source).kind, format_of_name(target).kind
    if kinds[0] != kinds[1]:
        found = f"a {kinds[1]} file, but the labels are in a {kinds[0]} file"
        raise UsageError(
            finding("U243", "--out", found, f"a name that ends in .{kinds[0]}", "choose another name")
        )


def write_corrected(
    source: Path, temporary: Path, target: Path, *, corpus: Corpus, layout: Layout, options: DataSettings,
    targets_NL: IntArray,
) -> None:  # fmt: skip
    """Write the file `source` with the labels `targets_NL` to `temporary`, in the format of the name `target`.

    `corpus` is what was read from `source` with `layout` and `options`: N rows, in the order of the file.
    """
    table = read_table(source, options)
    changed_NL = targets_NL != corpus.targets_NL
    names = corpus.labels.names
    if layout.style == "one_hot":
        for index in np.flatnonzero(changed_NL.any(axis=0)):
            column = _flags(table[names[index]], targets_NL[:, index], changed_NL[:, index])
            table = _replaced(table, names[index], column)
    elif changed_NL.any():
        assert layout.labels_column is not None
        column = _cells(table[layout.labels_column], layout, names, targets_NL, changed_NL)
        table = _replaced(table, layout.labels_column, column)
    file_format = format_of(source)
    if file_format.kind in ("csv", "tsv"):
        reader = DelimitedReader(source, file_format, options.encoding, options.header is not False)
        _write_delimited(table, temporary, format_of_name(target), reader)
        return
    with open_writer(temporary, target) as writer:
        writer.write(table)


def _replaced(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    position = table.column_names.index(name)
    return table.set_column(position, table.schema.field(position), column)


def _flags(column: pa.ChunkedArray, targets_N: IntArray, changed_N: BoolArray) -> pa.Array:
    """A 0/1 column with some cells changed, each to a value that the column already has for it."""
    cells = column.to_pylist()
    spelled: dict[int, object] = {}
    for cell in cells:
        flag = FLAG_VALUES[str(cell).strip().casefold()]
        spelled.setdefault(flag, cell)
    is_text = pa.types.is_string(column.type)
    for row in np.flatnonzero(changed_N):
        flag = int(targets_N[row])
        cells[row] = spelled.get(flag, str(flag) if is_text else flag)
    return pa.array(cells, column.type)


def _cells(
    column: pa.ChunkedArray, layout: Layout, names: Sequence[str], targets_NL: IntArray, changed_NL: BoolArray
) -> pa.Array:
    """A column of separated labels with some cells changed; labels that stay keep their order."""
    cells: list[str | None] = column.cast(pa.string()).to_pylist()
    separator = layout.separator or ","
    spaced = not separator.isspace() and any(f"{separator} " in (cell or "") for cell in cells)
    tokens = list(map(str, range(len(layout.label_names)))) if layout.ids_are_indices else list(names)
    name_of = dict(zip(tokens, layout.label_names if layout.ids_are_indices else names, strict=True))
    token_of = {name: token for token, name in name_of.items()}
    for row in np.flatnonzero(changed_NL.any(axis=1)):
        wanted = [token_of[name] for name, target in zip(names, targets_NL[row], strict=True) if target == 1]
        before = [_token(token, layout) for token in split_cell(cells[row] or "", layout.separator)]
        kept = [token for token in before if token in wanted]
        cells[row] = (separator + " " * spaced).join(
            [*kept, *(token for token in wanted if token not in kept)]
        )
    return pa.array(cells, pa.string())


def _token(token: str, layout: Layout) -> str:
    """A position without leading zeros; a name as it is."""
    return str(int(token)) if layout.ids_are_indices and token.isdecimal() else token


def _write_delimited(
    table: pa.Table, temporary: Path, file_format: FileFormat, reader: DelimitedReader
) -> None:
    """Separator, quoting, encoding and header as in the file that was read."""
    encoder = codecs.getincrementalencoder(reader.encoding)()
    with ExitStack() as stack:
        sink = stack.enter_context(temporary.open("wb"))
        if file_format.compression:
            sink = stack.enter_context(pa.CompressedOutputStream(sink, file_format.compression))
        if reader.header:
            sink.write(encoder.encode(_lines([table.column_names], reader.dialect)))
        for rows in _chunks(table):
            sink.write(encoder.encode(_lines(rows, reader.dialect)))


def _chunks(table: pa.Table) -> Iterator[list[tuple[str, ...]]]:
    for start in range(0, table.num_rows, ROWS_AT_ONCE):
        part = table.slice(start, ROWS_AT_ONCE)
        yield list(zip(*(column.to_pylist() for column in part.columns), strict=True))


def _lines(rows: Sequence[Sequence[str]], dialect: Dialect) -> str:
    if not dialect.quoted:  # Then no cell can hold a separator or a line end.
        return "".join(dialect.separator.join(row) + "\n" for row in rows)
    lines = io.StringIO(newline="")
    csv.writer(lines, delimiter=dialect.separator, lineterminator="\n").writerows(rows)
    return lines.getvalue()
