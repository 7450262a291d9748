"""`manylabel import-tf`: an original BERT folder as an encoder that training takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manylabel.cli.arguments import AsJson, Debug, Quiet
from manylabel.cli.show import print_json, result_console
from manylabel.errors import Finding, UsageError, counted
from manylabel.terminal import Terminal

if TYPE_CHECKING:
    from manylabel.recipes.import_tf import ImportedEncoder

SHOWN = 5

Folder = Annotated[
    Path,
    typer.Argument(
        help="Folder with bert_config.json, vocab.txt and bert_model.ckpt.*, or one .index file.",
        show_default=False,
    ),
]
Out = Annotated[Path, typer.Option("--out", help="New encoder folder to write.", show_default=False)]
Uncased = Annotated[
    bool,
    typer.Option(
        "--uncased",
        help="Lower-case texts and strip accents; by default what files, names or vocabulary say.",
        show_default=False,
    ),
]
Cased = Annotated[
    bool, typer.Option("--cased", help="Leave letters and accents as they are.", show_default=False)
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an encoder that was imported before.")]


def command(
    folder: Folder,
    *,
    out: Out,
    uncased: Uncased = False,
    cased: Cased = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Read Google's TensorFlow checkpoint without TensorFlow; write config, safetensors and tokenizer."""
    if cased and uncased:
        found, allowed = "--cased and --uncased at once", "one of them, or neither"
        raise UsageError(Finding("U215", "manylabel import-tf", found, allowed, "leave out one of them"))
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from manylabel.recipes.import_tf import import_tensorflow

    console = Terminal(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=quiet or as_json or not console.is_terminal) as progress:
        task = progress.add_task("importing", total=None)
        result = import_tensorflow(
            folder,
            out,
            lowercase=True if uncased else False if cased else None,
            overwrite=overwrite,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if as_json:
        print_json(result.to_json())
    elif not quiet:
        _show(result)


def _show(result: ImportedEncoder) -> None:
    console = result_console()
    console.print(
        f"{result.encoder}: {counted(result.num_layers, 'layer')}, width {result.hidden_size:,}, vocabulary "
        f"{result.vocab_size:,}, {result.num_parameters:,} parameters in {counted(result.num_tensors, 'tensor')}, "
        "every checksum right"
    )
    console.print(f"{result.casing}: {result.casing_reason}")
    if result.casing_doubt:
        console.print(f"Warning: {result.casing_doubt}. If that is wrong, say --cased or --uncased.")
    if result.missing_parts:
        console.print(f"not in the checkpoint: {', '.join(result.missing_parts)}")
    if result.optimizer_tensors_left_out:
        console.print(f"left out: {counted(result.optimizer_tensors_left_out, 'tensor')} of the optimizer")
    others = result.other_tensors_left_out
    if others:
        more = f" and {len(others) - SHOWN:,} more" if len(others) > SHOWN else ""
        console.print(f"left out, no part of BERT: {', '.join(others[:SHOWN])}{more}")
    console.print(f"Next: manylabel train FILE --encoder {result.encoder} --out MODEL")
