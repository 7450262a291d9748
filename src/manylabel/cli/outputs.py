"""Files that a command writes where the user says; called by the commands that write one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from manylabel.errors import Finding, UsageError

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace output files that exist already.")]


def require_new(overwrite: bool, **outputs: Path | None) -> None:
    """Refuse, before anything takes time, outputs that exist; each is named as its flag, None where not asked for.

    Raises UsageError with all of them, unless `overwrite` is set; a folder is refused in any case.
    """
    findings = []
    for flag, path in outputs.items():
        option = f"--{flag.replace('_', '-')}"
        if path is None or not path.exists():
            continue
        if path.is_dir():
            findings.append(
                Finding("U213", f"{option} {path}", "a folder", "a file", "give the name of a file")
            )
        elif path.is_file() and not overwrite:
            findings.append(
                Finding("U214", f"{option} {path}", "it exists already", "a new name",
                        f"choose another {option}, or add --overwrite")
            )  # fmt: skip
    if findings:
        raise UsageError(*findings)
