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
from contextlib import suppress
from importlib import import_module
from typing import Any, TextIO

import typer

from manylabel import __version__
from manylabel.errors import ManylabelError

COMMANDS = {
    "demo": "Train, evaluate and predict on the example e-mails, in a few minutes.",
    "check": "Read a file and say what training would make of it: labels, duplicates, lengths, every problem.",
    "train": "Train a model on a file and save it with its figures.",
    "evaluate": "Score a model on a file it has not seen.",
    "predict": "Predict the labels of texts, or of every row of a file.",
    "verify": "Check that a saved model is whole and still gives its recorded probabilities.",
    "export": "Write a model as a plain transformers folder, where transformers can represent it.",
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
            command = import_module(f"manylabel.cli.commands.{name}").command
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
    debug = "--debug" in arguments
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # A terminal without a letter is no reason to fail.
    try:
        code = _run(arguments)
    except ManylabelError as error:
        code = _report(error, debug=debug)
    except KeyboardInterrupt:
        _say("Interrupted; nothing unfinished was left behind.")
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader of our output is gone (`manylabel ... | head`): not an error, and nothing may be written.
        code = 0
    except OSError as error:
        code = _report_system(error, debug=debug)
    except Exception as error:
        code = _report_usage(error, debug=debug)
    _release(sys.stdout)
    _release(sys.stderr)
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    """Run the chosen command, all its output written.

    Typer's own main turns KeyboardInterrupt and BrokenPipeError into exit codes without a word, so it is not used.
    """
    chosen = next((argument for argument in arguments if not argument.startswith("-")), None)
    command = typer.main.get_command(build_app(chosen))
    try:
        with command.make_context("manylabel", arguments) as context:
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


def _say(text: str) -> None:
    """A line on standard error, if somebody reads it."""
    from manylabel.terminal import printable

    with suppress(OSError):
        sys.stderr.write(printable(text) + "\n")
        sys.stderr.flush()


def _report(error: ManylabelError, *, debug: bool) -> int:
    if debug:
        raise error
    for finding in error.findings:
        _say(finding.sentence())
    return error.exit_code


def _report_system(error: OSError, *, debug: bool) -> int:
    """Disk full, no permission: the system's words, and what they mean for the user's files."""
    if debug:
        raise error
    place = error.filename or "the output"
    _say(f"S001 {place}: {error.strerror or error}. Next: free space or choose another place; "
         "what was there before is unchanged.")  # fmt: skip
    return 1


def _report_usage(error: Exception, *, debug: bool) -> int:
    """Typer's own usage errors get their sentence; anything else is a defect of ours and keeps its traceback."""
    show = getattr(error, "show", None)
    if debug or show is None:
        if debug:
            raise error
        _say(
            f"S002 manylabel itself failed ({type(error).__name__}). Next: run the command again with --debug and "
            "report the traceback."
        )
        return 1
    with suppress(OSError):
        show()
    code: int = getattr(error, "exit_code", 2)
    return code
