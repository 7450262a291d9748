"""`manylabel compare`: two models on the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from manylabel.cli.arguments import (
    AsJson,
    Debug,
    PrecisionOption,
    Quiet,
    Resamples,
    Source,
    with_file_flags,
)
from manylabel.cli.show import print_json, result_console
from manylabel.cli.show_comparison import comparison_tables

First = Annotated[
    Path, typer.Argument(metavar="MODEL_A", help="Folder of a saved model.", show_default=False)
]
Second = Annotated[Path, typer.Argument(metavar="MODEL_B", help="Folder of another.", show_default=False)]
Report = Annotated[
    Path | None, typer.Option("--report", help="HTML file to write the comparison to.", show_default=False)
]


@with_file_flags
def command(
    first: First,
    second: Second,
    source: Source,
    *,
    data: dict[str, Any],
    report: Report = None,
    resamples: Resamples = None,
    precision: PrecisionOption = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compare two models on the same rows: differences with intervals, tests, and one sentence of conclusion."""
    from manylabel.config.load import load_data_settings

    options = load_data_settings(data)
    if report is not None:
        from manylabel.recipes.report import check_page

        check_page(report, overwrite=False)
    from manylabel.inference.load import load_model
    from manylabel.recipes.compare import compare_models
    from manylabel.training.observers import ConsoleObserver, SilentObserver

    observer = SilentObserver() if quiet or as_json else ConsoleObserver()
    a, b = (load_model(folder, precision=precision) for folder in (first, second))
    settings = b.bundle.settings.evaluation
    if resamples is not None:
        settings = settings.model_copy(update={"resamples": resamples})
    comparison = compare_models(a, b, source, options=options, observer=observer, settings=settings)
    if report is not None:
        from manylabel.recipes.report import write_comparison

        write_comparison(comparison, a, b, out=report)
    if as_json:
        print_json(comparison.to_json())
        return
    console = result_console()
    for part in comparison_tables(comparison.to_json()):
        console.print(part)
