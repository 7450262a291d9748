"""Sizes a reader can hold in mind: files under 400 lines, functions under 60, at most 8 arguments.

Run by `make check` and tests/contracts/test_sizes.py: `python scripts/check_sizes.py [folder]`.
Docstrings do not count as lines of a function; `self` and `cls` do not count as arguments, and the functions in
cli/commands may have more of them, because a command's options are its arguments.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_ARGUMENTS = 8

Function = ast.FunctionDef | ast.AsyncFunctionDef


def function_lines(function: Function) -> int:
    """Lines from `def` to the end, without the docstring."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None and first.end_lineno is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def num_arguments(function: Function) -> int:
    """Arguments a caller can give."""
    given = function.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def too_big(path: Path) -> Iterator[str]:
    """One `path:line: what` for each size that is exceeded in a file."""
    source = path.read_text(encoding="utf-8")
    if (lines := source.count("\n")) > MAX_FILE_LINES:
        yield f"{path}:1: {lines} lines, at most {MAX_FILE_LINES}"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Function):
            if (lines := function_lines(node)) > MAX_FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name} has {lines} lines, at most {MAX_FUNCTION_LINES}"
            if (arguments := num_arguments(node)) > MAX_ARGUMENTS and path.parent.name != "commands":
                yield f"{path}:{node.lineno}: {node.name} has {arguments} arguments, at most {MAX_ARGUMENTS}"


def main(folder: Path) -> int:
    """Print what is too big; 1 when there is anything."""
    problems = [problem for path in sorted(folder.rglob("*.py")) for problem in too_big(path)]
    print("\n".join(problems) if problems else f"sizes of {folder} are within their limits")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "src")))
