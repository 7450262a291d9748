"""JSONL files as chunks of typed columns: one JSON object a line, nothing guessed. Called by `read`.

The file is read twice: once for the columns and the type of each (a key may first appear in the last row),
once for the rows. A value of another type than most of its column is reported with its row. A key that is
missing, or null, is an Arrow null. A column of objects is kept as its JSON text.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from manylabel.data.chunks import CHUNK_CHARACTERS, CHUNK_ROWS, NESTED, Chunk
from manylabel.data.formats import FileFormat
from manylabel.data.problems import Problem, RowProblems, finding
from manylabel.data.text_encoding import is_clean, open_text, suggested_encoding
from manylabel.errors import DataError

TYPES: dict[str, pa.DataType] = {
    "text": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "large integer": pa.string(),
    "list of texts": pa.list_(pa.string()),
    "list of integers": pa.list_(pa.int64()),
    "empty list": pa.list_(pa.string()),
    "object": pa.string(),
    "null": pa.string(),
}
AS_JSON = ("object", "large integer")
"""Kinds that are kept as their JSON text."""
FITS = {
    "number": {"integer", "large integer"},
    "list of texts": {"empty list"},
    "list of integers": {"empty list"},
    "large integer": {"integer"},
}
"""Kinds that fit into a column of another kind without loss; a whole number only where a float can hold it."""

INT64_LIMIT = 2**63


class _BadLine(Exception):
    """Why a line is not a usable row: code, what was found, next step."""

    def __init__(self, code: str, found: str, next_step: str) -> None:
        super().__init__(found)
        self.code, self.found, self.next_step = code, found, next_step


@dataclass(frozen=True)
class JsonLinesReader:
    """One JSONL file; may be read more than once."""

    path: Path
    format: FileFormat
    encoding: str

    @cached_property
    def schema(self) -> pa.Schema:
        """All keys of the file in order of appearance, each with the type most of its values have."""
        kinds = self._kinds
        if not kinds:
            self._refuse_without_rows()
        return pa.schema(
            [
                pa.field(name, TYPES[kind], metadata=NESTED if kind in AS_JSON else None)
                for name, kind in kinds.items()
            ]
        )

    def chunks(self, problems: RowProblems) -> Iterator[Chunk]:
        """All good rows in file order; rows left out are noted in `problems`."""
        pending = _Pending(self.schema)
        for number, line in self._lines():
            try:
                row = _parse(line)
            except _BadLine as bad:
                problems.add(self._line_problem(bad), number)
                continue
            misfits = [name for name, value in row.items() if not _fits(value, self._kinds[name])]
            for name in misfits:
                problems.add(self._type_problem(name, row[name]), number)
            if not misfits and pending.add(row, number, len(line)):
                yield pending.flush()
        if pending.rows:
            yield pending.flush()

    def _lines(self) -> Iterator[tuple[int, str]]:
        """Lines that are not blank with their 1-based row number."""
        with open_text(self.path, self.format.compression, self.encoding, newline="\n") as text:
            yield from enumerate((line for line in text if line.strip()), start=1)

    @cached_property
    def _kinds(self) -> dict[str, str]:
        counts: dict[str, Counter[str]] = {}
        for _, line in self._lines():
            try:
                row = _parse(line)
            except _BadLine:
                continue
            for name, value in row.items():
                counts.setdefault(name, Counter())[_kind(value)] += 1
        return {name: _column_kind(counter) for name, counter in counts.items()}

    def _refuse_without_rows(self) -> None:
        problems = RowProblems()
        for number, line in self._lines():
            try:
                _parse(line)
            except _BadLine as bad:
                problems.add(self._line_problem(bad), number)
        empty = finding(
            "D104", self.path.name, "the file has no rows", "at least one row", "check how it was written"
        )
        raise DataError(*(problems.findings() or [empty]))

    def _line_problem(self, bad: _BadLine) -> Problem:
        step = bad.next_step
        if bad.code == "D106":
            step = self._encoding_step
        return Problem(bad.code, self.path.name, bad.found, "one JSON object a line", step)

    def _type_problem(self, name: str, value: object) -> Problem:
        kind = self._kinds[name]
        place = f'{self.path.name}, column "{name}"'
        found = f"the value is of type {_kind(value)}, in most rows it is of type {kind}"
        step = "write all values of the column in one type"
        if kind == "number" and isinstance(value, int) and not isinstance(value, bool):
            found = "a whole number has too many digits for a column of numbers"
            step = "write all values of the column as text"
        return Problem("D115", place, found, kind, step)

    @cached_property
    def _encoding_step(self) -> str:
        suggestion = suggested_encoding(self.path, self.format.compression)
        return f"give --encoding {suggestion}, or save the file as UTF-8"


@dataclass
class _Pending:
    """Rows on their way into a chunk."""

    schema: pa.Schema
    rows: list[dict[str, Any]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    characters: int = 0

    def add(self, row: dict[str, Any], number: int, characters: int) -> bool:
        """Takes a row; True when the chunk is full."""
        self.rows.append(row)
        self.numbers.append(number)
        self.characters += characters
        return len(self.rows) >= CHUNK_ROWS or self.characters >= CHUNK_CHARACTERS

    def flush(self) -> Chunk:
        """The pending rows as a chunk."""
        arrays = [
            pa.array([_stored(row.get(item.name), item) for row in self.rows], item.type)
            for item in self.schema
        ]
        chunk = Chunk(
            pa.RecordBatch.from_arrays(arrays, schema=self.schema), np.asarray(self.numbers, dtype=np.int64)
        )
        self.rows, self.numbers, self.characters = [], [], 0
        return chunk


def _parse(line: str) -> dict[str, Any]:
    """The object on a line, or `_BadLine`."""
    if not is_clean(line):
        raise _BadLine("D106", "bytes that are not valid in the file's encoding", "")
    try:
        row = json.loads(
            line, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite
        )
    except json.JSONDecodeError as problem:
        step = "write one complete object a line, without line breaks inside"
        raise _BadLine("D111", f"the line is not valid JSON ({problem.msg})", step) from None
    except RecursionError:
        raise _BadLine("D111", "the line is nested too deeply", "write flat objects") from None
    except ValueError:
        raise _BadLine(
            "D111", "the line holds a number that is too long", "write long numbers as text"
        ) from None
    if not isinstance(row, dict):
        step = 'write one object a line, as in {"text": "..."}; a JSON array must be split into lines'
        raise _BadLine("D111", f"the line is a JSON {_json_name(row)}, not an object", step)
    if "\\u" in line and not is_clean(json.dumps(row, ensure_ascii=False)):
        raise _BadLine("D113", "half of a surrogate pair (\\ud800 to \\udfff)", "write complete characters")
    return row


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise _BadLine("D114", "a key occurs twice", "remove one of the two")
    return row


def _refuse_constant(name: str) -> object:
    raise _BadLine("D112", f"{name} is not a JSON number", "write null or a number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise _BadLine("D112", "a number is too large", "write a number below 1e308")
    return value


def _json_name(value: object) -> str:
    return {list: "array", str: "string", bool: "boolean", type(None): "null"}.get(type(value), "number")


def _kind(value: object) -> str:
    if isinstance(value, list):
        return _list_kind(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return "integer" if -INT64_LIMIT <= value < INT64_LIMIT else "large integer"
    names = {str: "text", bool: "boolean", float: "number", dict: "object", type(None): "null"}
    return names[type(value)]


def _list_kind(values: list[object]) -> str:
    kinds = {_kind(value) for value in values}
    if not kinds:
        return "empty list"
    return (
        {"text": "list of texts", "integer": "list of integers"}.get(kinds.pop(), "object")
        if len(kinds) == 1
        else ("object")
    )


def _column_kind(counter: Counter[str]) -> str:
    present = {kind: count for kind, count in counter.items() if kind != "null"}
    if not present:
        return "null"
    candidates = {
        kind: count + sum(present.get(fit, 0) for fit in FITS.get(kind, ()))
        for kind, count in present.items()
    }
    return max(candidates, key=lambda kind: (candidates[kind], kind in FITS, kind))


def _fits(value: object, kind: str) -> bool:
    own = _kind(value)
    if kind == "number" and own in FITS[kind]:
        return _is_exact(value)
    return own in (kind, "null") or own in FITS.get(kind, ())


def _is_exact(value: object) -> bool:
    """Whether `value` is a whole number that a float holds exactly; above 2**53 most are not."""
    try:
        return isinstance(value, int) and int(float(value)) == value
    except OverflowError:
        return False


def _stored(value: object, item: pa.Field) -> object:
    if isinstance(value, int) and pa.types.is_floating(item.type):
        return float(value)
    if value is None or not pa.types.is_string(item.type) or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
