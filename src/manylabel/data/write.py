"""Tables to files: CSV, TSV, JSONL and Parquet, plain or compressed; called by recipes/predict.py.

What a spreadsheet would run as a formula is made inert in text cells and column names of CSV and TSV files.
Objects become JSON text there; JSONL gets back as values what its reader kept as JSON text, and null for NaN.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from manylabel.data.chunks import NESTED
from manylabel.data.formats import Kind, format_of_name

LIST_JOINER = "|"
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First characters that make a spreadsheet run a cell (OWASP ASVS 1.2.10), and their full-width forms."""
PLAIN_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?\Z")


class TableWriter(Protocol):
    """Takes tables of one schema, one after the other."""

    def write(self, table: pa.Table) -> None:
        """Append the rows of `table`."""
        ...


class _Writer(TableWriter, Protocol):
    def close(self) -> None:
        """Write what is held back; without any table nothing, and no error."""
        ...


@contextmanager
def open_writer(path: Path, named: Path) -> Iterator[TableWriter]:
    """A writer to `path` in the format that the name `named` asks for; closed at the end of the block.

    A writer that got no table leaves a file without columns, which no reader takes. Raises DataError when the
    name has no known suffix.
    """
    file_format = format_of_name(named)
    with ExitStack() as stack:
        sink = stack.enter_context(path.open("wb"))
        if file_format.compression:
            sink = stack.enter_context(pa.CompressedOutputStream(sink, file_format.compression))
        writer = _writer(sink, file_format.kind)
        yield writer
        writer.close()


def _writer(sink: Any, kind: Kind) -> _Writer:  # noqa: ANN401 - a file or an Arrow stream
    match kind:
        case "jsonl":
            return _JsonLinesWriter(sink)
        case "parquet":
            return _ParquetWriter(sink)
        case "csv":
            return _DelimitedWriter(sink, ",")
        case "tsv":
            return _DelimitedWriter(sink, "\t")


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
        columns = [
            _json_values(column, item) for column, item in zip(table.columns, table.schema, strict=True)
        ]
        names = table.column_names
        lines = (_json_text(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True))
        self._sink.write("".join(line + "\n" for line in lines).encode("utf-8", "surrogatepass"))

    def close(self) -> None:
        """Nothing is held back."""


def _json_values(column: pa.ChunkedArray, item: pa.Field) -> list[Any]:
    """The cells of a column as JSON knows them."""
    cells: list[Any] = column.to_pylist()
    if item.metadata == NESTED:
        return [cell if cell is None else json.loads(cell) for cell in cells]
    if pa.types.is_floating(item.type) or pa.types.is_nested(item.type):
        return [_plain(cell) for cell in cells]
    return cells


def _plain(value: object) -> object:
    """`value` with None for every number that JSON does not have: NaN and the infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value


def _json_text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_as_text)


def _as_text(value: object) -> str:
    """Dates, decimals and the like as Python writes them; bytes as text, with escapes where they are none."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _flat(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """A column that fits a cell: lists joined, objects as JSON, text made inert, numbers untouched."""
    if _needs_text(column.type):
        cells = [None if cell is None else _cell_text(cell, column.type) for cell in column.to_pylist()]
        column = pa.chunked_array([pa.array(cells, pa.string())])
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        starts = pc.match_substring_regex(column, r"^[ \x{a0}\x{3000}]*[=+\-@\t\r\n\x00＝＋－＠]")
        if pc.any(starts).as_py():
            return pa.array(
                [None if cell is None else inert(cell) for cell in column.to_pylist()], pa.string()
            )
    return column


def _needs_text(kind: pa.DataType) -> bool:
    """Whether pyarrow's CSV writer refuses the type, or writes bytes that may be no text."""
    checks = (pa.types.is_nested, pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary,
              pa.types.is_binary_view, pa.types.is_string_view, pa.types.is_interval)  # fmt: skip
    return any(check(kind) for check in checks)


def _cell_text(cell: object, kind: pa.DataType) -> str:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if is_list and not pa.types.is_nested(kind.value_type):
        assert isinstance(cell, list)
        return LIST_JOINER.join("" if entry is None else _as_text(entry) for entry in cell)
    return _json_text(_plain(cell)) if pa.types.is_nested(kind) else _as_text(cell)
