"""How a failure is told: sentences on standard error, and with --json an object on standard output. Called by main.py.

Whatever came from the user's arguments or files is printed without control characters.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from difflib import SequenceMatcher
from typing import Any

from manylabel.errors import Finding, ManylabelError, told_together

NEAR = 0.7
"""`difflib` ratio from which an option, or its first word, is meant by a misspelt one."""
MAX_SUGGESTED = 3
VALIDATION = "Value error, "
"""What the checks of typed values put before their own sentence."""
OTHER_PLACE = "choose another place"
ADVICE = {
    errno.ENOSPC: f"free space, or {OTHER_PLACE}",
    errno.EDQUOT: f"your share of the disk is used up: free space, or {OTHER_PLACE}",
    errno.EFBIG: f"the file is larger than may be written there: {OTHER_PLACE}",
    errno.EACCES: f"check the permissions of the file and its folder, or {OTHER_PLACE}",
    errno.EPERM: f"check the permissions of the file and its folder, or {OTHER_PLACE}",
    errno.EROFS: f"nothing can be written on that disk: {OTHER_PLACE}",
    errno.EISDIR: "it is a folder: name a file",
    errno.ENOTDIR: "a part of the path is a file: check the path",
    errno.ENOENT: "check the path",
    errno.ENAMETOOLONG: "choose a shorter name",
}
"""What helps, by the system's error number."""


def say(text: str) -> None:
    """A line on standard error, if somebody reads it."""
    from manylabel.terminal import printable

    with suppress(OSError):
        sys.stderr.write(printable(text) + "\n")
        sys.stderr.flush()


def tell_refusal(error: ManylabelError, *, as_json: bool) -> int:
    """Every finding of `error`; returns its exit code."""
    if as_json:
        _print_findings(error.findings)
    for finding in told_together(error.findings):
        say(finding.sentence())
    return error.exit_code


def tell_system_error(error: OSError, *, as_json: bool) -> int:
    """Disk full, no permission: the system's words, and what helps; returns the exit code."""
    place = str(error.filename or "the output")
    advice = ADVICE.get(error.errno or 0, OTHER_PLACE)
    next_step = f"{advice}; what was there before is unchanged"
    finding = Finding("S001", place, error.strerror or str(error), next_step=next_step)
    if as_json:
        _print_findings([finding])
    say(finding.sentence())
    return 1


def tell_defect(error: Exception, *, as_json: bool) -> int:
    """A failure that is nobody's but ours; returns the exit code."""
    found = f"itself failed ({type(error).__name__})"
    next_step = "run the command again with --debug and report the traceback"
    if as_json:
        _print_findings([Finding("S002", "manylabel", found, next_step=next_step)])
    say(f"S002 manylabel {found}. Next: {next_step}.")
    return 1


def tell_wrong_usage(error: Any, *, as_json: bool, called: str = "manylabel") -> int:  # noqa: ANN401 - typer's
    """Typer's sentence about a wrong command line as a finding, and how the command is called; returns the exit code.

    `called` is the command, for an error that does not know where it happened.
    """
    code: int = getattr(error, "exit_code", 2)
    context, message = getattr(error, "ctx", None), error.format_message()
    place = called if context is None else context.command_path
    is_help = context is not None and message == context.get_help()
    if hasattr(error, "possibilities"):
        message = f"{error.message}.{_suggestion(error.option_name, _options(context))}"
    found = "no command is given" if is_help else " ".join(message.split()).replace(VALIDATION, "")
    finding = Finding("U200", place, found, next_step=f"{place} --help")
    usage = [] if context is None else context.get_usage().split("\n")
    if as_json:
        _print_findings([finding])
    # `manylabel` alone is answered with its help.
    for line in message.split("\n") if is_help else [finding.sentence(), *usage]:
        say(line)
    return code


def _options(context: Any) -> list[str]:  # noqa: ANN401 - typer's Context
    """The long options of the command that was asked for."""
    parameters = context.command.params if context else []
    names = [name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)]
    return [name for name in names if name.startswith("--")]


def _suggestion(misspelt: str, options: Iterable[str]) -> str:
    """The options that `misspelt` may mean, the likeliest first: it is close to the name or to its first word."""
    wanted = misspelt.strip("-").casefold()

    def nearness(option: str) -> float:
        name = option.strip("-")
        forms = (name, name.partition("-")[0])
        return max(SequenceMatcher(None, wanted, form).ratio() for form in forms)

    near = sorted((option for option in options if nearness(option) >= NEAR), key=nearness, reverse=True)
    return f" Did you mean {' or '.join(near[:MAX_SUGGESTED])}?" if near else ""


def _print_findings(findings: Sequence[Finding]) -> None:
    """One object: the first error, and all findings."""
    from manylabel.cli.show import print_json

    first = next(finding for finding in findings if finding.severity == "error")
    with suppress(OSError):
        print_json({"error": first.to_json(), "findings": [finding.to_json() for finding in findings]})
