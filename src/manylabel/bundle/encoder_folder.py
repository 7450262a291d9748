"""How an encoder folder is published whole or not at all; called by the recipes that make encoders.

An encoder of ours has a file `encoder.json` that says where it comes from and which files are its own, so that
`--overwrite` never takes a folder that holds anything else.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from manylabel import __version__
from manylabel.bundle.exchange import exchange
from manylabel.bundle.files import published_folder, sync
from manylabel.errors import Finding, UsageError

ORIGIN = "encoder.json"
FORMAT = "manylabel encoder"
NAMES_SHOWN = 3


def write_origin(folder: Path, *, made_by: str, origin: Mapping[str, Any]) -> None:
    """Write `encoder.json`, the last file of a folder: the command that made it, its origin and the other files."""
    content = {
        "format": FORMAT,
        "made_by": made_by,
        "manylabel": __version__,
        "origin": dict(origin),
        "files": sorted(path.name for path in folder.iterdir() if path.name != ORIGIN),
    }
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    (folder / ORIGIN).write_text(text, encoding="utf-8")


def read_origin(folder: Path) -> dict[str, Any] | None:
    """What `write_origin` wrote; None where the folder is no encoder of ours or the file is damaged."""
    try:
        content = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_ours = isinstance(content, dict) and content.get("format") == FORMAT
    return content if is_ours and isinstance(content.get("files"), list) else None


def check_encoder_target(target: Path, *, overwrite: bool) -> None:
    """Refuse a target that exists, unless it is empty or an encoder of ours and `overwrite` is set.

    Raises UsageError; nothing is changed.
    """
    if not target.exists():
        return
    foreign = _foreign(target)
    if foreign:
        names = ", ".join(foreign[:NAMES_SHOWN])
        more = f" and {len(foreign) - NAMES_SHOWN:,} more" if len(foreign) > NAMES_SHOWN else ""
        found = f"it exists and holds {names}{more}, not written by this command"
        next_step = "choose another --out (--overwrite would not help)"
        raise UsageError(Finding("U207", str(target), found, "a new name or an empty folder", next_step))
    if not overwrite:
        next_step = "choose another --out, or add --overwrite"
        raise UsageError(Finding("U201", str(target), "it exists already", "a new name", next_step))


def _foreign(target: Path) -> list[str]:
    """What lies in `target` and is not part of an encoder of ours."""
    if not target.is_dir():
        return ["a file"]
    listed = {*(read_origin(target) or {"files": [ORIGIN]})["files"], ORIGIN}
    is_ours = read_origin(target) is not None
    present = sorted(target.iterdir())
    return [path.name for path in present if not is_ours or path.name not in listed or path.is_dir()]


@contextmanager
def published_encoder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its name when the block ends well.

    When the block fails or is interrupted nothing changes. With `overwrite` an encoder of ours is replaced, in one
    step where the system can. Raises UsageError as `check_encoder_target` does, at the start and before the end.
    """
    target = target.resolve()
    _put_back(target)
    check_encoder_target(target, overwrite=overwrite)
    if not target.exists() or not any(target.iterdir()):
        with published_folder(target, overwrite=overwrite) as folder:
            yield folder
        return
    successor = target.with_name(f".{target.name}.next")
    shutil.rmtree(successor, ignore_errors=True)  # Left by a process that was killed; ours by its name.
    with published_folder(successor, overwrite=False) as folder:
        yield folder
    try:
        check_encoder_target(target, overwrite=True)
        _replace(target, successor)
    finally:
        shutil.rmtree(successor, ignore_errors=True)
    sync(target.parent)


def _replace(target: Path, successor: Path) -> None:
    """Swap the two names; where the system cannot, move the old folder away first and back if that fails."""
    if exchange(target, successor):
        return
    former = _former_name(target)
    target.rename(former)
    try:
        successor.rename(target)
    finally:
        _put_back(target)


def _put_back(target: Path) -> None:
    """Give the old folder its name again where the new one never came, else remove it."""
    former = _former_name(target)
    if former.exists() and not target.exists():
        former.rename(target)
    shutil.rmtree(former, ignore_errors=True)


def _former_name(target: Path) -> Path:
    return target.with_name(f".{target.name}.former")
