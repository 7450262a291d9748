"""Texts without labels, from plain text files and tables; called by recipes/adapt.py.

A document is a row of a table, or in a .txt file what stands between two blank lines, or one line if that is asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from manylabel.config.schema import DataSettings
from manylabel.data.blank import is_blank
from manylabel.data.duplicates import LeakAudit, leak_audit, text_fingerprints
from manylabel.data.formats import COMPRESSIONS, Compression, missing_file
from manylabel.data.layout import prediction_columns
from manylabel.data.problems import finding
from manylabel.data.read import read_table
from manylabel.data.text_encoding import is_clean, open_text
from manylabel.errors import DataError
from manylabel.values import BoolArray

PLAIN_SUFFIXES = (".txt", ".text", ".md")


@dataclass(frozen=True)
class DocumentSource:
    """A file that was read: its name, how many documents it gave, how many were empty, the column they stood in."""

    name: str
    num_documents: int
    num_empty: int
    column: str | None


@dataclass(frozen=True)
class Documents:
    """Texts in the order of the files; none is empty."""

    texts: tuple[str, ...]
    sources: tuple[DocumentSource, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def fingerprint(self) -> str:
        """SHA-256 over all texts in order."""
        digest = hashlib.sha256()
        for text in self.texts:
            encoded = text.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
        return digest.hexdigest()


def read_documents(paths: Sequence[Path], options: DataSettings, *, one_a_line: bool = False) -> Documents:
    """The documents of all files: .txt, .text and .md as plain text, the others as tables.

    Of a table only the text column is read, given or guessed; rows whose text is missing or blank are counted and left
    out. `one_a_line` makes every line of a plain text a document. Raises DataError with what is wrong with a file, and
    when no file has a document.
    """
    texts: list[str] = []
    sources: list[DocumentSource] = []
    for path in paths:
        column, found = None, None
        if _is_plain(path):
            found = list(_plain_documents(path, options.encoding, one_a_line=one_a_line))
        else:
            column, found = _column_documents(path, options)
        kept = [text for text in found if not is_blank(text)]
        texts += kept
        sources.append(DocumentSource(path.name, len(kept), len(found) - len(kept), column))
    if not texts:
        place, step = ", ".join(path.name for path in paths), "check which files and which column were named"
        raise DataError(finding("D168", place, "there is no text in it", "at least one document", step))
    return Documents(tuple(texts), tuple(sources))


def seen_in(texts: Sequence[str], documents: Documents, *, similarity: float) -> LeakAudit:
    """Which documents are copies of one of `texts`: exactly, after normalisation, or nearly (`leak_audit`)."""
    return leak_audit(list(texts), list(documents.texts), similarity=similarity)


def hold_out(documents: Documents, *, fraction: float, seed: int) -> BoolArray:
    """Which documents only measure: about `fraction` of the different ones, copies of one another together.

    At least one is held out and at least one is not. Raises DataError with fewer than two different documents.
    """
    numbers, group_D = np.unique(text_fingerprints(documents.texts), return_inverse=True)
    if len(numbers) < 2:
        place = ", ".join(source.name for source in documents.sources)
        step = "give more texts; of a .txt file a blank line separates documents"
        raise DataError(
            finding(
                "D169", place, "one document, so none can be held out", "two or more different ones", step
            )
        )
    count = min(max(round(fraction * len(numbers)), 1), len(numbers) - 1)
    held_out = np.zeros(len(numbers), np.bool_)
    held_out[np.random.default_rng(seed).permutation(len(numbers))[:count]] = True
    return held_out[group_D]


def _is_plain(path: Path) -> bool:
    return _suffixes(path)[0] in PLAIN_SUFFIXES


def _suffixes(path: Path) -> tuple[str, Compression]:
    """The suffix that names the kind, and the compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    if compression is not None:
        suffixes.pop()
    return suffixes[-1] if suffixes else "", compression


def _plain_documents(path: Path, encoding: str, *, one_a_line: bool) -> Iterator[str]:
    """Documents of a plain text file."""
    if not path.is_file():
        if not path.exists():
            raise missing_file(path)
        raise DataError(finding("D101", path.name, "is a folder", "an existing file", "check the path"))
    compression = _suffixes(path)[1]
    waiting: list[str] = []
    with open_text(path, compression, encoding, "") as lines:
        for number, line in enumerate(lines, start=1):
            if not is_clean(line):
                found, step = (
                    f"line {number:,} is not valid {encoding}",
                    "give the encoding it was written in with --encoding",
                )
                raise DataError(finding("D106", path.name, found, f"{encoding} text", step))
            if line.strip():
                waiting.append(line)
            if waiting and (one_a_line or not line.strip()):
                yield "".join(waiting).strip()
                waiting = []
    if waiting:
        yield "".join(waiting).strip()


def _column_documents(path: Path, options: DataSettings) -> tuple[str, list[str]]:
    """The text column of a table, missing texts as empty ones."""
    table = read_table(path, options)
    column = prediction_columns(table, options, path.name).text
    values = table[column]
    if not (pa.types.is_string(values.type) or pa.types.is_null(values.type)):
        step = "give the column with the texts, --text-column"
        found = f"the column holds {values.type}, not text"
        raise DataError(finding("D142", f'{path.name}, column "{column}"', found, "text", step))
    return column, ["" if value is None else value for value in values.to_pylist()]
