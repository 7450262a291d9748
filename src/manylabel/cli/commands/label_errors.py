"""`manylabel label-errors`: which labels of a file are probably wrong, out to Label Studio and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

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
from manylabel.cli.outputs import Overwrite, require_new
from manylabel.cli.show import number, print_json, result_console, table
from manylabel.errors import Finding, UsageError, counted
from manylabel.terminal import printable

SHOWN = 20
CONTRADICTIONS_SHOWN = 10
WIDEST_TEXT = 60

Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="File to write: .jsonl, .csv, .tsv or .parquet; by default label-errors.jsonl.",
        show_default=False,
    ),
]
NumFolds = Annotated[
    int, typer.Option("--folds", min=2, max=20, help="Models to train, each without one fold.")
]
LabelStudio = Annotated[
    Path | None,
    typer.Option(
        "--label-studio",
        metavar="TASKS.json",
        help="Write the suspected rows as tasks for Label Studio, and its interface as .xml beside them.",
        show_default=False,
    ),
]
Corrected = Annotated[
    Path | None,
    typer.Option(
        "--corrected",
        metavar="EXPORT.json",
        help="Label Studio's JSON export; writes the file with the labels corrected there to --out.",
        show_default=False,
    ),
]
IncludeTexts = Annotated[
    bool, typer.Option("--include-texts", help="Show the texts and write them to --out.")
]
Fresh = Annotated[
    bool,
    typer.Option("--fresh", help="Discard the folds of an unfinished search instead of going on with it."),
]


@with_file_flags
def command(
    source: Source,
    *,
    data: dict[str, Any],
    out: Out = None,
    folds: NumFolds = 5,
    label_studio: LabelStudio = None,
    corrected: Corrected = None,
    include_texts: IncludeTexts = False,
    fresh: Fresh = False,
    overwrite: Overwrite = False,
    preset: PresetOption = None,
    config: Config = None,
    set_: SetOption = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Find labels that are probably wrong; the same command goes on with an interrupted search."""
    settings = settings_from(config, set_, data, presets=preset)
    if corrected is not None:
        _require_only_out(out, label_studio)
        assert out is not None
        require_new(overwrite, out=out)
        _correct(source, corrected, out, options=settings.data, as_json=as_json, quiet=quiet)
        return
    out = out or Path("label-errors.jsonl")
    require_new(overwrite, out=out, label_studio=label_studio)
    from manylabel.recipes.label_errors import ErrorSearch, search_label_errors
    from manylabel.training.interrupt import stop_on_interrupt
    from manylabel.training.observers import ConsoleObserver, Observer, Observers

    search = ErrorSearch(source, out, folds, label_studio, include_texts, fresh)
    with stop_on_interrupt() as should_stop:
        watching: tuple[Observer, ...] = (should_stop,) if quiet else (should_stop, ConsoleObserver())
        report = search_label_errors(
            search, settings=settings, observer=Observers(watching), should_stop=should_stop
        )
    if as_json:
        print_json({**report.to_json(), "out": str(out)})
        return
    _show(report, include_texts=include_texts)
    _show_outputs(search)


def _require_only_out(out: Path | None, label_studio: Path | None) -> None:
    if out is None or label_studio is not None:
        found = "--corrected without --out" if out is None else "--corrected and --label-studio at once"
        next_step = "add --out with the file to write" if out is None else "do one after the other"
        raise UsageError(
            Finding("U244", "manylabel label-errors", found, "--corrected EXPORT.json --out FILE", next_step)
        )


def _correct(source: Path, export: Path, out: Path, *, options: Any, as_json: bool, quiet: bool) -> None:  # noqa: ANN401 - DataSettings
    from manylabel.recipes.label_errors import correct_labels
    from manylabel.training.observers import ConsoleObserver, SilentObserver

    observer = SilentObserver() if quiet else ConsoleObserver()
    done = correct_labels(source, export, out, options=options, observer=observer)
    if as_json:
        counts = {"rows_seen": done.rows_seen, "cells_changed": done.cells_changed}
        print_json({**counts, "tasks_skipped": done.tasks_skipped, "out": str(out)})
        return
    skipped = (
        f", {counted(done.tasks_skipped, 'task')} skipped (nobody completed them)"
        if done.tasks_skipped
        else ""
    )
    result_console().print(
        f"{counted(done.rows_seen, 'row')} with an answer, {counted(done.cells_changed, 'label')} changed{skipped}; "
        f"written to {out}.\nNext: manylabel train {out} --out model"
    )


def _show(report: Any, *, include_texts: bool) -> None:  # noqa: ANN401 - ErrorReport, imported late
    """The likeliest errors by id and row; texts only when asked for."""
    from manylabel.recipes.label_errors import found_sentence

    console, corpus = result_console(), report.corpus
    columns = ("label", "given", "probability", "row", "id", *(("text",) if include_texts else ()))
    lines = []
    for cell in report.errors.suspected[:SHOWN]:
        text = (_short(corpus.texts[cell.row]),) if include_texts else ()
        row = (f"{corpus.rows_N[cell.row]:,}", corpus.ids[cell.row])
        lines.append((cell.label, str(cell.given), number(cell.probability, 3), *row, *text))
    if lines:
        console.print(table(columns, lines))
    for each in report.errors.contradictions[:CONTRADICTIONS_SHOWN]:
        rows = ", ".join(f"{corpus.rows_N[row]:,}" for row in each.rows)
        console.print(f"rows {rows} have equal texts and differ in {printable(', '.join(each.labels))}")
    for name, reason in report.errors.unjudged.items():
        console.print(f"not judged: {printable(name)} ({reason})")
    console.print("\n" + found_sentence(report))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= WIDEST_TEXT else line[: WIDEST_TEXT - 3] + "..."


def _show_outputs(search: Any) -> None:  # noqa: ANN401 - ErrorSearch, imported late
    console = result_console()
    console.print(f"Written to {search.out}.")
    if search.label_studio is not None:
        console.print(
            f"Tasks for Label Studio: {search.label_studio}, interface: {search.interface}.\n"
            f"Next, after its JSON export: manylabel label-errors {search.source} --corrected EXPORT.json --out FILE"
        )
