"""How a CSV or TSV file separates and quotes its cells, found by looking at it. Called by `delimited`.

Rows are split by Python's `csv` in strict mode: of the readers tried, it alone refuses text after a closing
quote and a quote that is never closed, where pyarrow drops characters or joins rows without a word.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

SEPARATORS = (",", ";", "\t", "|")
MAX_CELL_CHARACTERS = 64 << 20
SEPARATOR_AGREEMENT = 0.9
"""Share of the rows that must have as many cells as the first for a separator other than the usual one."""

csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL_CHARACTERS))


@dataclass(frozen=True)
class Dialect:
    """`separator` between cells; `quoted` says whether double quotes enclose cells or are plain text."""

    separator: str
    quoted: bool


@dataclass(frozen=True)
class RawRow:
    """The cells of a row, or why it has none; lines count from 1 and include the header."""

    cells: list[str]
    first_line: int
    last_line: int
    defect: Literal["", "unclosed", "after_quote", "too_long"] = ""


def split_rows(lines: Iterable[str], dialect: Dialect) -> Iterator[RawRow]:
    """All rows of a file in order, blank lines included (as rows without cells)."""
    if not dialect.quoted:
        for number, line in enumerate(lines, start=1):
            content = line.rstrip("\r\n")
            yield RawRow(content.split(dialect.separator) if content else [], number, number)
        return
    reader = csv.reader(lines, delimiter=dialect.separator, strict=True)
    while True:
        first_line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as problem:
            yield RawRow([], first_line, reader.line_num, _defect(str(problem)))
        else:
            yield RawRow(cells, first_line, reader.line_num)


def detect_dialect(sample: str, kind: Literal["csv", "tsv"]) -> Dialect:
    """Separator and quoting of a file from its beginning (whole lines).

    A `.csv` has quoting, and the first separator of SEPARATORS that splits it evenly. A `.tsv` has tabs if it
    has any, and quoting only if that fits: in many of them quotes are plain text.
    """
    lines = _lines(sample)
    if kind == "tsv" and (any("\t" in line for line in lines) or not _agreement(lines, _separator(lines))):
        return Dialect("\t", _tabs_are_quoted(lines))
    return Dialect(_separator(lines), quoted=True)


def usual_width(sample: str, dialect: Dialect) -> int:
    """The number of cells most rows have."""
    widths = Counter(len(row.cells) for row in split_rows(_lines(sample), dialect) if row.cells)
    return widths.most_common(1)[0][0] if widths else 0


def _lines(sample: str) -> list[str]:
    return list(io.StringIO(sample, newline=""))


def _separator(lines: list[str]) -> str:
    usual = SEPARATORS[0]
    if _agreement(lines, usual) >= SEPARATOR_AGREEMENT:
        return usual
    others = {separator: _agreement(lines, separator) for separator in SEPARATORS[1:]}
    best = max(others, key=lambda separator: others[separator])
    clear = others[best] >= SEPARATOR_AGREEMENT and list(others.values()).count(others[best]) == 1
    return best if clear and others[best] > _agreement(lines, usual) else usual


def _agreement(lines: list[str], separator: str) -> float:
    """Share of rows with as many cells as the first, 0 when the first has one cell."""
    rows = [row for row in split_rows(lines, Dialect(separator, quoted=True)) if row.cells or row.defect]
    if not rows or len(rows[0].cells) < 2:
        return 0.0
    width = len(rows[0].cells)
    return sum(len(row.cells) == width for row in rows) / len(rows)


def _tabs_are_quoted(lines: list[str]) -> bool:
    if not any('"' in line for line in lines):
        return False
    plain = list(split_rows(lines, Dialect("\t", quoted=False)))
    quoted = list(split_rows(lines, Dialect("\t", quoted=True)))
    bad_plain, bad_quoted = _uneven(plain), _uneven(quoted)
    if bad_plain != bad_quoted:
        return bad_quoted < bad_plain
    return _looks_quoted(plain)


def _uneven(rows: list[RawRow]) -> int:
    """Rows that are defect or have another number of cells than the first."""
    return sum(
        bool(row.defect) or len(row.cells) != len(rows[0].cells) for row in rows if row.cells or row.defect
    )


def _looks_quoted(plain: list[RawRow]) -> bool:
    """Whether a program wrote the quotes.

    It did where all cells of the first row are in them, or where every cell with a quote is and they enclose whole
    columns or are doubled inside.
    """
    first = next((row.cells for row in plain if row.cells), [])
    if len(first) > 1 and all(map(_is_enclosed, first)):
        return True
    with_quotes = [cell for row in plain for cell in row.cells if '"' in cell]
    if not all(_is_enclosed(cell) for cell in with_quotes):
        return False
    columns = zip(*(row.cells for row in plain if row.cells), strict=False)
    whole_column = any(all(map(_is_enclosed, column)) for column in columns)
    return whole_column or any('""' in cell[1:-1] for cell in with_quotes)


def _is_enclosed(cell: str) -> bool:
    """Whether a cell is in quotes and each quote inside is doubled."""
    return len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in cell[1:-1].replace('""', "")


def _defect(message: str) -> Literal["unclosed", "after_quote", "too_long"]:
    """The kind of a `csv.Error` by its message."""
    if "end of data" in message:
        return "unclosed"
    return "too_long" if "limit" in message else "after_quote"
