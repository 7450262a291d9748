"""`manylabel adapt`: texts in, an encoder out that knows their language."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from manylabel.bundle.encoder_folder import check_encoder_target
from manylabel.cli.arguments import AsJson, Config, Debug, Quiet, SetOption, settings_from
from manylabel.cli.commands.train import Encoder, NumProcesses, is_main, without_processes
from manylabel.cli.show import print_json, result_console
from manylabel.recipes.launch import Member, launch

Texts = Annotated[
    list[Path],
    typer.Argument(
        help="Files with texts: .txt, CSV, TSV, JSONL or Parquet; labels in them are not read.",
        show_default=False,
    ),
]
Out = Annotated[Path, typer.Option("--out", help="Folder to save the encoder in.", show_default=False)]
Test = Annotated[
    list[Path] | None,
    typer.Option(
        "--test",
        help="File whose texts are left out, copies and near copies too; repeatable.",
        show_default=False,
    ),
]
TextColumn = Annotated[
    str | None, typer.Option("--text-column", help="Column with the text, else guessed.", show_default=False)
]
Encoding = Annotated[
    str | None, typer.Option("--encoding", help="Character encoding of the files.", show_default=False)
]
Language = Annotated[
    str, typer.Option("--language", help="Code of the texts' language, for the ends of sentences.")
]
OneALine = Annotated[
    bool,
    typer.Option(
        "--document-per-line", help="In a .txt file each line is a document; else blank lines separate them."
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an encoder that is already in the folder.")
]
Fresh = Annotated[
    bool,
    typer.Option("--fresh", help="Discard an unfinished run of this encoder instead of going on with it."),
]


def command(
    texts: Texts,
    *,
    context: typer.Context,
    out: Out,
    encoder: Encoder = None,
    test: Test = None,
    text_column: TextColumn = None,
    encoding: Encoding = None,
    language: Language = "en",
    document_per_line: OneALine = False,
    overwrite: Overwrite = False,
    fresh: Fresh = False,
    processes: NumProcesses = 1,
    config: Config = None,
    set_: SetOption = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Let the encoder learn the language of your own texts; the same command goes on with a stopped run."""
    given = {"text_column": text_column, "encoding": encoding}
    data = {name: value for name, value in given.items() if value is not None}
    settings = settings_from(config, set_, data, typed={"model.encoder": encoder} if encoder else {})
    check_encoder_target(out.resolve(), overwrite=overwrite)  # Before torch is imported, which takes seconds.
    if processes > 1:
        command_line = ["-m", "manylabel", *without_processes(context.obj)]
        raise typer.Exit(launch(command_line, num_processes=processes, debug=debug))
    sources: dict[str, Any] = {
        "texts": tuple(texts),
        "test": tuple(test or ()),
        "language": language,
        "one_a_line": document_per_line,
    }
    report = run_adaptation(
        sources, out=out, settings=settings, quiet=quiet, overwrite=overwrite, fresh=fresh
    )
    if is_main() and as_json:
        print_json(report.to_json())
    elif is_main():
        show_report(report, quiet=quiet)


def run_adaptation(
    sources: dict[str, Any],
    *,
    out: Path,
    settings: Any,  # noqa: ANN401 - RunSettings, imported late
    quiet: bool,
    overwrite: bool,
    fresh: bool,
) -> Any:  # noqa: ANN401 - AdaptReport, imported late
    """Adapt with a bar on the terminal and a log beside the encoder; Ctrl-C saves the state of the run and ends it."""
    from manylabel.recipes.adapt import AdaptJob, adapt_encoder
    from manylabel.recipes.adapt_texts import TextSources
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
            return adapt_encoder(
                AdaptJob(TextSources(**sources), out, overwrite, fresh),
                settings=settings,
                observer=Observers(told),
                should_stop=should_stop,
                processes=processes,
            )


def show_report(report: Any, *, quiet: bool = False) -> None:  # noqa: ANN401 - AdaptReport, imported late
    """The figures before and after, and what to do next; with `quiet` without the latter."""
    console = result_console()
    before, after = report.before, report.after
    lines = [
        f"\nOn {after.masked:,} masked tokens of texts held out  before    after",
        f"  guessed right                  {before.accuracy:12.1%}{after.accuracy:9.1%}",
        f"  perplexity                     {before.perplexity:12,.1f}{after.perplexity:9,.1f}",
    ]
    if before.next_accuracy is not None and after.next_accuracy is not None:
        lines.append(
            f"  next sentence told right       {before.next_accuracy:12.1%}{after.next_accuracy:9.1%}"
        )
    console.print("\n".join(lines))
    console.print(f"\nSaved {report.folder}.")
    if not quiet:
        console.print(
            f"Next: manylabel train FILE --out MODEL --encoder {report.folder}\n"
            "      and the same without --encoder, to see whether it pays"
        )
