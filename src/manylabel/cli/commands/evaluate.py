"""`manylabel evaluate`: the figures of a model on a file."""

from __future__ import annotations

from typing import Any

from manylabel.cli.arguments import AsJson, Debug, Model, PrecisionOption, Quiet, Source, with_file_flags
from manylabel.cli.show import evaluation_tables, print_json, result_console


@with_file_flags
def command(
    model: Model,
    source: Source,
    *,
    data: dict[str, Any],
    precision: PrecisionOption = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Score a model on a file it has not seen."""
    from manylabel.config.load import load_data_settings

    options = load_data_settings(data)  # Before torch is imported, which takes seconds.
    from manylabel.inference.load import load_model
    from manylabel.recipes.evaluate import evaluate_model
    from manylabel.training.observers import ConsoleObserver, SilentObserver

    observer = SilentObserver() if quiet or as_json else ConsoleObserver()
    loaded = load_model(model, precision=precision)
    figures = evaluate_model(loaded, source, options=options, observer=observer).to_json()
    if as_json:
        print_json(figures)
        return
    console = result_console()
    for part in evaluation_tables(figures):
        console.print(part)
