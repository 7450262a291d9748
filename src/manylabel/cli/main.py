"""The command `manylabel`: which commands there are, how errors and interruptions end.

Only the module of the command that was asked for is imported, so that `manylabel --help` answers at once
(importing torch takes over a second). Exit codes: 0 done, 1 the data or the model was refused, 2 wrong usage,
130 interrupted.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, TextIO

import typer

from manylabel import __version__
from manylabel.cli.failures import say, tell_defect, tell_refusal, tell_system_error, tell_wrong_usage
from manylabel.errors import ManylabelError

if TYPE_CHECKING:
    from manylabel.recipes.launch import Member

COMMANDS = {
    "demo": "Train, evaluate and predict on the example e-mails, in a few minutes.",
    "check": "Read a file and say what training would make of it: labels, duplicates, lengths, every problem.",
    "train": "Train a model on a file and save it with its figures.",
    "crossfit": "Train on folds with several seeds and encoders, blend them out of fold, save one model.",
    "evaluate": "Score a model on a file it has not seen, every figure with its interval.",
    "report": "Write one HTML page: a verdict with its reasons, every figure, thresholds to try out.",
    "compare": "Compare two models on the same rows, with tests and one sentence of conclusion.",
    "label-errors": "Find labels of a file that are probably wrong, out to Label Studio and back.",
    "thresholds": "Choose thresholds for a goal, show what they do, and save a new version of the model.",
    "predict": "Predict the labels of texts, or of every row of a file.",
    "submit": "Write a competition's submission: its ids and columns, one probability a label.",
    "tta": "Test-time augmentation: look at a text in several views, weighted where that pays.",
    "explain": "Show which words of a text moved which label, and how far that can be believed.",
    "verify": "Check that a saved model is whole and still gives its recorded probabilities.",
    "export": "Write a model as a plain transformers folder, where transformers can represent it.",
    "adapt": "Let an encoder learn the language of your own texts; no labels needed.",
    "import-tf": "Turn an original BERT folder of TensorFlow into an encoder, without TensorFlow.",
    "settings": "List every setting with type, limits and default.",
}
INTERRUPTED = 130
EPILOG = "Exit codes: 0 done, 1 the data or the model was refused, 2 wrong usage, 130 interrupted."


def build_app(chosen: str | None) -> typer.Typer:
    """The application; only the chosen command has its real parameters, the others just their help line."""
    app = typer.Typer(
        name="manylabel",
        help="Multi-label text classification with BERT, from a CSV to a model whose numbers can be believed.",
        epilog=EPILOG,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_root)
    for name, summary in COMMANDS.items():
        command: Any = _placeholder
        if name == chosen:
            command = import_module(f"manylabel.cli.commands.{name.replace('-', '_')}").command
        app.command(name, help=summary, epilog=EPILOG)(command)
    return app


def _placeholder() -> None:
    """Stands for a command that was not asked for."""


def _show_version(value: bool) -> None:
    if value:
        sys.stdout.write(f"manylabel {__version__}\n")
        raise typer.Exit


def _root(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version."
    ),
) -> None:
    """Options before the command."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with a documented exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug, as_json = "--debug" in arguments, "--json" in _options(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # A terminal without a letter is no reason to fail.
    member = _member(arguments, debug=debug)
    try:
        code = _run(arguments)
    except KeyboardInterrupt:
        say("Interrupted; nothing unfinished was left behind.")
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader of our output is gone (`manylabel ... | head`): not an error, and nothing may be written.
        code = 0
    except Exception as error:
        if debug:
            raise
        unsaid = member.unsaid(error) if member is not None else None
        code = _tell(error, as_json=as_json, called=_called(arguments)) if unsaid is None else unsaid
    _release(sys.stdout)
    _release(sys.stderr)
    if member is not None:
        member.end(code)
    sys.exit(code)


def _member(arguments: list[str], *, debug: bool) -> Member | None:
    """This process as one of several that train together, silent unless it is the first; else None."""
    if "RANK" not in os.environ or "train" not in arguments:
        return None
    from manylabel.recipes.launch import Member

    member = Member.from_environment()
    if member is not None:
        member.begin(debug=debug)
    return member


def _options(arguments: list[str]) -> list[str]:
    """The arguments before a lone `--`, after which all are texts."""
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _called(arguments: list[str]) -> str:
    """The command that was asked for, as it is written."""
    chosen = _chosen(arguments)
    return f"manylabel {chosen}" if chosen in COMMANDS else "manylabel"


def _chosen(arguments: list[str]) -> str | None:
    return next((argument for argument in arguments if not argument.startswith("-")), None)


def _tell(error: Exception, *, as_json: bool, called: str) -> int:
    """Say what went wrong; returns the exit code."""
    if isinstance(error, ManylabelError):
        return tell_refusal(error, as_json=as_json)
    if isinstance(error, OSError):
        return tell_system_error(error, as_json=as_json)
    if hasattr(error, "format_message"):  # Typer's own errors.
        return tell_wrong_usage(error, as_json=as_json, called=called)
    return tell_defect(error, as_json=as_json)


def _run(arguments: list[str]) -> int:
    """Run the chosen command, all its output written.

    Typer's own main turns KeyboardInterrupt and BrokenPipeError into exit codes without a word, so it is not used.
    """
    command = typer.main.get_command(build_app(_chosen(arguments)))
    try:
        # `train --processes` passes the arguments on.
        with command.make_context("manylabel", list(arguments), obj=tuple(arguments)) as context:
            command.invoke(context)
        code = 0
    except typer.Exit as ended:
        code = ended.exit_code
    sys.stdout.flush()
    return code


def _release(stream: TextIO) -> None:
    """Flush, and where that fails let the rest go: Python would flush again at its end and fail with 120."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
