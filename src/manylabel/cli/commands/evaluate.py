"""`manylabel evaluate`: the figures of a model on a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from manylabel.cli.arguments import (
    AsJson,
    Debug,
    Model,
    PrecisionOption,
    Quiet,
    Resamples,
    Source,
    with_file_flags,
)
from manylabel.cli.show import measured, print_json, result_console
from manylabel.cli.show_evaluation import evaluation_tables
from manylabel.errors import counted
from manylabel.terminal import Terminal

LabelsFile = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        help="File with the ids and labels of SOURCE, where those stand in a file of their own.",
        show_default=False,
    ),
]
SliceColumns = Annotated[
    list[str] | None,
    typer.Option("--slice", metavar="COLUMN", help="Figures for each value of this column; repeatable."),
]
ByLength = Annotated[bool, typer.Option("--by-length", help="Figures by length of the texts in tokens.")]
ByLanguage = Annotated[bool, typer.Option("--by-language", help="Figures by detected language.")]
Bias = Annotated[
    bool, typer.Option("--bias", help="Bias AUCs for English words that speak of groups of people.")
]
BiasTerms = Annotated[
    str | None,
    typer.Option("--bias-terms", metavar="A,B,C", help="Bias AUCs for these words.", show_default=False),
]
BiasColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--bias-column", metavar="COLUMN", help="Bias AUCs for rows with 0.5 or more here; repeatable."
    ),
]
Disguises = Annotated[
    bool,
    typer.Option("--robustness", help="Figures for texts disguised by typos, leet, look-alikes and more."),
]


@with_file_flags
def command(
    model: Model,
    source: Source,
    *,
    data: dict[str, Any],
    labels: LabelsFile = None,
    slice_columns: SliceColumns = None,
    by_length: ByLength = False,
    by_language: ByLanguage = False,
    bias: Bias = False,
    bias_terms: BiasTerms = None,
    bias_columns: BiasColumns = None,
    disguises: Disguises = False,
    resamples: Resamples = None,
    precision: PrecisionOption = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Score a model on a file it has not seen: every figure with its interval, and where it is good and where not."""
    from manylabel.config.load import load_data_settings

    options = load_data_settings(data)  # Before torch is imported, which takes seconds.
    from manylabel.inference.load import load_model
    from manylabel.recipes.breakdown import Breakdown, evaluate_in_parts
    from manylabel.recipes.evaluate import joined_with_labels
    from manylabel.training.observers import ConsoleObserver, SilentObserver

    terms = tuple(term.strip() for term in (bias_terms or "").split(",") if term.strip())
    wanted = Breakdown(
        slice_columns=tuple(slice_columns or ()),
        by_length=by_length,
        by_language=by_language,
        bias_terms=terms if terms or bias else None,
        bias_columns=tuple(bias_columns or ()),
        disguises=disguises,
    )
    observer = SilentObserver() if quiet or as_json else ConsoleObserver()
    loaded = load_model(model, precision=precision)
    settings = loaded.bundle.settings.evaluation
    if resamples is not None:
        settings = settings.model_copy(update={"resamples": resamples})
    rows: Any = source
    if labels is not None:
        rows = joined_with_labels(loaded, source, labels, options=options, observer=observer)
    judged = evaluate_in_parts(loaded, rows, wanted, options=options, settings=settings, observer=observer)
    figures = judged.to_json()
    if as_json:
        print_json(figures)
        return
    console = result_console()
    for part in evaluation_tables(figures):
        console.print(part)
    _show_competitions(figures, console)


def _show_competitions(figures: Mapping[str, Any], console: Terminal) -> None:
    """The macro ROC-AUC by the name that competitions have for it, and how many rows were scored."""
    console.print("")
    interval = ((figures.get("intervals") or {}).get("macro") or {}).get("roc_auc")
    shown = measured(figures["mean_column_wise_roc_auc"], interval)
    num_labels, undefined = len(figures["labels"]), figures["excluded_from_macro"]["roc_auc"]
    if undefined:
        shown += f", of the {num_labels - undefined} of {counted(num_labels, 'label')} that have one"
    console.print(f"mean column-wise ROC-AUC (the macro ROC-AUC): {shown}")
    if "rows_in_file" in figures:
        console.print(f"{figures['rows']:,} of {counted(figures['rows_in_file'], 'row')} are annotated")
