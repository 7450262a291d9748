"""A competition's file: ids and one probability a label, in the order of its sample; called by `manylabel submit`.

Memory holds the probabilities and ids of all rows and the texts of one chunk. The file appears under its name only when
it is complete and what was read back from it is what the model said.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from manylabel.bundle.files import published_file, require_writable
from manylabel.config.schema import DataSettings
from manylabel.data.corpus import texts_of
from manylabel.data.layout import (
    Layout,
    PredictionColumns,
    did_you_mean,
    prediction_columns,
    with_stored_header,
)
from manylabel.data.problems import RowProblems, finding
from manylabel.data.read import TableStream, open_table, read_rows
from manylabel.errors import BundleError, DataError, Finding, UsageError
from manylabel.inference.load import LoadedModel
from manylabel.inference.predictor import Predictor
from manylabel.recipes.empty_texts import count_without_text
from manylabel.recipes.evaluate import lacking_translations

SUFFIX = ".csv"
ID = "id"
OnProgress = Callable[[int, int], None]
Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Submitted:
    """What was written: rows, columns in order, texts that were cut to what the model reads, rows without a text."""

    rows: int
    columns: tuple[str, ...]
    truncated: int
    without_text: int = 0


@dataclass(frozen=True)
class _Form:
    """What the file must hold: the name of its id column, its ids and its label columns, all in order.

    `rows` are the 1-based numbers of the sample's rows.
    """

    id_column: str
    ids: tuple[str, ...]
    labels: tuple[str, ...]
    rows: tuple[int, ...] = ()


@dataclass
class _Source:
    """The file with the texts: its columns, ids and 1-based row numbers, and what is wrong with it."""

    stream: TableStream
    columns: PredictionColumns | None = None
    id_column: str | None = None
    ids: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def submit(
    model: LoadedModel,
    source: Path,
    target: Path,
    *,
    sample: Path | None,
    options: DataSettings,
    on_progress: OnProgress = lambda done, total: None,
) -> Submitted:
    """Write `target` with a probability of every label for every row of `source`, as the file `sample` has them.

    Rows are matched by id, in any order; those of the sample are written in its order, its columns in its order.
    Without a sample the columns are the ids and the model's labels, the rows those of `source`. `on_progress` hears
    rows done and rows in all. Raises UsageError for a target that cannot be written, DataError with every problem of
    both files before anything is predicted: rows that cannot be read, ids that are missing, too many or there twice,
    columns that are missing or too many. Raises BundleError where the model gives no probability.
    """
    check_target(target, source, sample)
    stored = model.bundle.layout
    options = with_stored_header(options, stored)
    form, findings = (None, []) if sample is None else _read_form(sample, model.bundle.labels, options)
    wanted = options.id_column or (form.id_column if form else None)
    found = _check_source(_Source(open_table(source, options)), wanted, options, stored)
    findings += found.findings
    if form is not None and sample is not None and found.id_column is not None:
        findings += _id_findings(form, found, sample.name)
    findings += _translation_findings(model, found)
    if findings:
        raise DataError(*findings)
    assert found.columns is not None
    assert found.id_column is not None
    form = form or _Form(found.id_column, tuple(found.ids), model.bundle.labels)
    predicted_NL, truncated, without_text = _predict(model.predictor, found, found.columns, on_progress)
    place_of = {identity: place for place, identity in enumerate(found.ids)}
    order = [model.bundle.labels.index(name) for name in form.labels]
    probabilities_NL = predicted_NL[[place_of[identity] for identity in form.ids]][:, order]
    with published_file(target) as temporary:
        _write(temporary, form, probabilities_NL)
        _read_back(temporary, target, form, probabilities_NL)
    return Submitted(len(form.ids), (form.id_column, *form.labels), truncated, without_text)


def check_target(target: Path, source: Path, sample: Path | None) -> None:
    """Raise UsageError for a file that is no CSV, cannot be written there, or is one of those that are read."""
    problems = []
    if target.suffix.lower() != SUFFIX:
        problems.append((f"a file that ends in {SUFFIX}", "the name says another format"))
    if target.is_dir() or not target.parent.is_dir():
        problems.append(
            (
                "a file in an existing folder",
                "it is a folder" if target.is_dir() else "its folder does not exist",
            )
        )
    if target.resolve() in (source.resolve(), sample and sample.resolve()):
        problems.append(("a new file", "it is one of the files that are read"))
    if problems:
        raise UsageError(
            *(
                Finding("U311", f"--out {target}", found, allowed, "choose another --out")
                for allowed, found in problems
            )
        )
    require_writable(target)


def _read_form(
    sample: Path, labels: Sequence[str], options: DataSettings
) -> tuple[_Form | None, list[Finding]]:
    """What the sample asks for, and what is wrong with it; its first column holds the ids unless --id-column does."""
    rows = read_rows(sample, options)
    findings, columns = list(rows.findings), list(rows.table.column_names)
    named = options.id_column
    id_column = named if named is not None and named in columns else str(columns[0])
    asked = tuple(name for name in columns if name != id_column)
    findings += _column_findings(sample.name, id_column, asked, labels)
    ids = tuple("" if cell is None else str(cell) for cell in rows.table[id_column].to_pylist())
    if not ids:
        step = "take the sample file of the competition"
        findings.append(finding("D104", sample.name, "there are no data rows", "one row for each id", step))
    numbers = tuple(rows.rows_N.tolist())
    findings += _repeated(ids, f'{sample.name}, column "{id_column}"', numbers)
    return _Form(id_column, ids, asked, numbers), findings


def _column_findings(
    place: str, id_column: str, asked: Sequence[str], labels: Sequence[str]
) -> list[Finding]:
    """Columns of the sample that are not the model's labels, and labels that have no column."""
    allowed = f"the ids, then {', '.join(labels)}"
    findings = []
    if id_column in labels:
        found, step = (
            f'the first column, "{id_column}", is a label',
            "put the ids first, or name them with --id-column",
        )
        findings.append(finding("D155", place, found, allowed, step))
    for name in asked:
        if name not in labels:
            step = did_you_mean(name, tuple(labels)) or "give the sample of this model's competition"
            findings.append(finding("D155", place, f'the model has no label "{name}"', allowed, step))
    for name in labels:
        if name not in asked and name != id_column:
            step = did_you_mean(name, tuple(asked)) or "give the sample of this model's competition"
            findings.append(
                finding("D155", place, f'there is no column for the label "{name}"', allowed, step)
            )
    return findings


def _check_source(found: _Source, wanted: str | None, options: DataSettings, stored: Layout) -> _Source:
    """Read the file once without predicting: columns, ids, number of rows, and every problem."""
    source = found.stream.source
    options = options.model_copy(update={"id_column": None})
    problems = RowProblems()
    for part in found.stream.reader.chunks(problems):
        chunk = pa.Table.from_batches([part.batch])
        try:
            if found.columns is None:
                found.columns = prediction_columns(chunk, options, source, stored=stored)
                found.id_column = _id_column(found, wanted)
            texts_of(chunk, found.columns, source=source, first_row=int(part.rows_N[0]))
        except DataError as error:
            found.findings += error.findings
        if found.columns is None:
            return found
        if found.id_column is not None:
            cells = chunk[found.id_column].to_pylist()
            found.ids += ["" if cell is None else str(cell) for cell in cells]
        found.rows += part.rows_N.tolist()
    found.findings += problems.findings()
    if not found.rows and not found.findings:
        found.findings.append(
            finding("D104", source, "there are no data rows", "at least one row", "check the file")
        )
    if found.id_column is not None:
        found.findings += _repeated(found.ids, f'{source}, column "{found.id_column}"', found.rows)
    return found


def _id_column(found: _Source, wanted: str | None) -> str | None:
    """The column of that name; where none is wanted, the one that looks like ids. Noted where there is none."""
    known = list(found.stream.column_names)
    assert found.columns is not None
    chosen = wanted or found.columns.id
    if chosen in known:
        return chosen
    missing = f'there is no column "{wanted}", as in the sample' if wanted else "no column holds ids"
    near = did_you_mean(wanted, known) if wanted else ""
    step = f"{near} Or name it with --id-column" if near else "name it with --id-column"
    found.findings.append(finding("D156", found.stream.source, missing, ", ".join(known), step))
    return None


def _repeated(ids: Sequence[str], place: str, rows: Sequence[int]) -> list[Finding]:
    """Ids that are empty or occur more than once."""
    counts = Counter(ids)
    wrong = {
        "the id is empty": [row for row, each in zip(rows, ids, strict=True) if not each],
        "the id occurs twice": [
            row for row, each in zip(rows, ids, strict=True) if each and counts[each] > 1
        ],
    }
    return [
        finding("D189", place, what, "a different id in each row", "correct the file", rows=tuple(where))
        for what, where in wrong.items()
        if where
    ]


def _id_findings(form: _Form, found: _Source, sample: str) -> list[Finding]:
    """Ids that only one of the two files has."""
    source = found.stream.source
    sides = (
        (sample, form.ids, form.rows, source, frozenset(found.ids)),
        (source, found.ids, found.rows, sample, frozenset(form.ids)),
    )
    findings = []
    for place, ids, numbers, other, known in sides:
        rows = tuple(row for row, each in zip(numbers, ids, strict=True) if each and each not in known)
        if rows:
            allowed, step = (
                "the same ids in both files",
                "give the test file and the sample of one competition",
            )
            findings.append(finding("D189", place, f"the id is not in {other}", allowed, step, rows=rows))
    return findings


def _translation_findings(model: LoadedModel, found: _Source) -> list[Finding]:
    """Columns that the model reads beside the text, as it did when its views were weighed, and the file lacks."""
    known = found.stream.column_names
    step = "add the column, or use the model without such a view"
    return [
        finding("D121", found.stream.source, f'there is no column "{name}", which the model reads', ", ".join(known),
                did_you_mean(name, known) or step)
        for name in lacking_translations(model.bundle, known)
    ]  # fmt: skip


def _predict(
    predictor: Predictor, found: _Source, columns: PredictionColumns, on_progress: OnProgress
) -> tuple[Probabilities, int, int]:
    """probabilities_NL of all rows in the order of their file, how many texts were cut, and how many are empty."""
    parts, done, truncated, without_text = [], 0, 0, 0
    for batch in found.stream:
        chunk = pa.Table.from_batches([batch])
        texts, pairs = texts_of(chunk, columns, source=found.stream.source, first_row=done + 1)
        translations = {name: chunk[name].to_pylist() for name in columns.translations}
        first = done

        def tell(count: int) -> None:
            nonlocal done
            done += count
            on_progress(done, len(found.rows))

        predicted = predictor.predict(texts, pairs, translations=translations or None, on_batch=tell)
        done = first + len(texts)
        parts.append(np.asarray(predicted.probabilities_BL, np.float64))
        truncated += int(predicted.truncated_B.sum())
        without_text += count_without_text(texts, pairs)
    probabilities_NL = np.concatenate(parts)
    check_probabilities(probabilities_NL, predictor.labels, found.stream.source)
    return probabilities_NL, truncated, without_text


def check_probabilities(probabilities_NL: Probabilities, labels: Sequence[str], source: str) -> None:
    """Raise BundleError with the rows of every label whose probability is NaN or outside [0, 1]."""
    # A comparison with NaN is False, so this finds it too.
    wrong_NL = ~((probabilities_NL >= 0.0) & (probabilities_NL <= 1.0))
    findings = [
        finding("B431", f'{source}, label "{name}"', "the model gives no probability", "a number from 0 to 1",
                "run `manylabel verify` on the model", rows=tuple((np.flatnonzero(wrong_N) + 1).tolist()))
        for name, wrong_N in zip(labels, wrong_NL.T, strict=True)
        if wrong_N.any()
    ]  # fmt: skip
    if findings:
        raise BundleError(*findings)


def _write(path: Path, form: _Form, probabilities_NL: Probabilities) -> None:
    """Ids as they are, also those a spreadsheet would run: they must be the competition's own."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((form.id_column, *form.labels))
        for identity, row in zip(form.ids, probabilities_NL, strict=True):
            writer.writerow((identity, *map(decimal, row)))


def decimal(value: float) -> str:
    """The shortest decimal figure, without an exponent, that is read as the same number."""
    return np.format_float_positional(value, unique=True, trim="0")


def _read_back(path: Path, target: Path, form: _Form, probabilities_NL: Probabilities) -> None:
    """Raise DataError where the file does not hold header, ids and numbers as they were to be written."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        same = next(rows, None) == [form.id_column, *form.labels]
        written = 0
        for identity, expected, cells in zip(form.ids, probabilities_NL, rows, strict=False):
            written += 1
            same = same and cells[:1] == [identity] and list(map(float, cells[1:])) == expected.tolist()
        same = same and written == len(form.ids) and next(rows, None) is None
    if not same:
        found, step = (
            "what was read back is not what was written",
            "check the disk, and run the command again",
        )
        raise DataError(finding("D159", str(target), found, "every row and figure as predicted", step))
