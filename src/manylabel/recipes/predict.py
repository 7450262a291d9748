"""A file in, the same file with probabilities and labels out; called by `manylabel predict --input`.

Memory holds one chunk of rows, whatever the file's size. The output appears under its name only when complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from manylabel.bundle.files import published_file
from manylabel.config.schema import DataSettings
from manylabel.data.corpus import texts_of
from manylabel.data.formats import format_of_name
from manylabel.data.layout import Layout, PredictionColumns, prediction_columns, with_stored_header
from manylabel.data.read import TableStream, open_table
from manylabel.data.write import open_writer
from manylabel.errors import DataError, Finding, UsageError
from manylabel.inference.load import LoadedModel
from manylabel.recipes.empty_texts import count_without_text
from manylabel.recipes.evaluate import lacking_translations
from manylabel.recipes.places import require_place
from manylabel.values import Predictions

PROBABILITY_PREFIX = "p_"
LABELS_COLUMN = "labels"
REVIEW_COLUMN = "review"
SUFFIX_WHEN_TAKEN = "_predicted"


@dataclass(frozen=True)
class PredictedFile:
    """How many rows were written, and how many texts were longer than the model reads and were cut.

    `to_review` counts the rows with a label for a human to decide; None for a model without zones.
    `guessed_text` is the column the texts were read from, where the file has none of the name of training and none was
    given. `lacking` are translation columns that an ensemble reads and the file has not; it read the text instead.
    `without_text` counts the rows with nothing to read.
    """

    rows: int
    truncated: int
    to_review: int | None = None
    guessed_text: str | None = None
    lacking: tuple[str, ...] = ()
    without_text: int = 0


def predict_file(
    model: LoadedModel,
    source: Path,
    target: Path,
    *,
    options: DataSettings,
    keep_text: bool = True,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> PredictedFile:
    """Write the rows of `source` with one probability column a label and the decided labels.

    A model with zones adds a column of the labels that a human should decide. Order and input columns are kept (the
    text only with `keep_text`). `on_progress` hears rows done and rows in all. Raises UsageError for an output that
    cannot be written, DataError with every unusable row, both before anything is predicted.
    """
    _check_target(target)
    stored = model.bundle.layout
    options = with_stored_header(options, stored)
    stream = open_table(source, options)
    columns, num_rows = _check_rows(stream, options, stored)
    done = truncated = to_review = without_text = 0
    with published_file(target) as temporary, open_writer(temporary, target) as writer:
        for batch in stream:
            chunk = pa.Table.from_batches([batch])
            texts, pairs = texts_of(chunk, columns, source=source.name, first_row=done + 1)
            first = done

            def tell(texts_done: int) -> None:
                nonlocal done
                done += texts_done
                on_progress(done, num_rows)

            translations = {name: chunk[name].to_pylist() for name in columns.translations}
            predictions = model.predictor.predict(
                texts, pairs, translations=translations or None, on_batch=tell
            )
            done = first + len(texts)
            truncated += int(predictions.truncated_B.sum())
            without_text += count_without_text(texts, pairs)
            if predictions.uncertain_BL is not None:
                to_review += int(predictions.uncertain_BL.any(axis=1).sum())
            hidden = [] if keep_text else [columns.text, columns.pair, *columns.translations]
            kept = chunk.drop_columns([name for name in hidden if name])
            writer.write(_with_predictions(kept, predictions, stream.column_names))
    guessed = columns.text if columns.text != (options.text_column or stored.text_column) else None
    return PredictedFile(
        num_rows,
        truncated,
        None if model.predictor.zones is None else to_review,
        guessed_text=guessed,
        lacking=lacking_translations(model.bundle, columns.translations),
        without_text=without_text,
    )


def _check_target(target: Path) -> None:
    """An output that cannot be written is found before the first prediction, not after the last."""
    try:
        format_of_name(target)
    except DataError as error:
        raise UsageError(*error.findings) from error
    require_place(target, "--output")


def _check_rows(stream: TableStream, options: DataSettings, stored: Layout) -> tuple[PredictionColumns, int]:
    """Read the file once without predicting: the columns, the number of rows, or every problem at once."""
    findings: list[Finding] = []
    columns, num_rows = None, 0
    try:
        for batch in stream:
            chunk = pa.Table.from_batches([batch])
            if columns is None:
                columns = prediction_columns(chunk, options, stream.source, stored=stored)
                findings += _translation_findings(chunk, columns, stream.source)
            findings += _text_findings(chunk, columns, source=stream.source, first_row=num_rows + 1)
            num_rows += chunk.num_rows
    except DataError as error:
        findings += error.findings
    if findings:
        raise DataError(*findings)
    if columns is None:
        raise DataError(
            Finding("D104", stream.source, "there are no data rows", "at least one row", "check the file")
        )
    return columns, num_rows


def _text_findings(
    chunk: pa.Table, columns: PredictionColumns, *, source: str, first_row: int
) -> tuple[Finding, ...]:
    try:
        texts_of(chunk, columns, source=source, first_row=first_row)
    except DataError as error:
        return error.findings
    return ()


def _translation_findings(chunk: pa.Table, columns: PredictionColumns, source: str) -> list[Finding]:
    types = {name: chunk[name].type for name in columns.translations}
    return [
        Finding("D192", f'{source}, column "{name}"', f"the column holds {of_column}, not text", "text",
                "name columns with texts, --translation-columns")
        for name, of_column in types.items()
        if not (pa.types.is_string(of_column) or pa.types.is_null(of_column))
    ]  # fmt: skip


def _with_predictions(chunk: pa.Table, predictions: Predictions, taken: Iterable[str]) -> pa.Table:
    """The rows with probability columns, the decided names and those for a human, where the model has zones."""
    taken = set(taken)
    for index, name in enumerate(predictions.labels):
        chunk = chunk.append_column(
            _free(PROBABILITY_PREFIX + name, taken),
            pa.array(predictions.probabilities_BL[:, index], pa.float64()),
        )
    named = {LABELS_COLUMN: predictions.decided}
    if predictions.uncertain_BL is not None:
        named[REVIEW_COLUMN] = predictions.needs_review
    for column, names_of in named.items():
        names = [list(names_of(row)) for row in range(len(predictions))]
        chunk = chunk.append_column(_free(column, taken), pa.array(names, pa.list_(pa.string())))
    return chunk


def _free(name: str, taken: set[str]) -> str:
    """`name`, with a suffix where the input has a column of that name."""
    while name in taken:
        name += SUFFIX_WHEN_TAKEN
    return name
