"""Parquet files as chunks with their own types. Called by `read`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from manylabel.data.chunks import CHUNK_CHARACTERS, CHUNK_ROWS, Chunk, row_numbers
from manylabel.data.formats import FileFormat, open_bytes
from manylabel.data.problems import Problem, RowProblems, finding
from manylabel.errors import DataError

BUFFER_BYTES = 1 << 20
"""Read ahead of a column, instead of a whole row group of it (23.7 MB became 7.5 MB in a file of 19 MB)."""


@dataclass(frozen=True)
class ParquetReader:
    """One Parquet file; a compressed one (.parquet.gz) is unpacked to a temporary file."""

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
            raise DataError(finding("D109", self.path.name, found, "a different name for each column", step))
        return plain_schema(schema)

    def chunks(self, problems: RowProblems) -> Iterator[Chunk]:
        """All good rows in file order; rows with invalid text are noted in `problems` and left out."""
        first = 1
        with self._open() as file:
            batches = file.iter_batches(batch_size=_rows_at_once(file.metadata))
            for batch in (part for whole in batches for part in small_batches(whole)):
                rows_N = row_numbers(first, batch.num_rows)
                first += batch.num_rows
                yield self._checked(plain_batch(batch, self.schema), Chunk(batch, rows_N), problems)

    @contextmanager
    def _open(self) -> Iterator[pq.ParquetFile]:
        try:
            if self.format.compression:
                with tempfile.TemporaryFile() as unpacked:
                    with open_bytes(self.path, self.format.compression) as stream:
                        shutil.copyfileobj(stream, unpacked)
                    with pq.ParquetFile(unpacked, buffer_size=BUFFER_BYTES, pre_buffer=False) as file:
                        yield file
            else:
                with pq.ParquetFile(self.path, buffer_size=BUFFER_BYTES, pre_buffer=False) as file:
                    yield file
        except (pa.ArrowException, OSError) as problem:
            found, step = "the file is damaged or not Parquet", "write or copy it again"
            raise DataError(
                finding("D116", self.path.name, found, "a complete Parquet file", step)
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


def small_batches(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """`batch` in order in slices of at most CHUNK_CHARACTERS bytes or of one row."""
    if sum(map(_plain_bytes, batch.columns)) <= CHUNK_CHARACTERS or batch.num_rows <= 1:
        yield batch
        return
    half = batch.num_rows // 2
    yield from small_batches(batch.slice(0, half))
    yield from small_batches(batch.slice(half))


def _plain_bytes(column: pa.Array) -> int:
    """Bytes of a column; of categories after each row has its own text."""
    if not pa.types.is_dictionary(column.type) or not _is_text(column.type.value_type):
        return int(column.nbytes)
    lengths = pc.cast(pc.binary_length(column.dictionary), pa.int64())
    return int(pc.sum(lengths.take(column.indices)).as_py() or 0)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _rows_at_once(metadata: pq.FileMetaData) -> int:
    """Rows of about CHUNK_CHARACTERS bytes in the row group with the longest rows, by the file's own sizes."""
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    longest = max((group.total_byte_size / max(1, group.num_rows) for group in groups), default=0.0)
    return int(min(CHUNK_ROWS, max(1.0, CHUNK_CHARACTERS // max(1.0, longest))))


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
