"""`manylabel train`: a file in, a verified model out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from manylabel.bundle.files import check_target
from manylabel.cli.arguments import (
    AsJson,
    Config,
    Debug,
    PresetOption,
    Quiet,
    SetOption,
    Source,
    settings_from,
    with_file_flags,
)
from manylabel.cli.show import print_json, result_console
from manylabel.cli.show_evaluation import evaluation_tables
from manylabel.errors import Finding, UsageError
from manylabel.recipes.launch import MAX_PROCESSES, Member, launch

Out = Annotated[Path, typer.Option("--out", help="Folder to save the model in.", show_default=False)]
Validation = Annotated[
    Path | None, typer.Option("--validation", help="File that chooses the epoch; else split off.")
]
Calibration = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        help="File that chooses calibration and thresholds; else the validation file, or split off.",
    ),
]
Test = Annotated[Path | None, typer.Option("--test", help="File for the final figures; else split off.")]
Encoder = Annotated[
    str | None,
    typer.Option("--encoder", metavar="NAME", help="default, a folder, or a hub id.", show_default=False),
]
NumProcesses = Annotated[
    int,
    typer.Option(
        "--processes", min=1, max=MAX_PROCESSES, help="Processes on this machine that train together."
    ),
]
Folds = Annotated[
    int,
    typer.Option(
        "--folds",
        min=0,
        max=20,
        help="For few rows: no rows are held out; this many further models score the rows they did not see.",
    ),
]
Teacher = Annotated[
    Path | None,
    typer.Option(
        "--teacher",
        metavar="MODEL",
        help="Model or ensemble whose probabilities this one learns too (settings teacher.*).",
        show_default=False,
    ),
]
Unlabelled = Annotated[
    list[Path] | None,
    typer.Option(
        "--unlabelled",
        metavar="FILE",
        help="File with texts that the teacher labels; repeatable.",
        show_default=False,
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace a model that is already in the folder.")
]

Fresh = Annotated[
    bool, typer.Option("--fresh", help="Discard an unfinished run of this model instead of going on with it.")
]


@with_file_flags
def command(
    source: Source,
    *,
    context: typer.Context,
    out: Out,
    data: dict[str, Any],
    validation: Validation = None,
    calibration: Calibration = None,
    test: Test = None,
    encoder: Encoder = None,
    folds: Folds = 0,
    teacher: Teacher = None,
    unlabelled: Unlabelled = None,
    overwrite: Overwrite = False,
    fresh: Fresh = False,
    processes: NumProcesses = 1,
    preset: PresetOption = None,
    config: Config = None,
    set_: SetOption = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a model on a file and save it with its figures; the same command goes on with a stopped run."""
    typed: dict[str, object] = {"model.encoder": encoder} if encoder else {}
    settings = settings_from(config, set_, data, typed=typed, presets=preset)
    if processes > 1:
        command_line = ["-m", "manylabel", *without_processes(context.obj)]
        raise typer.Exit(launch(command_line, num_processes=processes, debug=debug))
    teaching = _teaching(teacher, unlabelled)
    job = {
        "teaching": teaching,
        "validation": validation,
        "calibration": calibration,
        "test": test,
        "fresh": fresh,
        "folds": folds,
    }
    report = run_training(source, out=out, settings=settings, quiet=quiet, overwrite=overwrite, **job)
    if is_main() and as_json:
        print_json(report.evaluation or {})
    elif is_main():
        show_report(report, quiet=quiet)


def _teaching(teacher: Path | None, unlabelled: list[Path] | None) -> Any:  # noqa: ANN401 - Teaching, imported late
    """What the model learns from another one; None without --teacher."""
    if teacher is None and unlabelled:
        raise UsageError(
            Finding("U355", "--unlabelled", "texts without labels and no teacher that labels them", "both or neither",
                    "add --teacher MODEL")
        )  # fmt: skip
    if teacher is None:
        return None
    from manylabel.recipes.teacher import Teaching

    return Teaching(teacher, tuple(unlabelled or ()))


def without_processes(arguments: Sequence[str]) -> list[str]:
    """The arguments that each process gets."""
    kept = [argument for argument in arguments if not argument.startswith("--processes=")]
    while "--processes" in kept:
        place = kept.index("--processes")
        del kept[place : place + 2]
    return kept


def is_main() -> bool:
    """Whether this process prints and writes: alone, or rank 0 of several."""
    member = Member.from_environment()
    return member is None or member.is_main


def run_training(
    source: Path,
    *,
    out: Path,
    settings: Any,  # noqa: ANN401 - RunSettings, imported late
    quiet: bool,
    overwrite: bool = False,
    **job: Any,  # noqa: ANN401 - further fields of Job, imported late
) -> Any:  # noqa: ANN401 - TrainReport, imported late
    """Train with a bar on the terminal and a log beside the model; Ctrl-C saves the state of the run and ends it."""
    check_target(out, overwrite)  # Before torch is imported, which takes seconds.
    from manylabel.recipes.train import Job, train_model
    from manylabel.training.interrupt import stop_on_interrupt
    from manylabel.training.observers import ConsoleObserver, JsonLinesLog, Observer, Observers
    from manylabel.training.processes import Processes

    place = out.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    with JsonLinesLog(place.with_name(place.name + ".log.jsonl")) as log, stop_on_interrupt() as should_stop:
        told: tuple[Observer, ...] = (should_stop, log) if quiet else (should_stop, ConsoleObserver(), log)
        member = Member.from_environment()
        if member is not None:
            member.end_with_the_others()
            told = told if member.is_main else (should_stop,)
        with Processes.from_environment() as processes:
            return train_model(
                Job(source, out, overwrite=overwrite, **job),
                settings=settings,
                observer=Observers(told),
                should_stop=should_stop,
                processes=processes,
            )


def show_report(report: Any, *, quiet: bool = False) -> None:  # noqa: ANN401 - TrainReport, imported late
    """The test figures and what to do next; with `quiet` without the latter."""
    console = result_console()
    if report.evaluation is not None:
        console.print()
        for part in evaluation_tables(report.evaluation):
            console.print(part)
    console.print(f"\nSaved {report.folder}.")
    if not quiet:
        show_next(report.folder)


def show_next(model: Path) -> None:
    """What can be done with a model that was just saved."""
    commands = (f'predict {model} "some text"', f"evaluate {model} FILE", f"verify {model}")
    result_console().print("Next: " + "\n      ".join(f"manylabel {each}" for each in commands))
