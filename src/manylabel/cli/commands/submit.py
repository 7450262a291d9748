"""`manylabel submit`: a competition's file from its test file and its sample."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manylabel.cli.arguments import AsJson, Debug, Model, PrecisionOption, Quiet, Source, with_file_flags
from manylabel.cli.outputs import Overwrite, require_new
from manylabel.cli.show import print_json, result_console
from manylabel.errors import counted
from manylabel.terminal import Terminal, printable

if TYPE_CHECKING:
    from manylabel.config.schema import DataSettings
    from manylabel.inference.load import LoadedModel
    from manylabel.recipes.submit import Submitted

Sample = Annotated[
    Path | None,
    typer.Option(
        "--sample",
        help="The competition's sample submission: its ids, columns and their order are kept. "
        "Without it: the test file's ids and the model's labels.",
        show_default=False,
    ),
]
Out = Annotated[Path, typer.Option("--out", help="CSV file to write.")]


@with_file_flags
def command(
    model: Model,
    source: Source,
    *,
    data: dict[str, Any],
    sample: Sample = None,
    out: Out = Path("submission.csv"),
    overwrite: Overwrite = False,
    precision: PrecisionOption = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a competition's submission: one row an id, one probability a label, checked against the sample."""
    require_new(overwrite, out=out)
    from manylabel.config.load import load_data_settings

    options = load_data_settings(data)  # Before torch is imported, which takes seconds.
    from manylabel.inference.load import load_model
    from manylabel.recipes.empty_texts import note_on_empty_texts
    from manylabel.recipes.submit import check_target

    check_target(out, source, sample)
    loaded = load_model(model, precision=precision)
    done = _submit(loaded, source, out, sample=sample, options=options, quiet=quiet or as_json)
    if as_json:
        told = {"output": str(out), "rows": done.rows, "columns": list(done.columns), "cut": done.truncated}
        print_json({**told, "rows_without_text": done.without_text})
    elif not quiet:
        console = result_console()
        were = "was" if done.truncated == 1 else "were"
        columns = ", ".join(map(printable, done.columns))
        console.print(f"{counted(done.rows, 'row')} written to {out}: {columns}")
        console.print(f"read back and verified; {counted(done.truncated, 'text')} {were} longer than the model "
                      f"reads and {were} cut")  # fmt: skip
        if done.without_text:
            console.print(f"note: {note_on_empty_texts(done.without_text, done.rows)}")


def _submit(
    loaded: LoadedModel,
    source: Path,
    out: Path,
    *,
    sample: Path | None,
    options: DataSettings,
    quiet: bool,
) -> Submitted:
    """Predict with a bar that shows the rows done and the time left."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from manylabel.recipes.submit import submit

    console = Terminal(stderr=True)
    parts = (
        TextColumn("predicting"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*parts, console=console, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task("predicting", total=None)

        def tell(completed: int, total: int) -> None:
            progress.update(task, completed=completed, total=total)

        return submit(loaded, source, out, sample=sample, options=options, on_progress=tell)
