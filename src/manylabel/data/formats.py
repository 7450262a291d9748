"""What kind of file a path is, and its bytes without compression. Called by `read` and the readers.

The kind comes from the name (`mails.csv.gz` is a compressed CSV); the first bytes only confirm it.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO, Literal, cast

import pyarrow as pa

from manylabel.data.problems import finding
from manylabel.errors import DataError

Kind = Literal["csv", "tsv", "jsonl", "parquet"]
Compression = Literal["gzip", "zstd"] | None

KINDS: dict[str, Kind] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd"}
ALLOWED = ".csv, .tsv, .jsonl, .ndjson or .parquet, each also with .gz or .zst"
WAYS_OUT = {
    ".json": "write one JSON object a line and name the file .jsonl",
    ".txt": "name the file .csv or .tsv if it has columns",
    ".xlsx": "save the sheet as CSV UTF-8",
    ".xls": "save the sheet as CSV UTF-8",
    ".zip": "unpack it first",
    ".bz2": "unpack it first",
    ".xz": "unpack it first",
}
BINARY_STARTS = {
    b"\x1f\x8b": ("gzip", "add .gz to the file name"),
    b"\x28\xb5\x2f\xfd": ("Zstandard", "add .zst to the file name"),
    b"PK\x03\x04": ("a zip archive or an Excel workbook", "unpack it, or save the sheet as CSV UTF-8"),
    b"PAR1": ("Parquet", "name the file .parquet"),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook", "save the sheet as CSV UTF-8"),
    b"%PDF": ("a PDF", "export the table as CSV UTF-8"),
}


@dataclass(frozen=True)
class FileFormat:
    """Kind and compression of a file; the compression has pyarrow's name."""

    kind: Kind
    compression: Compression


def format_of(path: Path) -> FileFormat:
    """The format that the file's name says.

    Raises:
        DataError: no such file, a folder, an empty file or an unknown suffix.
    """
    if path.is_dir():
        raise _refused("D102", path, "is a folder", "a file", "name the file inside it")
    if not path.exists():
        raise missing_file(path)
    file_format = format_of_name(path)
    if path.stat().st_size == 0:
        raise _refused("D104", path, "the file is empty", "at least one row", "check how it was written")
    return file_format


def format_of_name(path: Path) -> FileFormat:
    """The format that a name says, for a file that need not exist.

    Raises:
        DataError: an unknown suffix.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression: Compression = None
    if suffixes and suffixes[-1] in COMPRESSIONS:
        compression = COMPRESSIONS[suffixes.pop()]
    last = suffixes[-1] if suffixes else ""
    if last not in KINDS:
        found = f'unknown file type "{last}"' if last else "the file name has no type"
        raise _refused("D103", path, found, ALLOWED, WAYS_OUT.get(last, "rename or convert the file"))
    return FileFormat(KINDS[last], compression)


@contextmanager
def open_bytes(path: Path, compression: Compression) -> Iterator[BinaryIO]:
    """The uncompressed bytes of `path`; damage met while reading becomes a `DataError`."""
    try:
        with path.open("rb") as raw:
            yield _uncompressed(raw, compression)
    except (EOFError, gzip.BadGzipFile, zlib.error) as problem:
        raise _damaged(path, compression, problem) from problem
    except (IsADirectoryError, PermissionError) as problem:
        found = f"the file cannot be opened ({problem.strerror})"
        raise _refused("D101", path, found, "a readable file", "check its permissions") from problem
    except OSError as problem:
        if not compression:
            raise
        raise _damaged(path, compression, problem) from problem


def refuse_binary(path: Path, start: bytes) -> None:
    """Raises `DataError` when the first bytes of a text file belong to another, binary format."""
    for magic, (name, next_step) in BINARY_STARTS.items():
        if start.startswith(magic):
            raise _refused("D103", path, f"the content is {name}, not text", ALLOWED, next_step)


def _uncompressed(raw: BinaryIO, compression: Compression) -> BinaryIO:
    if compression == "gzip":
        return cast(BinaryIO, gzip.GzipFile(fileobj=raw))
    if compression == "zstd":
        return cast(BinaryIO, io.BufferedReader(pa.CompressedInputStream(raw, "zstd")))
    return raw


def _damaged(path: Path, compression: Compression, problem: Exception) -> DataError:
    truncated = isinstance(problem, EOFError) or "runcated" in str(problem)
    what = "ends too early" if truncated else "is damaged"
    found = f"the {compression} data {what}"
    return _refused("D105", path, found, "a complete compressed file", "copy or download the file again")


def missing_file(path: Path) -> DataError:
    """The refusal of a file that is not there; names the folder on its path that is missing, if one is."""
    missing = path
    while not missing.parent.exists():
        missing = missing.parent
    found = "no such file" if missing == path else f'no such file, since there is no folder "{missing}"'
    names = [entry.name for entry in missing.parent.iterdir()] if missing.parent.is_dir() else []
    near = get_close_matches(missing.name, names, n=1)
    step = f'did you mean "{near[0]}"?' if near else "check the path"
    return _refused("D101", path, found, "an existing file", step)


def _refused(code: str, path: Path, found: str, allowed: str, next_step: str) -> DataError:
    # The name of "." is empty.
    name = path.name or path.resolve().name or str(path)
    return DataError(finding(code, name, found, allowed, next_step))
