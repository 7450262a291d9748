"""The names in a bundle's folder, and how a file or folder is published whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from manylabel.bundle.exchange import exchange
from manylabel.errors import Finding, UsageError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
DECISIONS = "decisions.json"
BASELINE = "baseline.safetensors"
SEEN_TEXTS = "seen_texts.safetensors"
PROBES = "probes.json"
EVALUATION = "evaluation.json"
SETTINGS = "settings.yaml"
CARD = "README.md"
REPORT = "report.html"
MANIFEST = "manifest.json"
ENSEMBLE = "ensemble.json"
MODELS = "models"
"""Folder of an ensemble's models, each in a folder of its name."""
LINEAR = "linear.safetensors"

MANIFEST_KEYS = {"checksum", "files", "format_version", "labels"}
"""By these a manifest.json is known as one of ours; the same name is common elsewhere."""
NAMES_SHOWN = 3
ERRORS_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space, none left of the user's share, a file too large: met only by who writes."""


def sync(path: Path) -> None:
    """Wait until the file or folder is on the disk, so that a rename after it never publishes less."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_writable(target: Path, option: str = "--out") -> None:
    """Find out before hours of training, not after, that the folder beside `target` takes no files.

    Raises UsageError, which says to choose another `option`. Not part of `check_target`, which a save calls again just
    before its rename.
    """
    parent = target.resolve().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        os.rmdir(tempfile.mkdtemp(prefix=".manylabel-", dir=parent))
    except OSError as error:
        found = f"nothing can be written beside it ({error.strerror})"
        finding = Finding("U212", str(target), found, "a folder you may write to", f"choose another {option}")
        raise UsageError(finding) from error


def check_target(target: Path, overwrite: bool) -> None:
    """Refuse a target that may not be written: it exists, and is not a model or empty, or `overwrite` is not set.

    Raises UsageError; nothing is changed.
    """
    place = target.resolve()
    if not place.exists():
        if not overwrite and (former := _abandoned(place, "replaced")):
            raise UsageError(
                Finding("U201", str(target), f"a save was cut short; the model it was to replace is in {former[0]}",
                        "a new name", "rename that folder back, choose another --out, or add --overwrite")
            )  # fmt: skip
        return
    held = _held(place)
    if not overwrite:
        next_step = (
            "choose another --out (--overwrite would not help: it replaces only a manylabel model)"
            if held
            else "choose another --out, or add --overwrite"
        )
        run = place.with_name(place.name + ".run")
        if not held and run.is_dir():
            # A crash came between the end of the save and the removal of what is no longer needed, or a training that
            # was to replace this model was stopped; the former is by far the likelier without --overwrite.
            next_step += (
                f"; {run} is left of a training: where `manylabel verify {target}` passes, it can be removed"
            )
        raise UsageError(Finding("U201", str(target), "it exists already", "a new name", next_step))
    if held:
        raise UsageError(
            Finding("U207", str(target), f"it holds {held}, which would be lost",
                    "a new name, an empty folder or a manylabel model", "choose another --out")
        )  # fmt: skip


@contextmanager
def published_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its name when the block ends well.

    Every file is synced before the rename. When the block fails or is interrupted nothing appears under `target`
    and the temporary folder is removed; what a killed process left is removed the next time. With `overwrite` a
    model that was there before is replaced, in one step where the system can, and stays as it was when anything
    fails. Raises UsageError as `check_target` does, at the start and again before the rename.
    """
    target = target.resolve()  # A link keeps pointing to where the user's models are.
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    check_target(target, overwrite)
    temporary = _temporary_name(target, "writing")
    replaced = _temporary_name(target, "replaced")
    temporary.mkdir()
    try:
        yield temporary
        for path in temporary.rglob("*"):
            sync(path)
        sync(temporary)
        check_target(target, overwrite)
        _take_name(temporary, target, replaced)
        sync(target.parent)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if replaced.exists() and not target.exists():
            replaced.rename(target)
        if isinstance(error, OSError):
            _tell_users_name(error, temporary, target)
        raise
    _remove_model(replaced)


@contextmanager
def published_file(target: Path) -> Iterator[Path]:
    """A temporary path beside `target` that takes its name when the block ends well; removed when it fails.

    The suffixes stay the same, so that writers which look at them see the right format. What a killed process
    left is removed the next time.
    """
    begin, end = f".writing-{_host()}-", f"-{target.name}"
    for name in _names_like(target.parent, begin, end):
        if not _is_running(name.removeprefix(begin).removesuffix(end)):
            (target.parent / name).unlink(missing_ok=True)
    temporary = target.with_name(f"{begin}{os.getpid()}{end}")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(target)
        sync(target.parent)
    except OSError as error:
        _tell_users_name(error, temporary, target)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def names_in(folder: Path, listed: Iterable[str]) -> set[str]:
    """Paths of what `folder` holds, relative to it; folders are looked into only where a listed path leads through.

    A folder that is not looked into, or is empty, is named itself. Links are not followed.
    """
    inner = folders_of(listed)

    def names_below(place: str) -> Iterator[str]:
        for path in (folder / place).iterdir():
            name = f"{place}/{path.name}" if place else path.name
            found = set(names_below(name)) if name in inner and _is_real_folder(path) else set()
            yield from found or {name}

    return set(names_below(""))


def folders_of(listed: Iterable[str]) -> set[str]:
    """The folders that the listed paths lead through: a and a/b for a/b/c."""
    return {
        "/".join(parts[:end])
        for parts in (name.split("/") for name in listed)
        for end in range(1, len(parts))
    }


def _is_real_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def replaced_leftovers(target: Path) -> list[Path]:
    """Former models of `target` that a save cut short has left under another name, on any host."""
    return [
        target.parent / name
        for name in _names_like(target.parent, f".{target.name}.replaced-", "")
        if (target.parent / name).is_dir()
    ]


def _tell_users_name(error: OSError, temporary: Path, target: Path) -> None:
    """Put the name the user gave into an error that has our temporary one, or none because a write failed."""
    named = "" if error.filename is None else os.fsdecode(error.filename)
    if Path(named).is_relative_to(temporary):
        error.filename, error.filename2 = str(target / Path(named).relative_to(temporary)), None
    elif not named and error.errno in ERRORS_OF_WRITING:
        error.filename = str(target)


def _held(target: Path) -> str | None:
    """What `target` holds besides a model, in words; None where it is an empty folder or a model."""
    if not target.is_dir():
        return "a file"
    listed = _names_of_model(target)
    if listed is None:
        foreign = sorted(path.name for path in target.iterdir())
        what = "and no manifest.json of a model"
    else:
        present = sorted(names_in(target, listed))
        foreign = [name for name in present if name not in listed or (target / name).is_dir()]
        what = "beside the files of the model"
    if not foreign:
        return None
    more = f" and {len(foreign) - NAMES_SHOWN:,} more" if len(foreign) > NAMES_SHOWN else ""
    return f"{', '.join(foreign[:NAMES_SHOWN])}{more} {what}"


def _names_of_model(folder: Path) -> set[str] | None:
    """The file names in a model's manifest, and the manifest; None where there is none of ours.

    The hashes are left alone: a damaged model may be replaced.
    """
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or not MANIFEST_KEYS.issubset(content):
        return None
    listed = content["files"]
    return {*listed, MANIFEST} if isinstance(listed, dict) else None


def _take_name(temporary: Path, target: Path, replaced: Path) -> None:
    """Give `temporary` the name `target`; what had it is then called `replaced`."""
    if not target.exists():
        temporary.rename(target)
    elif exchange(temporary, target):
        temporary.rename(replaced)
    else:
        target.rename(replaced)
        temporary.rename(target)


def _remove_model(folder: Path) -> None:
    """Remove the files of a former model, the manifest last, and the folder if nothing else is in it.

    Whatever a user put there in the last moment stays, and so does what cannot be removed.
    """
    listed = _names_of_model(folder) or set()
    try:
        # Only names found in the folder, so that no manifest can have anything outside it removed.
        for name in sorted((listed & names_in(folder, listed)) - {MANIFEST}):
            (folder / name).unlink(missing_ok=True)
        for inner in sorted(folders_of(listed), reverse=True):
            if (folder / inner).is_dir() and not os.listdir(folder / inner):
                (folder / inner).rmdir()
        if set(os.listdir(folder)) <= {MANIFEST}:
            (folder / MANIFEST).unlink(missing_ok=True)
            folder.rmdir()
    except OSError:
        return


def _remove_leftovers(target: Path) -> None:
    """Put a half-replaced model back, then remove what this host's processes that are gone have left."""
    for former in _abandoned(target, "replaced"):
        if target.exists():
            _remove_model(former)
        else:
            former.rename(target)
    for unfinished in _abandoned(target, "writing"):
        shutil.rmtree(unfinished, ignore_errors=True)


def _abandoned(target: Path, kind: str) -> list[Path]:
    """Temporary folders for `target` whose process on this host is gone."""
    begin = f".{target.name}.{kind}-{_host()}-"
    return [
        target.parent / name
        for name in _names_like(target.parent, begin, "")
        if not _is_running(name.removeprefix(begin))
    ]


def _temporary_name(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.{kind}-{_host()}-{os.getpid()}")


def _host() -> str:
    """This machine's name as part of a file name; process numbers mean nothing on another machine."""
    return re.sub(r"[^A-Za-z0-9.]", "_", platform.node()) or "host"


def _names_like(folder: Path, begin: str, end: str) -> list[str]:
    """Names that begin and end like this, in order; no patterns, as users' names may hold brackets."""
    if not folder.is_dir():
        return []
    return sorted(name for name in os.listdir(folder) if name.startswith(begin) and name.endswith(end))


def _is_running(process: str) -> bool:
    """Whether the process with this number works on what bears it; what is no number belongs to someone else."""
    if not process.isdecimal():
        return True
    if int(process) == os.getpid():
        return False
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
