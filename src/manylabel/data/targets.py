"""From label cells to 1, 0 and -1; every cell that is none of them is reported by row. Called by `corpus`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manylabel.data.guessing import FLAG_VALUES, split_cell
from manylabel.data.layout import Layout, did_you_mean
from manylabel.data.problems import Problem, RowProblems, near_name, shown_value
from manylabel.values import NOT_ANNOTATED, IntArray, LabelSet

MAX_KINDS_SHOWN = 20
"""Different wrong values of a column listed one by one; the rest are summed up in one finding."""
ALLOWED = "1 (carries the label), 0 (does not) or -1 (not annotated)"


@dataclass(frozen=True, eq=False)
class LabelledTable:
    """What both label styles need: the table, its layout, its name and the 1-based numbers of its rows."""

    table: pa.Table
    layout: Layout
    source: str
    rows_N: IntArray
    is_named: bool = False
    """Whether the user named the label columns."""


def one_hot_targets(data: LabelledTable, labels: LabelSet, problems: RowProblems) -> IntArray:
    """int8 of N rows and L labels from one column a label; columns are matched by name.

    A label without column is an error, a label column unknown to `labels` a warning.
    """
    targets_NL = np.full((data.table.num_rows, len(labels)), NOT_ANNOTATED, dtype=np.int8)
    known = data.table.column_names
    for index, name in enumerate(labels.names):
        if name in known:
            targets_NL[:, index] = _flags(data, name, problems)
    if missing := [name for name in labels.names if name not in known]:
        layout = data.layout
        taken = {layout.text_column, layout.pair_column, layout.id_column, layout.group_column, *labels.names}
        taken |= {*layout.translation_columns}
        problems.add(missing_columns(data.source, missing, known, taken=taken))
    for name in data.layout.label_columns:
        if name not in labels.names:
            place = f'{data.source}, column "{name}"'
            found, step = "the model does not know this label; the column is not used", "check the name"
            problems.add(Problem("D151", place, found, ", ".join(labels.names), step, "warning"))
    return targets_NL


def listed_targets(data: LabelledTable, labels: LabelSet, problems: RowProblems) -> IntArray:
    """int8 of N rows and L labels from one column of separated labels or lists; a label not named is 0."""
    column = data.layout.labels_column
    if column is None or column not in data.table.column_names:
        found = f'there is no column "{column}" with the labels'
        problems.add(
            Problem("D150", data.source, found, ", ".join(data.table.column_names), "give --labels-column")
        )
        return np.full((data.table.num_rows, len(labels)), NOT_ANNOTATED, dtype=np.int8)
    targets_NL = np.zeros((data.table.num_rows, len(labels)), dtype=np.int8)
    positions = _positions(data.layout, labels)
    unknown: dict[str, list[int]] = {}
    empty: list[int] = []
    for row, cell in enumerate(_cells(data, column)):
        if cell is None:
            empty.append(row)
            continue
        for token in cell:
            position = positions.get(token)
            if position is None:
                unknown.setdefault(token, []).append(row)
            else:
                targets_NL[row, position] = 1
    place = f'{data.source}, column "{column}"'
    _report_unknown(data, place, unknown, (labels, problems))
    step = "write [] or an empty text for a row without labels"
    problems.extend(
        Problem("D153", place, "the value is missing (null)", "a list of labels", step), data.rows_N[empty]
    )
    return targets_NL


def missing_columns(
    source: str, missing: Sequence[str], known: Sequence[str], *, taken: Collection[str | None] = ()
) -> Problem:
    """One problem for all the labels that have no column among `known`, with the names they may go by.

    Columns in `taken` hold something else, such as the texts, and are nobody's misspelt label.
    """
    listed = ", ".join(f'"{name}"' for name in missing)
    found = f"no column for the label{'s' if len(missing) > 1 else ''} {listed}"
    free = [name for name in known if name not in taken]
    near = [(name, near_name(name, free)) for name in missing]
    likely = [f'"{other}" for "{name}"' for name, other in near if other is not None]
    step = "rename or add the columns; -1 means not annotated"
    if len(missing) == 1:
        step = did_you_mean(missing[0], free) or "rename or add the column; -1 means not annotated"
    elif likely:
        step = f"did you mean {', '.join(likely)}?"
    return Problem("D150", source, found, ", ".join(known), step)


def _flags(data: LabelledTable, name: str, problems: RowProblems) -> IntArray:
    """One label column as int8; wrong cells are reported and become -1."""
    column = data.table[name]
    place = f'{data.source}, column "{name}"'
    if pa.types.is_nested(column.type):
        step = "give a column of lists with --labels-column"
        problems.add(Problem("D152", place, "the column holds lists or objects", ALLOWED, step))
        return np.full(len(column), NOT_ANNOTATED, dtype=np.int8)
    encoded = pc.dictionary_encode(column.combine_chunks(), null_encoding="encode")
    codes_N = encoded.indices.to_numpy(zero_copy_only=False)
    flags = np.full(max(1, len(encoded.dictionary)), NOT_ANNOTATED, dtype=np.int8)
    wrong: dict[str, list[int]] = {}
    for code, value in enumerate(encoded.dictionary.to_pylist()):
        flag = None if value is None else FLAG_VALUES.get(str(value).strip().casefold())
        if flag is None:
            found = _wrong_flag(value, data.is_named)
            wrong.setdefault(found, []).append(code)
        else:
            flags[code] = flag
    for index, (found, wrong_codes) in enumerate(wrong.items()):
        shown = found if index < MAX_KINDS_SHOWN else "other values that are not 0, 1 or -1"
        step = (
            "write 0 or 1, or -1 if nobody looked"
            if "empty" in found
            else ("correct the cells, or name only the label columns with --label-columns")
        )
        problems.extend(
            Problem("D152", place, shown, ALLOWED, step), data.rows_N[np.isin(codes_N, wrong_codes)]
        )
    targets_N: IntArray = flags[codes_N]
    return targets_N


def _wrong_flag(value: object, is_named: bool) -> str:
    if value is None or str(value).strip() == "":
        return "the cell is empty"
    return f"the value is {shown_value(value, is_named=is_named)}"


def _positions(layout: Layout, labels: LabelSet) -> Mapping[str, int]:
    """Token in a cell to column of the targets."""
    by_name = {name: index for index, name in enumerate(labels.names)}
    if not layout.ids_are_indices:
        return by_name
    return {str(index): by_name[name] for index, name in enumerate(layout.label_names) if name in by_name}


def _cells(data: LabelledTable, column: str) -> list[list[str] | None]:
    """The labels of each row; None where the cell is null."""
    values = data.table[column]
    cells: list[list[str] | None]
    if pa.types.is_list(values.type):
        cells = [
            None
            if cell is None
            else [str(label) for label in cell if label is not None and str(label).strip()]
            for cell in values.to_pylist()
        ]
    else:
        separator = data.layout.separator
        texts = [None if value is None else str(value) for value in values.to_pylist()]
        cells = [None if text is None else split_cell(text, separator) for text in texts]
    if data.layout.ids_are_indices:
        cells = [cell and [_plain_number(token) for token in cell] for cell in cells]
    return cells


def _plain_number(token: str) -> str:
    """A position without leading zeros."""
    return token.lstrip("0") or "0" if token.isdecimal() else token


def _report_unknown(
    data: LabelledTable, place: str, unknown: Mapping[str, list[int]], where: tuple[LabelSet, RowProblems]
) -> None:
    labels, problems = where
    allowed = (
        f"0 to {len(data.layout.label_names) - 1}" if data.layout.ids_are_indices else ", ".join(labels.names)
    )
    for index, (token, rows) in enumerate(unknown.items()):
        found, step = "other unknown labels", "correct the cells, or add the label to the names"
        if index < MAX_KINDS_SHOWN:
            near = () if data.layout.ids_are_indices else labels.names
            found = f"unknown label {shown_value(token, known=near, is_named=data.is_named)}"
            step = did_you_mean(token, near) or step
        problems.extend(Problem("D154", place, found, allowed, step), data.rows_N[rows])
