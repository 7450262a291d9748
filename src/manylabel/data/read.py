"""From a file to rows: CSV, TSV, JSONL and Parquet, plain or compressed.

Rows in are rows out plus rows reported: nothing is shifted, dropped or turned into a missing value in
silence. `open_table` streams a file of any size; `read_table` returns it whole; `read_rows` also returns
what was wrong, for callers that report everything at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from manylabel.config.schema import DataSettings
from manylabel.data.chunks import Chunk, Reader
from manylabel.data.delimited import DelimitedReader
from manylabel.data.formats import format_of
from manylabel.data.json_lines import JsonLinesReader
from manylabel.data.parquet import ParquetReader
from manylabel.data.problems import RowProblems
from manylabel.errors import DataError, Finding
from manylabel.values import IntArray


@dataclass(frozen=True)
class TableStream:
    """A file in chunks of at most 8,192 rows, in file order; iterating again reads it again.

    After the last chunk a `DataError` lists every row that could not be used. To know before the first
    chunk, call `check`.
    """

    source: str
    reader: Reader

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""
        return self.reader.schema

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns in file order."""
        return tuple(self.reader.schema.names)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        problems = RowProblems()
        for chunk in self.reader.chunks(problems):
            yield chunk.batch
        _raise_if_any(problems.findings())

    def check(self) -> int:
        """Reads the file once without keeping it and returns its number of rows.

        Raises:
            DataError: listing every row that cannot be used.
        """
        problems = RowProblems()
        num_rows: int = sum(chunk.batch.num_rows for chunk in self.reader.chunks(problems))
        _raise_if_any(problems.findings())
        return num_rows


@dataclass(frozen=True, eq=False)
class Rows:
    """The good rows of a file, their 1-based numbers, and what was wrong with the others."""

    table: pa.Table
    rows_N: IntArray
    findings: tuple[Finding, ...]


def open_table(path: Path, options: DataSettings) -> TableStream:
    """Opens a file for reading in chunks; its columns are known on return.

    Raises:
        DataError: the file cannot be read at all.
    """
    path = Path(path)
    file_format = format_of(path)
    reader: Reader
    if file_format.kind == "parquet":
        reader = ParquetReader(path, file_format)
    elif file_format.kind == "jsonl":
        reader = JsonLinesReader(path, file_format, options.encoding)
    else:
        reader = DelimitedReader(path, file_format, options.encoding, options.header is not False)
    stream = TableStream(path.name, reader)
    _ = stream.schema
    return stream


def read_table(path: Path, options: DataSettings) -> pa.Table:
    """The whole file.

    Raises:
        DataError: listing every row that cannot be used.
    """
    rows = read_rows(path, options)
    _raise_if_any(list(rows.findings))
    return rows.table


def read_rows(path: Path, options: DataSettings) -> Rows:
    """The good rows of a file together with the findings about the others.

    Raises:
        DataError: the file cannot be read at all.
    """
    reader = open_table(path, options).reader
    problems = RowProblems()
    chunks: list[Chunk] = list(reader.chunks(problems))
    table = pa.Table.from_batches([chunk.batch for chunk in chunks], schema=reader.schema)
    numbers = [chunk.rows_N for chunk in chunks]
    rows_N = np.concatenate(numbers) if numbers else np.zeros(0, dtype=np.int64)
    return Rows(table, rows_N, tuple(problems.findings()))


def _raise_if_any(findings: list[Finding]) -> None:
    if findings:
        raise DataError(*findings)
