"""From bytes to lines of text without losing or changing a character. Called by the CSV and JSONL readers.

Bytes that are not valid in the encoding become lone surrogates (U+DC80 to U+DCFF), which valid text
cannot contain, so that the reader can name row and column instead of stopping at the first one.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from manylabel.data.formats import Compression, open_bytes, refuse_binary
from manylabel.data.problems import finding
from manylabel.errors import DataError

SAMPLE_BYTES = 1 << 20
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@contextmanager
def open_text(path: Path, compression: Compression, encoding: str, newline: str) -> Iterator[TextIO]:
    """The decoded file; `newline` as in `io.TextIOWrapper`. A byte order mark at the start is dropped.

    Raises:
        DataError: unknown encoding, binary content, UTF-16 read as UTF-8, or a cut multi-byte character.
    """
    name = _known(path, encoding)
    with open_bytes(path, compression) as stream:
        buffered = io.BufferedReader(stream, buffer_size=SAMPLE_BYTES)  # type: ignore[type-var]
        start = buffered.peek(4096)[:4096]
        refuse_binary(path, start)
        _refuse_wide(path, name, start)
        text = io.TextIOWrapper(buffered, encoding=name, errors="surrogateescape", newline=newline)
        try:
            yield text
        except UnicodeError as problem:
            found = f"the file is not valid {encoding}"
            step = "give the encoding it was written in with --encoding"
            raise DataError(finding("D106", path.name, found, f"{encoding} text", step)) from problem


def is_clean(text: str) -> bool:
    """Whether a text can be written as UTF-8: no lone surrogates, so no undecodable bytes."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def suggested_encoding(path: Path, compression: Compression) -> str:
    """The most likely encoding of a file that is not UTF-8; a suggestion, never used for decoding.

    It is Windows' Western European code page, or Latin-1 when a byte is not defined there.
    """
    with open_bytes(path, compression) as stream:
        sample = stream.read(SAMPLE_BYTES)
    try:
        sample.decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1"
    return "cp1252"


def _known(path: Path, encoding: str) -> str:
    try:
        name = codecs.lookup(encoding).name
        "".encode(name)
    except (LookupError, ValueError):
        found, step = "the encoding given is not known", "try --encoding utf-8, cp1252, latin-1 or utf-16"
        raise DataError(finding("D106", path.name, found, "a Python codec for text", step)) from None
    return "utf-8-sig" if name == "utf-8" else name


def _refuse_wide(path: Path, encoding: str, start: bytes) -> None:
    """UTF-16 and UTF-32 read as a one-byte encoding would become garbage with a NUL at every letter."""
    if encoding.startswith(("utf-16", "utf-32")):
        return
    wide = next((name for mark, name in BYTE_ORDER_MARKS if start.startswith(mark)), "")
    if not wide and len(start) >= 8:
        even, odd = start[0::2].count(0) / len(start[0::2]), start[1::2].count(0) / len(start[1::2])
        if max(even, odd) > 0.4 and min(even, odd) < 0.1:
            wide = "utf-16-le" if odd > even else "utf-16-be"
    if wide:
        found = f"row 1 and all others are {wide.upper()}, not {encoding.removesuffix('-sig')}"
        step = f"give --encoding {wide}, or save the file as UTF-8"
        raise DataError(finding("D106", path.name, found, "UTF-8, or the encoding named by --encoding", step))
