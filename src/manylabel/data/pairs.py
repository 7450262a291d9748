"""A text and its second text as one, for everything that knows no pairs.

Called by `duplicates`, `split` and `describe`, by the baseline and by the recipes.
"""

from __future__ import annotations

from collections.abc import Sequence


def joined(texts: Sequence[str], pairs: Sequence[str] | None) -> Sequence[str]:
    """Each text with its pair on the next line; the texts themselves without pairs."""
    if pairs is None:
        return texts
    return [f"{text}\n{pair}" for text, pair in zip(texts, pairs, strict=True)]
