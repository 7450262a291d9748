"""`manylabel crossfit`: folds x seeds x encoders, blended and saved as one model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

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
from manylabel.cli.commands.train import show_next
from manylabel.cli.show import measured, print_json, result_console, table
from manylabel.cli.show_evaluation import evaluation_tables
from manylabel.errors import Finding, UsageError

Out = Annotated[Path, typer.Option("--out", help="Folder to save the ensemble in.", show_default=False)]
NumFolds = Annotated[
    int, typer.Option("--folds", min=2, max=20, help="Models of each member, each without one fold.")
]
Seeds = Annotated[
    str | None,
    typer.Option(
        "--seeds",
        metavar="N,N",
        help="Seeds of the trainings, separated by commas; by default training.seed.",
        show_default=False,
    ),
]
Encoders = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder", metavar="NAME", help="default, a folder, or a hub id; repeatable.", show_default=False
    ),
]
Linear = Annotated[bool, typer.Option("--linear/--no-linear", help="Whether a linear model is a member.")]
BlendOption = Annotated[
    Literal["auto", "mean", "ranks", "greedy", "stacked"],
    typer.Option("--blend", help="How the members become one; auto takes the best out of fold."),
]
Views = Annotated[
    str,
    typer.Option(
        "--views",
        metavar="VIEW,VIEW",
        help="How the networks look at a text: see docs/test-time-augmentation.md.",
    ),
]
Test = Annotated[
    Path | None,
    typer.Option("--test", help="File for the final figures; else they are out of fold.", show_default=False),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace a model and a table that are already there.")
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Discard the folds of an unfinished run instead of going on with it.")
]


@with_file_flags
def command(
    source: Source,
    *,
    out: Out,
    data: dict[str, Any],
    folds: NumFolds = 5,
    seeds: Seeds = None,
    encoder: Encoders = None,
    linear: Linear = True,
    blend: BlendOption = "auto",
    views: Views = "head",
    test: Test = None,
    overwrite: Overwrite = False,
    fresh: Fresh = False,
    preset: PresetOption = None,
    config: Config = None,
    set_: SetOption = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train on folds with several seeds and encoders, blend all of it out of fold, and save one model."""
    chosen = _seeds(seeds)
    typed: dict[str, object] = {}
    if encoder:
        typed["model.encoder"] = encoder[0]
    if chosen:
        typed["training.seed"] = chosen[0]
    settings = settings_from(config, set_, data, typed=typed, presets=preset)
    check_target(out, overwrite)  # Before torch is imported, which takes seconds.
    from manylabel.recipes.crossfit import crossfit_model
    from manylabel.recipes.crossfit_plan import CrossfitJob
    from manylabel.training.interrupt import stop_on_interrupt
    from manylabel.training.observers import ConsoleObserver, JsonLinesLog, Observer, Observers

    job = CrossfitJob(
        source,
        out,
        folds=folds,
        seeds=chosen,
        encoders=tuple(encoder or ()),
        linear=linear,
        blend=blend,
        views=tuple(view.strip() for view in views.split(",") if view.strip()),
        test=test,
        overwrite=overwrite,
        fresh=fresh,
    )
    place = out.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    with JsonLinesLog(place.with_name(place.name + ".log.jsonl")) as log, stop_on_interrupt() as should_stop:
        told: tuple[Observer, ...] = (should_stop, log) if quiet else (should_stop, ConsoleObserver(), log)
        report = crossfit_model(job, settings=settings, observer=Observers(told), should_stop=should_stop)
    if as_json:
        print_json(report.evaluation)
    else:
        _show(report, quiet=quiet)


def _seeds(given: str | None) -> tuple[int, ...]:
    """Numbers separated by commas."""
    try:
        return () if given is None else tuple(int(part) for part in given.split(","))
    except ValueError as error:
        raise UsageError(
            Finding(
                "U301", "--seeds", given or "", "numbers separated by commas", "give for example --seeds 1,2"
            )
        ) from error


def crossfit_tables(figures: Mapping[str, Any]) -> list[Any]:
    """Components and blends out of fold, which blend was taken, and whether it beats the best component."""
    chosen = figures["chosen"]
    rows = [_row(name, each, "best component" if name == figures["best_component"] else "")
            for name, each in figures["components"].items()]  # fmt: skip
    for name, each in figures["blends"].items():
        taken = (
            "chosen on the other folds of each fold" if name == "auto" else "taken" if name == chosen else ""
        )
        rows.append(_row(f"blend: {name}", each, taken))
    columns = ("out of fold", "macro average precision", "macro ROC-AUC", "")
    parts: list[Any] = [table(columns, rows)]
    against = figures["against_best_component"]
    if against is not None:
        parts.append(against["conclusion"])
    return parts


def _row(name: str, figures: Mapping[str, Any], note: str) -> tuple[str, ...]:
    found = (figures[metric] for metric in ("average_precision", "roc_auc"))
    return (name, *(measured(each["value"], each["interval"]) for each in found), note)


def _show(report: Any, *, quiet: bool) -> None:  # noqa: ANN401 - CrossfitReport, imported late
    """What every part is worth, the figures, and what to do next; with `quiet` without the latter."""
    console = result_console()
    console.print()
    parts = [*crossfit_tables(report.evaluation["crossfit"]), "", below(report.evaluation)]
    for part in [*parts, *evaluation_tables(report.evaluation)]:
        console.print(part)
    console.print(f"\nSaved {report.folder}, and predictions out of fold in {report.out_of_fold}.")
    if not quiet:
        show_next(report.folder)


def below(evaluation: Mapping[str, Any]) -> str:
    """Why the figures that follow differ from those of the table out of fold."""
    if evaluation.get("out_of_fold"):
        return (
            "Above, components and blends as they rank all rows together. Below, the blend calibrated: the rows of "
            "each fold by maps of the other folds. Maps differ a little from fold to fold, so the figures do too."
        )
    return "Above, figures out of fold. Below, those of the saved ensemble on the test rows."
