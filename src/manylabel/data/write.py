"""Tables to files: CSV, TSV, JSONL and Parquet, plain or compressed; called by recipes/predict.py.

What a spreadsheet would run as a formula is made inert in text cells and column names of CSV and TSV files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from manylabel.data.formats import format_of_name

LIST_JOINER = "|"
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First characters that make a spreadsheet run a cell (OWASP ASVS 1.2.10), and their full-width forms."""
PLAIN_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?\Z")


class TableWriter(Protocol):
    """Takes tables of one schema, one after the other."""

    def write(self, table: pa.Table) -> None:
        """Append the rows of `table`."""
        ...


@contextmanager
def open_writer(path: Path, named: Path) -> Iterator[TableWriter]:
    """A writer to `path` in the format that the name `named` asks for; closed at the end of the block.

    Raises DataError when the name has no known suffix.
    """
    file_format = format_of_name(named)
    with ExitStack() as stack:
        sink = stack.enter_context(path.open("wb"))
        if file_format.compression:
            sink = stack.enter_context(pa.CompressedOutputStream(sink, file_format.compression))
        if file_format.kind == "jsonl":
            yield _JsonLinesWriter(sink)
        else:
            separator = "\t" if file_format.kind == "tsv" else ","
            is_parquet = file_format.kind == "parquet"
            writer = _ParquetWriter(sink) if is_parquet else _DelimitedWriter(sink, separator)
            yield writer
            writer.close()


def inert(cell: str) -> str:
    """`cell` with an apostrophe before it where a spreadsheet would run it; numbers stay as they are.

    Blanks in front do not hide a formula. Applying it twice changes nothing more.
    """
    start = cell.lstrip(" \u00a0\u3000")
    if start.startswith(FORMULA_STARTS) and not PLAIN_NUMBER.match(start):
        return "'" + cell
    return cell


class _DelimitedWriter:
    def __init__(self, sink: Any, separator: str) -> None:  # noqa: ANN401 - a file or an Arrow stream
        self._sink, self._separator = sink, separator
        self._writer: pa_csv.CSVWriter | None = None

    def write(self, table: pa.Table) -> None:
        table = pa.table(
            [_flat(column) for column in table.columns], names=[inert(name) for name in table.column_names]
        )
        if self._writer is None:
            options = pa_csv.WriteOptions(delimiter=self._separator, quoting_style="needed")
            self._writer = pa_csv.CSVWriter(self._sink, table.schema, write_options=options)
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _ParquetWriter:
    def __init__(self, sink: Any) -> None:  # noqa: ANN401 - a file or an Arrow stream
        self._sink = sink
        self._writer: pq.ParquetWriter | None = None

    def write(self, table: pa.Table) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._sink, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _JsonLinesWriter:
    def __init__(self, sink: Any) -> None:  # noqa: ANN401 - a file or an Arrow stream
        self._sink = sink

    def write(self, table: pa.Table) -> None:
        lines = (
            json.dumps(row, ensure_ascii=False, allow_nan=False, default=str) for row in table.to_pylist()
        )
        self._sink.write("".join(line + "\n" for line in lines).encode("utf-8", "surrogatepass"))


def _flat(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """A column that fits a cell: lists joined, text made inert, numbers untouched."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        joined = [
            LIST_JOINER.join(map(str, cell)) if cell is not None else None for cell in column.to_pylist()
        ]
        column = pa.chunked_array([pa.array(joined, pa.string())])
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        starts = pc.match_substring_regex(column, r"^[ \x{a0}\x{3000}]*[=+\-@\t\r\n\x00＝＋－＠]")
        if pc.any(starts).as_py():
            return pa.array(
                [None if cell is None else inert(cell) for cell in column.to_pylist()], pa.string()
            )
    return column
