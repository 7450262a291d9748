"""`manylabel train`: a file in, a verified model out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from manylabel.bundle.files import check_target
from manylabel.cli.arguments import (
    AsJson,
    Config,
    Debug,
    Quiet,
    SetOption,
    Source,
    settings_from,
    with_file_flags,
)
from manylabel.cli.show import evaluation_tables, print_json, result_console

Out = Annotated[Path, typer.Option("--out", help="Folder to save the model in.", show_default=False)]
Validation = Annotated[
    Path | None, typer.Option("--validation", help="File that chooses epoch and thresholds; else split off.")
]
Test = Annotated[Path | None, typer.Option("--test", help="File for the final figures; else split off.")]
Encoder = Annotated[
    str | None,
    typer.Option("--encoder", metavar="NAME", help="default, a folder, or a hub id.", show_default=False),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace a model that is already in the folder.")
]


@with_file_flags
def command(
    source: Source,
    *,
    out: Out,
    data: dict[str, Any],
    validation: Validation = None,
    test: Test = None,
    encoder: Encoder = None,
    overwrite: Overwrite = False,
    config: Config = None,
    set_: SetOption = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a model on a file and save it with its figures."""
    settings = settings_from(config, set_, data, typed={"model.encoder": encoder} if encoder else {})
    report = run_training(
        source, out=out, settings=settings, quiet=quiet, validation=validation, test=test, overwrite=overwrite
    )
    if as_json:
        print_json(report.evaluation or {})
    elif not quiet:
        show_report(report)
    if report.outcome.ending == "interrupted":
        raise typer.Exit(130)


def run_training(
    source: Path,
    *,
    out: Path,
    settings: Any,  # noqa: ANN401 - RunSettings, imported late
    quiet: bool,
    validation: Path | None = None,
    test: Path | None = None,
    overwrite: bool = False,
) -> Any:  # noqa: ANN401 - TrainReport, imported late
    """Train with a bar on the terminal and a log beside the model; Ctrl-C ends the run and saves what it learned."""
    check_target(out, overwrite)  # Before torch is imported, which takes seconds.
    from manylabel.recipes.train import train_model
    from manylabel.training.interrupt import stop_on_interrupt
    from manylabel.training.observers import ConsoleObserver, JsonLinesLog, Observers

    place = out.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    with JsonLinesLog(place.with_name(place.name + ".log.jsonl")) as log, stop_on_interrupt() as should_stop:
        return train_model(
            source,
            out=out,
            settings=settings,
            observer=Observers((should_stop, log) if quiet else (should_stop, ConsoleObserver(), log)),
            validation=validation,
            test=test,
            overwrite=overwrite,
            should_stop=should_stop,
        )


def show_report(report: Any) -> None:  # noqa: ANN401 - TrainReport, imported late
    """The test figures and what to do next."""
    console = result_console()
    if report.evaluation is not None:
        console.print()
        for part in evaluation_tables(report.evaluation):
            console.print(part)
    console.print(f'\nSaved {report.folder}.\nNext: manylabel predict {report.folder} "some text"\n'
                  f"      manylabel evaluate {report.folder} FILE\n      manylabel verify {report.folder}")  # fmt: skip
