"""Guesses about columns from their names and values. Called by `layout`, which shows every guess.

A guess that would be a coin toss is refused with the flag that settles it.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from manylabel.config.schema import DataSettings
from manylabel.data.problems import finding
from manylabel.errors import DataError

USUAL_TEXT = [
    *(
        "text",
        "comment_text",
        "comment",
        "body",
        "message",
        "content",
        "sentence",
        "tweet",
        "review",
        "utterance",
    ),
    *("document", "description", "post", "text_a", "sentence1", "premise", "question1", "text1", "question"),
]
USUAL_PAIRS = {
    "text_a": "text_b",
    "text1": "text2",
    "sentence1": "sentence2",
    "premise": "hypothesis",
    "question1": "question2",
}
USUAL_IDS = ["id", "row_id", "text_id", "comment_id", "message_id", "uuid", "guid", "key", "index"]
USUAL_LABELS = [
    *("labels", "label", "tags", "tag", "categories", "category", "topics", "classes", "emotions", "genres"),
    *("intents", "label_ids"),
]
CLEAR_SEPARATORS = ("|", ";", ",")
POSSIBLE_SEPARATORS = ("/", "+", " ")
"""Also common inside names; they count only where splitting leaves fewer different labels than cells."""
ONE_HOT_SHARE = 0.5
"""Share of 0/1/-1 values from which a column is taken for a label, so that its wrong values are reported."""
CLEAR_LEAD = 0.8
"""The longest column is the text if the second longest has less than this share of its mean length."""
MAX_LABELS = 2000
FLAG_VALUES = {"0": 0, "1": 1, "-1": -1, "0.0": 0, "1.0": 1, "-1.0": -1, "false": 0, "true": 1}
"""Spellings of a target in lower case."""


@dataclass(frozen=True)
class Columns:
    """Questions about the columns of a table, each answered once."""

    table: pa.Table
    source: str

    @property
    def names(self) -> list[str]:
        """All column names in order."""
        return [str(name) for name in self.table.column_names]

    def by_usual_name(self, usual: tuple[str, ...] | list[str]) -> list[str]:
        """Columns whose lower-case name is in `usual`, in the order of `usual`."""
        folded = {name.casefold(): name for name in reversed(self.names)}
        return [folded[name] for name in usual if name in folded]

    def is_text(self, name: str) -> bool:
        """Whether the column holds plain text (not JSON text of objects)."""
        item = self.table.schema.field(name)
        return bool(pa.types.is_string(item.type)) and not item.metadata

    def is_list(self, name: str) -> bool:
        """Whether the column holds lists."""
        return bool(pa.types.is_list(self.table.schema.field(name).type))

    def is_scalar(self, name: str) -> bool:
        """Whether the column holds single values, not lists, objects or nothing at all."""
        kind = self.table.schema.field(name).type
        return not (pa.types.is_nested(kind) or pa.types.is_null(kind))

    def mean_length(self, name: str) -> float:
        """Mean characters of a text column."""
        mean = pc.mean(pc.utf8_length(self.table[name])).as_py()
        return float(mean or 0.0)

    def distinct(self, name: str) -> Counter[str]:
        """How often each value of a scalar column occurs, nulls and empty cells left out."""
        if pa.types.is_nested(self.table.schema.field(name).type):
            return Counter()
        counts = pc.value_counts(self.table[name])
        pairs = zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)
        return Counter({str(value): count for value, count in pairs if value is not None and value != ""})

    def num_distinct(self, name: str) -> int:
        """Number of different values, nulls left out."""
        return int(pc.count_distinct(self.table[name]).as_py())


@dataclass(frozen=True)
class LabelColumns:
    """Where the labels are, in the words of `Layout`."""

    style: Literal["one_hot", "separated", "list"]
    label_names: tuple[str, ...]
    label_columns: tuple[str, ...] = ()
    labels_column: str | None = None
    separator: str | None = None
    ids_are_indices: bool = False


def text_column(columns: Columns, taken: set[str]) -> str:
    """The column with the text: by a usual name, else the one with clearly the longest texts."""
    candidates = [name for name in columns.names if name not in taken and columns.is_text(name)]
    usual = [name for name in columns.by_usual_name(USUAL_TEXT) if name in candidates]
    if usual:
        return usual[0]
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        step = "name it with --text-column"
        raise DataError(
            finding("D123", columns.source, "no column holds text", "a column with the texts", step)
        )
    lengths = sorted(((columns.mean_length(name), name) for name in candidates), reverse=True)
    (longest, name), (second, other) = lengths[0], lengths[1]
    if longest == 0 or second > CLEAR_LEAD * longest:
        found = f'the text column cannot be guessed ("{name}" and "{other}" are about as long)'
        step = f'give it, for example --text-column "{name}"'
        raise DataError(finding("D123", columns.source, found, ", ".join(columns.names), step))
    return name


def pair_column(columns: Columns, text: str) -> str | None:
    """The second text of a pair, only when both columns have usual names (text_a and text_b)."""
    partner = USUAL_PAIRS.get(text.casefold())
    found = columns.by_usual_name([partner]) if partner else []
    return found[0] if found and columns.is_text(found[0]) else None


def usual_id_column(columns: Columns, taken: set[str]) -> str | None:
    """A column named as ids are and mostly unique; the few repeated ids are then reported."""
    for name in columns.by_usual_name(USUAL_IDS):
        scalar = name not in taken and columns.is_scalar(name)
        if scalar and columns.num_distinct(name) * 2 > columns.table.num_rows:
            return name
    return None


def unique_column(columns: Columns, taken: set[str]) -> str | None:
    """The only column of short words that are all different, if there is exactly one."""
    if columns.table.num_rows < 3:
        return None
    unique = [name for name in columns.names if name not in taken and _is_unique_word(columns, name)]
    return unique[0] if len(unique) == 1 else None


def label_columns(
    columns: Columns, taken: set[str], options: DataSettings, names: tuple[str, ...], wanted: tuple[str, ...]
) -> LabelColumns:
    """Where the labels are: given, a model's label names, 0/1 columns, lists, or one separated column."""
    if options.label_columns is not None:
        return LabelColumns("one_hot", options.label_columns, label_columns=options.label_columns)
    if options.labels_column is not None:
        return _one_column(columns, options.labels_column, options, names)
    free = [name for name in columns.names if name not in taken]
    if not (names or options.label_separator):
        one_hot = tuple(name for name in free if name and (name in wanted or _is_one_hot(columns, name)))
        if one_hot:
            return LabelColumns("one_hot", one_hot, label_columns=one_hot)
    return _one_column(columns, _labels_column(columns, free, set(names)), options, names)


def split_cell(cell: str, separator: str | None) -> list[str]:
    """The labels in a text cell: a JSON or Python list, or parts between separators without outer spaces."""
    if separator is None:
        return _listed(cell) or []
    return [part.strip() for part in cell.split(separator) if part.strip()]


def order_names(names: set[str]) -> tuple[str, ...]:
    """Label names in a stable order: by number when all are whole numbers, else by code point."""
    if all(re.fullmatch(r"-?\d{1,18}", name) for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _is_unique_word(columns: Columns, name: str) -> bool:
    if columns.is_list(name) or not columns.is_text(name) or columns.mean_length(name) > 64:
        return False
    values = columns.table[name]
    if columns.num_distinct(name) < len(values) or values.null_count:
        return False
    return not pc.any(pc.match_substring_regex(values, r"\s|^$")).as_py()


def _is_one_hot(columns: Columns, name: str) -> bool:
    counts = columns.distinct(name)
    total = sum(counts.values())
    good = sum(count for value, count in counts.items() if value.strip().casefold() in FLAG_VALUES)
    return total > 0 and good >= ONE_HOT_SHARE * total


def _labels_column(columns: Columns, free: list[str], names: set[str]) -> str:
    usual = [name for name in columns.by_usual_name(USUAL_LABELS) if name in free]
    lists = [name for name in free if columns.is_list(name)]
    small = [name for name in free if _has_small_vocabulary(columns, name)]
    named = [name for name in free if names and _holds_only(columns, name, names)]
    for candidates in (usual[:1], named, lists, small):
        if len(candidates) == 1:
            return candidates[0]
    found = (
        "the labels cannot be found: no 0/1 columns, no column of lists and no single column of label names"
    )
    step = "give --label-columns a,b,c or --labels-column NAME (and --label-separator)"
    raise DataError(finding("D124", columns.source, found, ", ".join(columns.names), step))


def _holds_only(columns: Columns, name: str, names: set[str]) -> bool:
    """Whether the cells are made of these names, or of positions among them."""
    counts = columns.distinct(name)
    separator = _separator(counts)
    labels = {label for cell in counts for label in split_cell(cell, separator)}
    positions = all(label.isdecimal() and int(label) < len(names) for label in labels)
    return bool(labels) and (labels <= names or positions)


def _has_small_vocabulary(columns: Columns, name: str) -> bool:
    counts = columns.distinct(name)
    if not counts or not columns.is_text(name):
        return False
    separator = _separator(counts)
    labels = {label for cell in counts for label in split_cell(cell, separator)}
    total = sum(counts.values())
    short = all(len(label) <= 60 for label in labels)
    return short and len(labels) <= min(MAX_LABELS, max(2, total // 2))


def _one_column(columns: Columns, name: str, options: DataSettings, names: tuple[str, ...]) -> LabelColumns:
    if columns.is_list(name):
        return _list_column(columns, name, names)
    counts = columns.distinct(name)
    separator = options.label_separator or _separator(counts)
    labels = {label for cell in counts for label in split_cell(cell, separator)}
    style: Literal["separated", "list"] = "list" if separator is None else "separated"
    return _settled(columns.source, style, name, separator, (labels, names))


def _list_column(columns: Columns, name: str, names: tuple[str, ...]) -> LabelColumns:
    values = pc.list_flatten(columns.table[name].combine_chunks())
    if pa.types.is_nested(values.type):
        found, allowed = f"it holds lists of {values.type}", "lists of label names"
        step = "give another column with --labels-column"
        raise DataError(finding("D124", f'{columns.source}, column "{name}"', found, allowed, step))
    labels = {str(value) for value in pc.unique(values).to_pylist() if value is not None}
    labels = {label for label in labels if label.strip()}
    return _settled(columns.source, "list", name, None, (labels, names))


def _settled(
    source: str,
    style: Literal["separated", "list"],
    column: str,
    separator: str | None,
    found_and_named: tuple[set[str], tuple[str, ...]],
) -> LabelColumns:
    labels, names = found_and_named
    if not (labels or names):
        step = "check the column, or give another with --labels-column"
        raise DataError(
            finding("D124", f'{source}, column "{column}"', "it holds no label", "label names", step)
        )
    indices = (
        bool(names) and not labels & set(names) and all(re.fullmatch(r"\d{1,9}", label) for label in labels)
    )
    ordered = names or order_names(labels)
    return LabelColumns(style, ordered, labels_column=column, separator=separator, ids_are_indices=indices)


def _separator(counts: Counter[str]) -> str | None:
    """What separates labels in these cells; None when all cells are written-out lists."""
    if counts and all(_listed(cell) is not None for cell in counts):
        return None
    for separator in CLEAR_SEPARATORS:
        if any(separator in cell for cell in counts):
            return separator
    for separator in POSSIBLE_SEPARATORS:
        if len({part for cell in counts for part in split_cell(cell, separator)}) < len(counts):
            return separator
    return ","


def _listed(cell: str) -> list[str] | None:
    """The entries of a list written as JSON or as Python writes it; None for anything else."""
    text = cell.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            values = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if all(isinstance(value, str | int) and not isinstance(value, bool) for value in values):
            return [str(value) for value in values if str(value).strip()]
    return None
