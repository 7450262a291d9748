"""Whether a file can be written where the user said, before anything takes time; called by recipes that write files."""

from __future__ import annotations

from pathlib import Path

from manylabel.bundle.files import require_writable
from manylabel.errors import Finding, UsageError


def require_place(path: Path, option: str) -> None:
    """Raise UsageError where `path` is a folder, in none, or in one that takes no files.

    `option` is what to choose again, for example --out.
    """
    if path.is_dir() or not path.resolve().parent.is_dir():
        found = "it is a folder" if path.is_dir() else "its folder does not exist"
        raise UsageError(
            Finding("U209", str(path), found, "a file in an existing folder", f"choose another {option}")
        )
    require_writable(path, option)
