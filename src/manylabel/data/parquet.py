"""Parquet files as chunks with their own types. Called by `read`."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from manylabel.data.chunks import CHUNK_ROWS, Chunk, row_numbers
from manylabel.data.formats import FileFormat, open_bytes
from manylabel.data.problems import Problem, RowProblems
from manylabel.errors import DataError, Finding


@dataclass(frozen=True)
class ParquetReader:
    """One Parquet file; a compressed one (.parquet.gz) is unpacked in memory."""

    path: Path
    format: FileFormat

    @cached_property
    def schema(self) -> pa.Schema:
        """The file's schema with text columns as plain strings."""
        with self._open() as file:
            schema = file.schema_arrow
        repeated = sorted({name for name in schema.names if schema.names.count(name) > 1})
        if repeated:
            listed = ", ".join(f'"{name}"' for name in repeated)
            found, step = f"column names occur twice: {listed}", "rename them"
            raise DataError(Finding("D109", self.path.name, found, "a different name for each column", step))
        return plain_schema(schema)

    def chunks(self, problems: RowProblems) -> Iterator[Chunk]:
        """All good rows in file order; rows with invalid text are noted in `problems` and left out."""
        first = 1
        with self._open() as file:
            for batch in file.iter_batches(batch_size=CHUNK_ROWS):
                rows_N = row_numbers(first, batch.num_rows)
                first += batch.num_rows
                yield self._checked(plain_batch(batch, self.schema), Chunk(batch, rows_N), problems)

    @contextmanager
    def _open(self) -> Iterator[pq.ParquetFile]:
        try:
            if self.format.compression:
                with open_bytes(self.path, self.format.compression) as stream:
                    yield pq.ParquetFile(io.BytesIO(stream.read()))
            else:
                with pq.ParquetFile(self.path) as file:
                    yield file
        except (pa.ArrowException, OSError) as problem:
            found, step = "the file is damaged or not Parquet", "write or copy it again"
            raise DataError(
                Finding("D116", self.path.name, found, "a complete Parquet file", step)
            ) from problem

    def _checked(self, batch: pa.RecordBatch, chunk: Chunk, problems: RowProblems) -> Chunk:
        bad = [index for index in range(batch.num_columns) if not _is_valid(batch.column(index))]
        keep = [True] * batch.num_rows
        for index in bad:
            place = f'{self.path.name}, column "{batch.schema.names[index]}"'
            problem = Problem(
                "D106", place, "bytes that are not UTF-8", "UTF-8 text", "write the file again as UTF-8"
            )
            rows = [row for row in range(batch.num_rows) if not _is_valid(batch.column(index).slice(row, 1))]
            problems.extend(problem, chunk.rows_N[rows])
            for row in rows:
                keep[row] = False
        return Chunk(batch.filter(pa.array(keep)), chunk.rows_N[keep]) if bad else Chunk(batch, chunk.rows_N)


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """`schema` with categories, views and large strings as plain strings."""
    return pa.schema([pa.field(item.name, _plain_type(item.type)) for item in schema])


def plain_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """`batch` in the types of `schema`."""
    arrays = [column.cast(item.type) for column, item in zip(batch.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind):
        return pa.list_(_plain_type(kind.value_type))
    return kind


def _is_valid(column: pa.Array) -> bool:
    if not (pa.types.is_string(column.type) or pa.types.is_list(column.type)):
        return True
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True
