"""Which column holds what, given by flags or guessed from the table, and shown either way.

Called by `corpus`, by prediction and by the commands; a layout is stored in every model as plain JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, cast

import pyarrow as pa

from manylabel.config.schema import DataSettings
from manylabel.data import guessing
from manylabel.data.guessing import Columns
from manylabel.data.problems import finding, near_name
from manylabel.errors import DataError
from manylabel.values import LabelSet

Style = Literal["one_hot", "separated", "list"]
Origin = Literal["given", "guessed"]

FLAGS = {
    "text_column": "--text-column",
    "pair_column": "--pair-column",
    "id_column": "--id-column",
    "group_column": "--group-column",
    "translation_columns": "--translation-columns",
    "labels_column": "--labels-column",
    "label_columns": "--label-columns",
}


@dataclass(frozen=True)
class Layout:
    """Which column holds what.

    `style` is "one_hot" (one 0/1 column a label), "separated" (one column, labels joined by `separator`) or
    "list" (one column of lists). `label_names` are the labels in order; `ids_are_indices` says that cells
    hold 0-based positions in it. `given` names the fields set by flags or a model; the rest is guessed, except
    `translation_columns`, the text in other words: those are never guessed.
    """

    text_column: str
    style: Style
    label_names: tuple[str, ...]
    pair_column: str | None = None
    id_column: str | None = None
    group_column: str | None = None
    label_columns: tuple[str, ...] = ()
    labels_column: str | None = None
    separator: str | None = None
    ids_are_indices: bool = False
    header: bool = True
    ignored_columns: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    translation_columns: tuple[str, ...] = ()

    def describe(self) -> list[tuple[str, str, Origin]]:
        """What is shown to the user: (what, value, "given" or "guessed") in reading order."""
        labels = {
            "one_hot": ", ".join(self.label_columns),
            "separated": f'{self.labels_column} (separated by "{self.separator}")',
            "list": f"{self.labels_column} (a list)",
        }[self.style]
        label_field = "label_columns" if self.style == "one_hot" else "labels_column"
        rows = [
            ("text", self.text_column, "text_column"),
            ("pair", self.pair_column, "pair_column"),
            ("id", self.id_column, "id_column"),
            ("group", self.group_column, "group_column"),
            ("translations", ", ".join(self.translation_columns) or None, "translation_columns"),
            ("labels", labels, label_field),
            ("not used", ", ".join(self.ignored_columns) or None, "ignored_columns"),
        ]
        return [(what, value, self._origin(name)) for what, value, name in rows if value is not None]

    def to_json(self) -> dict[str, Any]:
        """The layout as plain values for a JSON file; without translation columns none are named."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        if not self.translation_columns:
            del values["translation_columns"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Layout:
        """The layout that `to_json` wrote.

        Raises:
            TypeError: a field is missing or unknown.
        """
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()
        }
        return cls(**values)

    def _origin(self, name: str) -> Origin:
        return "given" if name in self.given else "guessed"


@dataclass(frozen=True)
class PredictionColumns:
    """The columns prediction needs; `pair`, `id` and `translations` only when the file has them."""

    text: str
    pair: str | None = None
    id: str | None = None
    translations: tuple[str, ...] = ()


def guess_layout(
    table: pa.Table,
    options: DataSettings,
    source: str,
    *,
    labels: LabelSet | None = None,
    stored: Layout | None = None,
) -> Layout:
    """The layout of `table`: what `options` give, then what `stored` (a model's layout) says, then guesses.

    Args:
        table: The whole file.
        options: Flags of the user; what is None is open.
        source: File name for messages.
        labels: Labels of an existing model; columns with these names are label columns.
        stored: A model's layout; used for open options whose columns exist here.

    Returns:
        A layout whose columns all exist in `table`.

    Raises:
        DataError: a named column does not exist, or something cannot be guessed; with the flag to give.
    """
    _check_names(table.column_names, options, source)
    columns = Columns(table, source)
    options, given = _with_stored(options, stored, table.column_names)
    text = options.text_column or guessing.text_column(columns, _named(options))
    pair = options.pair_column or guessing.pair_column(columns, text)
    names = _label_names(options, stored, source)
    taken = {name for name in (text, pair, options.id_column, options.group_column) if name is not None}
    taken |= set(options.translation_columns or ())
    id_column = options.id_column or guessing.usual_id_column(columns, taken | _named(options))
    if id_column is not None:
        taken.add(id_column)
    found = guessing.label_columns(columns, taken, options, names, labels.names if labels else ())
    used = taken | set(found.label_columns) | ({found.labels_column} if found.labels_column else set())
    if id_column is None:
        id_column = guessing.unique_column(columns, used)
        used |= {id_column} if id_column else set()
    return Layout(
        text_column=text,
        pair_column=pair,
        id_column=id_column,
        group_column=options.group_column,
        translation_columns=options.translation_columns or (),
        style=found.style,
        label_names=found.label_names,
        label_columns=found.label_columns,
        labels_column=found.labels_column,
        separator=found.separator,
        ids_are_indices=found.ids_are_indices,
        header=options.header is not False,
        ignored_columns=tuple(name for name in table.column_names if name not in used),
        given=given,
    )


def prediction_columns(
    table: pa.Table | pa.RecordBatch, options: DataSettings, source: str, *, stored: Layout | None = None
) -> PredictionColumns:
    """The columns to predict from; `table` may be the first chunk of a stream.

    The order of precedence is the user's flags, the model's layout, a guess.

    Raises:
        DataError: a named column does not exist or the text column cannot be guessed.
    """
    _check_names(table.column_names, options, source)
    if isinstance(table, pa.RecordBatch):
        table = pa.Table.from_batches([table])
    needs_pair = stored is not None and stored.pair_column is not None
    options, _ = _with_stored(options, stored, table.column_names)
    columns = Columns(table, source)
    text = options.text_column or guessing.text_column(columns, _named(options))
    pair = options.pair_column
    if needs_pair and pair is None:
        found = "the model was trained on text pairs, and the file has no such second column"
        step = "give it with --pair-column"
        raise DataError(finding("D120", source, found, ", ".join(table.column_names), step))
    translations = options.translation_columns or ()
    taken = {text, pair or text, *translations}
    identity = options.id_column or guessing.usual_id_column(columns, taken)
    return PredictionColumns(
        text, pair, identity or guessing.unique_column(columns, taken), translations=translations
    )


def with_stored_header(options: DataSettings, stored: Layout | None) -> DataSettings:
    """`options` with an open `header` as in `stored`, a model's layout; what the user said stays.

    Called before a file is opened, because what row 1 is decides the names of the columns.
    """
    if stored is None or options.header is not None:
        return options
    return options.model_copy(update={"header": stored.header})


def did_you_mean(name: str, known: tuple[str, ...] | list[str]) -> str:
    """`did you mean "text"?`, or the empty string when nothing is near."""
    near = near_name(name, known)
    return "" if near is None else f'did you mean "{near}"?'


def _named(options: DataSettings) -> set[str]:
    """Columns that flags already use for something other than the text."""
    single = (options.pair_column, options.id_column, options.group_column, options.labels_column)
    several = (*(options.label_columns or ()), *(options.translation_columns or ()))
    return {name for name in (*single, *several) if name is not None}


def _check_names(known: list[str], options: DataSettings, source: str) -> None:
    """Raises one finding for every column that a flag names and the table lacks."""
    asked = [(flag, name) for field, flag in FLAGS.items() for name in _as_tuple(getattr(options, field))]
    names = [name for _, name in asked]
    findings = [
        finding(
            "D125", source, f'the column "{name}" is given twice', "each column once", "remove one of the two"
        )
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    findings += [
        finding(
            "D121",
            source,
            f'there is no column "{name}" ({flag})',
            ", ".join(known),
            did_you_mean(name, known) or "give one of these names",
        )
        for flag, name in asked
        if name not in known
    ]
    if options.label_columns is not None and not all(options.label_columns or [""]):
        allowed, step = "names of columns, as in --label-columns a,b,c", "name the columns, or leave it out"
        findings.append(finding("D126", source, "a label column without name is given", allowed, step))
    if findings:
        raise DataError(*findings)


def _as_tuple(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


def _with_stored(
    options: DataSettings, stored: Layout | None, known: list[str]
) -> tuple[DataSettings, tuple[str, ...]]:
    """Open options filled from a model's layout where its columns exist, and the names of all set."""
    given = tuple(name for name in FLAGS if getattr(options, name) is not None)
    if stored is None:
        return options, given
    options = with_stored_header(options, stored)
    filled: dict[str, object] = {}
    has_labels = options.label_columns is not None or options.labels_column is not None
    for name in FLAGS:
        value = _as_tuple(cast("str | tuple[str, ...] | None", getattr(stored, name)))
        is_label_field = name in ("label_columns", "labels_column")
        if (
            value
            and set(value) <= set(known)
            and getattr(options, name) is None
            and not (is_label_field and has_labels)
        ):
            filled[name] = getattr(stored, name)
    if stored.style == "separated" and options.label_separator is None:
        filled["label_separator"] = stored.separator
    given += tuple(name for name in FLAGS if name in filled)
    return options.model_copy(update=filled), given


def _label_names(options: DataSettings, stored: Layout | None, source: str) -> tuple[str, ...]:
    """The names in the label-names file, else those of a model whose cells are positions, else none."""
    if options.label_names is not None:
        return read_label_names(Path(options.label_names))
    return stored.label_names if stored is not None and stored.ids_are_indices else ()


def read_label_names(path: Path) -> tuple[str, ...]:
    """One label name a line, in order; blank lines at the end are allowed.

    Raises:
        DataError: no such file, not UTF-8, a blank line in between, or a name twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except FileNotFoundError:
        step = "check the path given with --label-names"
        raise DataError(finding("D122", path.name, "no such file", "a text file", step)) from None
    except (OSError, UnicodeDecodeError) as problem:
        step = "save it as UTF-8, one name a line"
        raise DataError(
            finding("D122", path.name, "the file cannot be read as text", "UTF-8", step)
        ) from problem
    names = [line.strip() for line in lines]
    wrong = tuple(row for row, name in enumerate(names, start=1) if not name or name in names[: row - 1])
    if wrong or not names:
        found, allowed = "a label name is empty or occurs twice", "one different name a line"
        raise DataError(finding("D122", path.name, found, allowed, "fix the file", rows=wrong))
    return tuple(names)
