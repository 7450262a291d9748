"""A file in, the same file with probabilities and labels out; called by `manylabel predict --input`.

Memory holds one chunk of rows, whatever the file's size. The output appears under its name only when complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa

from manylabel.bundle.files import published_file
from manylabel.config.schema import DataSettings
from manylabel.data.corpus import texts_of
from manylabel.data.layout import prediction_columns
from manylabel.data.read import open_table
from manylabel.data.write import open_writer
from manylabel.inference.load import LoadedModel
from manylabel.values import Predictions

PROBABILITY_PREFIX = "p_"
LABELS_COLUMN = "labels"
SUFFIX_WHEN_TAKEN = "_predicted"
LABEL_JOINER = "|"


def predict_file(
    model: LoadedModel,
    source: Path,
    target: Path,
    *,
    options: DataSettings,
    keep_text: bool = True,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write the rows of `source` with one probability column a label and the decided labels; the number of rows.

    Order and input columns are kept (the text only with `keep_text`). `on_progress` hears rows done and rows in
    all. Raises DataError with every unusable row before anything is predicted.
    """
    stored = model.bundle.layout
    if not stored.header:
        options = options.model_copy(update={"header": False})
    stream = open_table(source, options)
    num_rows = stream.check()
    done, columns = 0, None
    with published_file(target) as temporary, open_writer(temporary, target) as writer:
        for batch in stream:
            chunk = pa.Table.from_batches([batch])
            columns = columns or prediction_columns(chunk, options, source.name, stored=stored)
            texts, pairs = texts_of(chunk, columns, source=source.name, first_row=done + 1)
            first = done

            def tell(texts_done: int, first: int = first) -> None:
                nonlocal done
                done = min(done + texts_done, num_rows)
                on_progress(done, num_rows)

            predictions = model.predictor.predict(texts, pairs, on_batch=tell)
            done = first + len(texts)
            hidden = () if keep_text else tuple(name for name in (columns.text, columns.pair) if name)
            writer.write(
                _with_predictions(chunk.drop_columns(list(hidden)), predictions, stream.column_names)
            )
    return num_rows


def _with_predictions(chunk: pa.Table, predictions: Predictions, taken: Iterable[str]) -> pa.Table:
    """The rows with probability columns and the decided names."""
    taken = set(taken)
    for index, name in enumerate(predictions.labels):
        chunk = chunk.append_column(
            _free(PROBABILITY_PREFIX + name, taken),
            pa.array(predictions.probabilities_BL[:, index], pa.float64()),
        )
    decided = [list(predictions.decided(row)) for row in range(len(predictions))]
    return chunk.append_column(_free(LABELS_COLUMN, taken), pa.array(decided, pa.list_(pa.string())))


def _free(name: str, taken: set[str]) -> str:
    """`name`, with a suffix where the input has a column of that name."""
    while name in taken:
        name += SUFFIX_WHEN_TAKEN
    return name
