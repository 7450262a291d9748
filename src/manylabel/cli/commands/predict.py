"""`manylabel predict`: texts from the command line, or a file in and a file out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manylabel.cli.arguments import AsJson, Debug, Model, PrecisionOption, Quiet, with_file_flags
from manylabel.cli.outputs import Overwrite, require_new
from manylabel.cli.show import number, print_json, result_console, table
from manylabel.errors import Finding, UsageError, counted
from manylabel.terminal import Terminal, printable

if TYPE_CHECKING:
    from manylabel.config.schema import DataSettings
    from manylabel.decisions.thresholds import Thresholds
    from manylabel.inference.load import LoadedModel
    from manylabel.recipes.predict import PredictedFile
    from manylabel.values import Predictions

Texts = Annotated[
    list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts to predict.", show_default=False)
]
Input = Annotated[
    Path | None, typer.Option("--input", help="File with a text in each row.", show_default=False)
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        help="File to write: .csv, .tsv, .jsonl or .parquet, also .gz or .zst.",
        show_default=False,
    ),
]
WIDEST_TEXT = 100
ADD_OUTPUT = "add --output with the file to write, for example --output predicted.csv"
ADD_INPUT = "add --input with the file to read"
WRONG_COMBINATIONS = {
    (False, False, False): (
        "nothing to predict: no text and no --input",
        'manylabel predict MODEL "some text", or manylabel predict MODEL --input in.csv --output out.csv',
    ),
    (False, True, False): ("--input without --output", ADD_OUTPUT),
    (False, False, True): ("--output without --input", ADD_INPUT),
    (True, True, False): ("texts and --input at once", "leave out one of them"),
    (True, True, True): ("texts and --input at once", "leave out one of them"),
    (True, False, True): (
        "texts with --output, which only goes with --input",
        "leave out --output, --json prints what a program can read; or put the texts into a file for --input",
    ),
}
"""By whether texts, --input and --output are given: what is wrong, and the way out."""
KeepText = Annotated[bool, typer.Option("--text/--no-text", help="Whether the output repeats the text.")]


@with_file_flags
def command(
    model: Model,
    texts: Texts = None,
    *,
    data: dict[str, Any],
    input_: Input = None,
    output: Output = None,
    text: KeepText = True,
    overwrite: Overwrite = False,
    precision: PrecisionOption = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Predict the labels of texts, or of every row of a file."""
    _check_usage(texts, input_, output)
    require_new(overwrite, output=output)
    from manylabel.config.load import load_data_settings

    options = load_data_settings(data)  # Before torch is imported, which takes seconds.
    from manylabel.inference.load import load_model

    loaded = load_model(model, precision=precision)
    if input_ is not None and output is not None:
        written = _predict_file(loaded, input_, output, options=options, keep_text=text, quiet=quiet)
        if as_json:
            to_review = {} if written.to_review is None else {"rows_to_review": written.to_review}
            print_json({"output": str(output), "rows_without_text": written.without_text, **to_review})
        return
    assert texts is not None
    _require_no_pairs(loaded)
    predictions = loaded.predictor.predict(texts)
    if as_json:
        print_json({"predictions": [_as_plain(predictions, row) for row in range(len(texts))]})
    else:
        show_predictions(texts, predictions, loaded.predictor.thresholds, quiet=quiet)
    _tell_of_empty_texts(texts, quiet=quiet)


def _tell_of_empty_texts(texts: list[str], *, quiet: bool) -> None:
    from manylabel.recipes.empty_texts import count_without_text, note_on_empty_texts

    count = count_without_text(texts, None)
    if count and not quiet:
        Terminal(stderr=True).print(f"note: {note_on_empty_texts(count, len(texts))}")


def _check_usage(texts: list[str] | None, source: Path | None, target: Path | None) -> None:
    given = (bool(texts), source is not None, target is not None)
    if given in WRONG_COMBINATIONS:
        found, next_step = WRONG_COMBINATIONS[given]
        raise UsageError(
            Finding("U203", "manylabel predict", found, "texts, or --input with --output", next_step)
        )
    if source is not None and target is not None and source.resolve() == target.resolve():
        raise UsageError(
            Finding("U204", "--output", "the same file as --input", "another file", "choose another name")
        )


def _require_no_pairs(loaded: LoadedModel) -> None:
    if loaded.bundle.takes_pairs:
        raise UsageError(
            Finding("U205", "manylabel predict", "this model reads pairs of texts", "a file with both columns",
                    "use --input with --text-column and --pair-column")
        )  # fmt: skip


def _predict_file(
    loaded: LoadedModel, source: Path, target: Path, *, options: DataSettings, keep_text: bool, quiet: bool
) -> PredictedFile:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from manylabel.recipes.empty_texts import note_on_empty_texts
    from manylabel.recipes.predict import predict_file

    console = Terminal(stderr=True)
    columns = (
        TextColumn("predicting"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task("predicting", total=None)
        written = predict_file(
            loaded,
            source,
            target,
            options=options,
            keep_text=keep_text,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if not quiet:
        were = "was" if written.truncated == 1 else "were"
        console.print(f"{counted(written.rows, 'row')} written to {target}; {counted(written.truncated, 'text')} "
                      f"{were} longer than the model reads and {were} cut")  # fmt: skip
        if written.without_text:
            console.print(f"note: {note_on_empty_texts(written.without_text, written.rows)}")
        if written.guessed_text is not None:
            missing, read = printable(loaded.bundle.layout.text_column), printable(written.guessed_text)
            console.print(
                f'note: the file has no column "{missing}", as in training; the texts were read from "{read}" '
                "(--text-column names another)"
            )
        if written.lacking:
            named = ", ".join(f'"{printable(name)}"' for name in written.lacking)
            console.print(
                f"note: the model also reads {named}, which the file does not have; it read the text instead"
            )
        if written.to_review is not None:
            console.print(f"{counted(written.to_review, 'row')} with a label for a human to decide")
    return written


def _as_plain(predictions: Predictions, row: int) -> dict[str, Any]:
    return {
        "labels": list(predictions.decided(row)),
        "probabilities": dict(
            zip(predictions.labels, map(float, predictions.probabilities_BL[row]), strict=True)
        ),
        "truncated": bool(predictions.truncated_B[row]),
        **({} if predictions.uncertain_BL is None else {"review": list(predictions.needs_review(row))}),
    }


def show_predictions(
    texts: list[str], predictions: Predictions, thresholds: Thresholds, *, quiet: bool
) -> None:
    """One table a text, the likeliest label first; a model with zones has a column of what a human should decide."""
    console = result_console()
    headings = ["  label", "probability", "threshold", "decided"]
    if predictions.uncertain_BL is not None:
        headings.append("review")
    for row, text in enumerate(texts):
        if not quiet:
            shown = text if len(text) <= WIDEST_TEXT else text[: WIDEST_TEXT - 3] + "..."
            console.print(f'"{printable(shown)}"')
        to_review = predictions.needs_review(row)
        columns = zip(predictions.labels, predictions.probabilities_BL[row], thresholds.values_L, strict=True)
        lines = [
            (
                "  " + name,
                number(value, 3),
                number(limit, 3),
                "yes" if value >= limit else "",
                "human" if name in to_review else "",
            )[: len(headings)]
            for name, value, limit in sorted(columns, key=lambda column: -column[1])
        ]
        console.print(table(headings, lines))
        if predictions.truncated_B[row]:
            console.print("  note: the text is longer than the model reads; its end was cut")
