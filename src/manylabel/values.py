"""The named values that travel along the straight line from file to probability.

All are frozen and checked once, on creation. Shape legend for the whole project:
    N texts in a corpus    B texts in a batch    T tokens in a batch (all texts, no padding)
    L labels    D hidden width    H attention heads    V vocabulary    _1 suffix: one more entry
So `targets_NL` has one row a text and one column a label; `starts_B1` has B + 1 entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.integer]
FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]

Entry = TypeVar("Entry")

NOT_ANNOTATED = -1


@dataclass(frozen=True)
class LabelSet:
    """The label names in the model's column order; unique and not empty."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) != len(self.names) or "" in self.names:
            raise ValueError("label names must be at least one, unique and not empty")

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False)
class Corpus:
    """Texts with their labels: what a checked file becomes.

    `targets_NL` is int8 with 1 (carries the label), 0 (does not) and -1 (not annotated).
    `rows_N` are 1-based data rows of `source`; `ids` are the user's ids or the row numbers as text. `translations`
    are each text in other words, as many a row as the layout has translation columns, empty where one is missing.
    """

    source: str
    texts: tuple[str, ...]
    labels: LabelSet
    targets_NL: IntArray
    ids: tuple[str, ...]
    rows_N: IntArray
    pairs: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    translations: tuple[tuple[str, ...], ...] | None = None

    def __post_init__(self) -> None:
        num_texts = len(self.texts)
        if self.targets_NL.shape != (num_texts, len(self.labels)):
            raise ValueError(
                f"targets_NL is {self.targets_NL.shape}, expected {(num_texts, len(self.labels))}"
            )
        columns = (self.ids, self.rows_N, self.pairs, self.groups, self.translations)
        if any(column is not None and len(column) != num_texts for column in columns):
            raise ValueError("every column of a corpus must have one entry a text")
        if len({len(row) for row in self.translations or ()}) > 1:
            raise ValueError("every text of a corpus must have the same number of translations")
        if self.targets_NL.size and not np.isin(self.targets_NL, (NOT_ANNOTATED, 0, 1)).all():
            raise ValueError("targets_NL may hold only -1, 0 and 1")

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, indices: IntArray) -> Corpus:
        """The rows at `indices`, in that order."""

        def pick(column: Sequence[Entry] | None) -> tuple[Entry, ...] | None:
            return None if column is None else tuple(column[i] for i in indices)

        return replace(
            self,
            texts=tuple(self.texts[i] for i in indices),
            ids=tuple(self.ids[i] for i in indices),
            targets_NL=self.targets_NL[indices],
            rows_N=self.rows_N[indices],
            pairs=pick(self.pairs),
            groups=pick(self.groups),
            translations=pick(self.translations),
        )


@dataclass(frozen=True, eq=False)
class Encodings:
    """Token ids of N texts, one after the other without padding.

    Text i owns `ids_T[offsets_N1[i]:offsets_N1[i + 1]]`, special tokens included. `segments_T` is 0 for the
    text and 1 for its pair. `truncated_N` says which texts lost tokens to the length limit.
    """

    ids_T: npt.NDArray[np.int32]
    segments_T: npt.NDArray[np.uint8]
    offsets_N1: npt.NDArray[np.int64]
    truncated_N: BoolArray

    def __post_init__(self) -> None:
        if self.offsets_N1[0] != 0 or self.offsets_N1[-1] != len(self.ids_T):
            raise ValueError("offsets_N1 must start at 0 and end at the number of tokens")
        if len(self.segments_T) != len(self.ids_T) or len(self.truncated_N) != len(self):
            raise ValueError("ids, segments, offsets and truncation flags disagree in length")

    def __len__(self) -> int:
        return len(self.offsets_N1) - 1

    def take(self, indices: npt.NDArray[np.int64]) -> Encodings:
        """The texts at `indices`, in that order."""
        lengths = self.lengths_N[indices]
        ends = np.cumsum(lengths)
        places = np.arange(lengths.sum()) + np.repeat(self.offsets_N1[indices] - (ends - lengths), lengths)
        offsets = np.concatenate([np.zeros(1, np.int64), ends])
        return Encodings(self.ids_T[places], self.segments_T[places], offsets, self.truncated_N[indices])

    @property
    def lengths_N(self) -> npt.NDArray[np.int64]:
        """Tokens of each text, special tokens included."""
        return np.diff(self.offsets_N1)


@dataclass(frozen=True, eq=False)
class Batch:
    """B texts packed into T tokens for the encoder.

    `positions_T` counts from 0 in every text; `starts_B1[b]` is where text b begins, the last entry is T.
    """

    ids_T: npt.NDArray[np.int64]
    segments_T: npt.NDArray[np.int64]
    positions_T: npt.NDArray[np.int64]
    starts_B1: npt.NDArray[np.int64]

    @property
    def num_texts(self) -> int:
        """B."""
        return len(self.starts_B1) - 1

    @property
    def num_tokens(self) -> int:
        """T."""
        return len(self.ids_T)

    @property
    def lengths_B(self) -> npt.NDArray[np.int64]:
        """Tokens of each text."""
        return np.diff(self.starts_B1)


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model says of B texts: probabilities in [0, 1], decisions by threshold, label names in order.

    `uncertain_BL` is True where a probability lies in its label's zone for a human; None for a model without zones.
    """

    probabilities_BL: FloatArray
    decisions_BL: BoolArray
    labels: tuple[str, ...]
    truncated_B: BoolArray
    uncertain_BL: BoolArray | None = None

    def __post_init__(self) -> None:
        if self.probabilities_BL.shape != self.decisions_BL.shape or self.probabilities_BL.shape[1] != len(
            self.labels
        ):
            raise ValueError("probabilities, decisions and labels disagree in shape")
        if self.uncertain_BL is not None and self.uncertain_BL.shape != self.decisions_BL.shape:
            raise ValueError("decisions and what is uncertain disagree in shape")

    def __len__(self) -> int:
        return len(self.probabilities_BL)

    def decided(self, index: int) -> tuple[str, ...]:
        """Names of the labels decided for text `index`, in label order."""
        return self._marked(self.decisions_BL[index])

    def needs_review(self, index: int) -> tuple[str, ...]:
        """Names of the labels of text `index` that a human should decide, in label order; none without zones."""
        return () if self.uncertain_BL is None else self._marked(self.uncertain_BL[index])

    def _marked(self, marks_L: BoolArray) -> tuple[str, ...]:
        return tuple(name for name, marked in zip(self.labels, marks_L, strict=True) if marked)
