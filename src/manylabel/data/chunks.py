"""The pieces in which a file is read: a batch of good rows and their 1-based numbers. Used by all readers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from manylabel.data.problems import RowProblems
from manylabel.values import IntArray

CHUNK_ROWS = 8192
CHUNK_CHARACTERS = 16 << 20
"""A chunk ends at whichever comes first, so memory stays bounded for long texts too."""


NESTED = {b"manylabel": b"nested"}
"""Field metadata of a column that holds JSON text, of objects or of whole numbers beyond 64 bits. It is no text
for a model, and a JSONL file gets the values back."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Good rows in file order; `rows_N[i]` is the 1-based data row of `batch` row i."""

    batch: pa.RecordBatch
    rows_N: IntArray


class Reader(Protocol):
    """What every file kind offers: its columns, and its rows as often as asked."""

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns; every chunk has it."""
        ...

    def chunks(self, problems: RowProblems) -> Iterator[Chunk]:
        """All good rows in file order; rows left out are noted in `problems`."""
        ...


def row_numbers(first: int, count: int) -> IntArray:
    """`count` consecutive row numbers from `first`."""
    return np.arange(first, first + count, dtype=np.int64)
