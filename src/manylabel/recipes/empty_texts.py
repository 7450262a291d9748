"""Rows without a text, which a model answers like any other; called by what predicts the rows of a file."""

from __future__ import annotations

from collections.abc import Sequence

from manylabel.data.blank import is_blank
from manylabel.errors import counted


def count_without_text(texts: Sequence[str], pairs: Sequence[str] | None) -> int:
    """How many of these rows say nothing: the text, and the second one where there are pairs, is empty or blank."""
    seconds = pairs if pairs is not None else [""] * len(texts)
    return sum(is_blank(text) and is_blank(second) for text, second in zip(texts, seconds, strict=True))


def note_on_empty_texts(count: int, rows: int) -> str:
    """What a user should know of `count` such rows, at least one, among `rows`."""
    has, they = ("has", "it gets") if count == 1 else ("have", "they get")
    return f"{count:,} of {counted(rows, 'row')} {has} no text; {they} the probabilities of an empty text"
