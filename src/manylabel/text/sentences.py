"""Texts to sentences, by the library `sentencex`, whose rules for some 240 languages need no download.

Called by recipes/adapt.py; nothing else depends on where a sentence ends.
"""

from __future__ import annotations

from collections.abc import Sequence

from manylabel.errors import Finding, UsageError
from manylabel.text.tokenizer import make_encodable

INSTALL = "pip install 'sentencex>=1.0'"


def split_sentences(texts: Sequence[str], *, language: str = "en") -> list[list[str]]:
    """The sentences of each text in order, without the white space around them and without empty ones.

    `language` is a code such as en, de or zh; an unknown one gets the rules that all languages share. A text without
    an end of a sentence is one sentence. Raises UsageError where the library is not installed.
    """
    try:
        from sentencex import segment
    except ImportError as error:
        raise UsageError(
            Finding("U320", "sentencex", "not installed; it finds the ends of sentences", next_step=INSTALL)
        ) from error
    return [
        [stripped for sentence in segment(language, make_encodable(text)) if (stripped := sentence.strip())]
        for text in texts
    ]
