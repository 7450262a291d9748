"""CSV and TSV files as chunks of text columns: every cell is kept as written. Called by `read`.

"NA", "null" and "001" stay text, an empty cell is "". A row that does not fit is left out and reported
with its number. Blank lines are no rows, except in a file of one column, where they are empty cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa

from manylabel.data.chunks import CHUNK_CHARACTERS, CHUNK_ROWS, Chunk
from manylabel.data.dialect import Dialect, RawRow, detect_dialect, split_rows, usual_width
from manylabel.data.formats import FileFormat
from manylabel.data.problems import Problem, RowProblems, finding
from manylabel.data.text_encoding import is_clean, open_text, suggested_encoding
from manylabel.errors import DataError, Finding, counted

SAMPLE_CHARACTERS = 8 << 20
SEPARATOR_NAMES = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "|"}


@dataclass(frozen=True)
class DelimitedReader:
    """One CSV or TSV file; may be read more than once."""

    path: Path
    format: FileFormat
    encoding: str
    header: bool

    @cached_property
    def _sample(self) -> str:
        with open_text(self.path, self.format.compression, self.encoding, newline="") as text:
            sample = text.read(SAMPLE_CHARACTERS)
            rest = text.read(1)
        whole = max(sample.rfind("\n"), sample.rfind("\r")) + 1
        return sample[:whole] if rest and whole else sample

    @cached_property
    def dialect(self) -> Dialect:
        """Separator and quoting, found by looking at the file."""
        return detect_dialect(self._sample, "tsv" if self.format.kind == "tsv" else "csv")

    @cached_property
    def schema(self) -> pa.Schema:
        """Text columns with the header's names, or column_1, column_2, ... without a header."""
        first = next((row for row in self._raw_rows() if row.cells or row.defect), None)
        if first is None:
            found, step = "the file has no rows", "check how it was written"
            raise DataError(finding("D104", self.path.name, found, "at least one row", step))
        if self.header:
            names = self._header_names(first)
        else:
            names = [f"column_{number}" for number in range(1, usual_width(self._sample, self.dialect) + 1)]
        return pa.schema([pa.field(name, pa.string()) for name in names])

    def chunks(self, problems: RowProblems) -> Iterator[Chunk]:
        """All good rows in file order; rows left out are noted in `problems`."""
        pending = _Pending(self, problems)
        for number, row in enumerate(self._data_rows(), start=1):
            if row.defect:
                problems.add(self._defect_problem(row), number)
            elif len(row.cells) != len(self.schema):
                problems.add(self._width_problem(len(row.cells)), number)
            elif pending.add(row.cells, number):
                yield pending.flush()
        if pending.rows:
            yield pending.flush()

    def _raw_rows(self) -> Iterator[RawRow]:
        dialect = self.dialect
        with open_text(self.path, self.format.compression, self.encoding, newline="") as text:
            yield from split_rows(text, dialect)

    def _data_rows(self) -> Iterator[RawRow]:
        """Rows below the header, without blank lines; a blank line of a one-column file is an empty cell."""
        rows = self._raw_rows()
        if self.header:
            next(row for row in rows if row.cells)
        for row in rows:
            if row.cells or row.defect:
                yield row
            elif len(self.schema) == 1:
                yield RawRow([""], row.first_line, row.last_line)

    def _header_names(self, first: RawRow) -> list[str]:
        place = f"{self.path.name}, header"
        if first.defect:
            found, step = "a quote in the header is not closed properly", "fix the first line"
            raise DataError(finding("D108", place, found, "column names", step))
        names = [name.strip() or f"column_{index}" for index, name in enumerate(first.cells, start=1)]
        if not all(map(is_clean, names)):
            raise DataError(self._encoding_finding(place))
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            listed = ", ".join(f'"{name}"' for name in repeated)
            found, step = (
                f"column names occur twice: {listed}",
                "rename them, or give --no-header if row 1 is data",
            )
            raise DataError(finding("D109", place, found, "a different name for each column", step))
        return names

    def _width_problem(self, width: int) -> Problem:
        separator = SEPARATOR_NAMES[self.dialect.separator]
        expected = len(self.schema)
        if width > expected:
            step = f'put cells that contain {separator} in double quotes, as in "one, two"'
            step = step if self.dialect.quoted else f"remove the additional {separator[2:]} from the cells"
        else:
            step = "add the missing cells, or remove the row"
        others = "header has" if self.header else "other rows have"
        found = f"{counted(width, 'column')}, but the {others} {expected}"
        return Problem(
            "D107", self.path.name, found, f"{counted(expected, 'column')} separated by {separator}", step
        )

    def _defect_problem(self, row: RawRow) -> Problem:
        lines = (
            f"line {row.first_line}"
            if row.first_line == row.last_line
            else (f"lines {row.first_line:,} to {row.last_line:,}")
        )
        if row.defect == "too_long":
            found, step = (
                f"a cell in {lines} is longer than 64 Mi characters",
                "close the quote that opens it",
            )
        elif row.defect == "unclosed":
            found, step = (
                f"a quote opened in {lines} is never closed",
                'close it, or write "" for a quote in a text',
            )
        else:
            where = "" if row.first_line == row.last_line else f" ({lines} were read as one row)"
            found, step = f"text follows a closing quote{where}", 'write "" for a quote inside a quoted text'
        return Problem("D108", self.path.name, found, "cells with balanced double quotes", step)

    def _encoding_finding(self, place: str) -> Finding:
        problem = self.encoding_problem(place)
        return finding(problem.code, place, problem.found, problem.allowed, problem.next_step)

    def encoding_problem(self, place: str) -> Problem:
        """Bytes at `place` that are not valid in the encoding, with the likely encoding."""
        found = f"bytes that are not {self.encoding.upper()}"
        return Problem("D106", place, found, f"{self.encoding.upper()} text", self._encoding_step)

    @cached_property
    def _encoding_step(self) -> str:
        suggestion = suggested_encoding(self.path, self.format.compression)
        return f"give --encoding {suggestion}, or save the file as UTF-8"


@dataclass
class _Pending:
    """Rows on their way into a chunk."""

    reader: DelimitedReader
    problems: RowProblems
    rows: list[list[str]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    characters: int = 0

    def add(self, cells: list[str], number: int) -> bool:
        """Takes a row; True when the chunk is full."""
        self.rows.append(cells)
        self.numbers.append(number)
        self.characters += sum(map(len, cells))
        return len(self.rows) >= CHUNK_ROWS or self.characters >= CHUNK_CHARACTERS

    def flush(self) -> Chunk:
        """The pending rows as a chunk, without those that could not be decoded."""
        rows, numbers = self.rows, self.numbers
        self.rows, self.numbers, self.characters = [], [], 0
        if not is_clean("".join(chain.from_iterable(rows))):
            kept = [self._decoded(cells, number) for cells, number in zip(rows, numbers, strict=True)]
            rows = [cells for cells, keep in zip(rows, kept, strict=True) if keep]
            numbers = [number for number, keep in zip(numbers, kept, strict=True) if keep]
        schema = self.reader.schema
        columns = list(zip(*rows, strict=True)) or [()] * len(schema)
        arrays = [pa.array(column, pa.string()) for column in columns]
        return Chunk(pa.RecordBatch.from_arrays(arrays, schema=schema), np.asarray(numbers, dtype=np.int64))

    def _decoded(self, cells: list[str], number: int) -> bool:
        bad = [name for name, cell in zip(self.reader.schema.names, cells, strict=True) if not is_clean(cell)]
        for name in bad:
            place = f'{self.reader.path.name}, column "{name}"'
            self.problems.add(self.reader.encoding_problem(place), number)
        return not bad
