"""Whether the first row of a CSV or TSV is data that was taken for column names. Called by `corpus`.

Nothing is decided here: a header is what the user says or the default, and what looks odd is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from manylabel.config.schema import DataSettings
from manylabel.data.formats import format_of_name
from manylabel.data.guessing import CLEAR_SEPARATORS, FLAG_VALUES
from manylabel.data.problems import finding
from manylabel.errors import Finding

MIN_WORDS = 5
"""Column names of so many words are rare; so are texts of fewer."""
MIN_REPEATS = 2
"""Rows of a column that hold its own name, from which the name looks like one more value."""
MIN_SHARE = 0.01
"""And their share of all rows: among thousands of texts some say just what the column is called."""


def data_in_header(table: pa.Table, path: Path, options: DataSettings) -> list[Finding]:
    """A warning where the names of the columns look like a row; none where the user said what the first row is."""
    if options.header is not None or format_of_name(path).kind not in ("csv", "tsv"):
        return []
    if _are_numbered_labels(table.column_names):
        values: list[str] = [name for name in table.column_names if not name.isdecimal()]
    else:
        values = list(table.column_names)
    sentence = any(len(name.split()) >= MIN_WORDS and not _holds_flags(table[name]) for name in values)
    if not (sentence or any(_is_value(table[name], name) for name in values)):
        return []
    found = "the first row was read as column names, but may be data: one of them is a sentence, or a value below it"
    allowed = "names of columns in the first row, or --no-header"
    step = "give --no-header if it is data, --header if it is not"
    return [finding("D129", f"{path.name}, header", found, allowed, step, severity="warning")]


def _are_numbered_labels(names: list[str]) -> bool:
    """Whether several columns are named by different numbers, as the classes of a model are."""
    numbers = [name for name in names if name.isdecimal()]
    return len(numbers) > 1 and len(set(numbers)) == len(numbers)


def _holds_flags(column: pa.ChunkedArray) -> bool:
    """Whether the column is a label's: its name may be a question."""
    values = {
        str(value).casefold() for value in pc.unique(column.slice(0, 1000)).to_pylist() if value is not None
    }
    return values <= set(FLAG_VALUES)


def _is_value(column: pa.ChunkedArray, name: str) -> bool:
    """Whether rows of the column hold its name, or, where it is a list of labels, all that is in it."""
    for separator in CLEAR_SEPARATORS:
        if separator in name and _parts([name], separator) <= _parts(
            column.slice(0, 1000).to_pylist(), separator
        ):
            return True
    same = pc.sum(pc.equal(column, pa.scalar(name, column.type))).as_py()
    return int(same or 0) >= max(MIN_REPEATS, MIN_SHARE * len(column))


def _parts(values: Sequence[object], separator: str) -> set[str]:
    """What stands between the separators of lists."""
    return {part.strip() for value in values for part in str(value).split(separator)}
