"""The same text seen in several ways, for test-time augmentation; called by inference/ensemble.py and recipes/tta.py.

A *view* says how a text becomes tokens:

    head                the first tokens that fit: how every model reads a text
    tail                the last tokens that fit
    middle              the tokens in the middle that fit, as many left out before as after (one more after)
    raw                 head, without the Unicode normalisation of training
    folded              head, with disguises undone first (see `folding`)
    translation:COLUMN  head of what another column says in other words; the text itself where that says nothing

Windows have the special tokens of every text and at most the tokenizer's `max_length` tokens. A text that fits is the
same in all three. Of a pair both texts are cut, each to as many tokens as head keeps of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding

from manylabel.errors import Finding, UsageError
from manylabel.text.tokenizer import CHARACTERS_PER_TOKEN, TextTokenizer
from manylabel.values import Encodings

Window = Literal["head", "tail", "middle"]
HEAD = "head"
WINDOWS: tuple[str, ...] = ("tail", "middle")
VIEWS = (HEAD, *WINDOWS, "raw", "folded")
"""All views but the translations."""
TRANSLATION = "translation:"
ALLOWED = f"{', '.join(VIEWS)} or {TRANSLATION}COLUMN, each once"
READ_FACTOR = 4
"""A window looks for its tokens in so many times the characters that head reads. A longer text is read up to that, for
tail from its end and for middle around its middle, so that 10 MB of text cost no more than a long letter."""


class TranslatedText(str):
    """A text that brings along what other columns of its row say: it is the text itself to everything but a view.

    So a model that looks at translations is called like any other, and one that does not never knows.
    """

    translations: Mapping[str, str]
    """Column -> text; columns that say nothing are absent."""

    def __new__(cls, text: str, translations: Mapping[str, str]) -> TranslatedText:
        """`text` with its translations."""
        made = super().__new__(cls, text)
        made.translations = translations
        return made


def with_translations(
    texts: Sequence[str], columns: Mapping[str, Sequence[str | None]]
) -> tuple[TranslatedText, ...]:
    """N texts, each with the cells of its row in `columns`; missing and blank cells are left out."""
    return tuple(
        TranslatedText(
            text, {name: cell for name, cells in columns.items() if (cell := cells[row]) and cell.strip()}
        )
        for row, text in enumerate(texts)
    )


def translation_column(view: str) -> str | None:
    """The column that a view reads, None where it reads the text itself."""
    return view.removeprefix(TRANSLATION) if view.startswith(TRANSLATION) else None


def check_views(names: Sequence[str]) -> tuple[str, ...]:
    """The names as they are; raises UsageError with every one that is no view or is there twice."""
    wrong = [name for name in names if name not in VIEWS and not translation_column(name)]
    findings = [
        Finding("U310", "views", f'there is no view "{name}"', ALLOWED, "give one of these")
        for name in dict.fromkeys(wrong)
    ]
    findings += [
        Finding("U310", "views", f'the view "{name}" is named twice', ALLOWED, "name it once")
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    if findings:
        raise UsageError(*findings)
    return tuple(names)


def with_head(names: Sequence[str]) -> tuple[str, ...]:
    """The views in their order, `head` first where it is lacking: every model reads the beginning of a text."""
    return tuple(names) if HEAD in names else (HEAD, *names)


def encode_view(
    tokenizer: TextTokenizer, view: str, texts: Sequence[str], pairs: Sequence[str] | None = None
) -> Encodings:
    """Token ids of each text (with its pair) as `view` sees it, special tokens added, at most `max_length` each.

    A translation view reads `TranslatedText`s and takes every other text, and one whose column says nothing, as it is.
    Never fails on the content of a text. Raises UsageError for an unknown view.
    """
    check_views([view])
    if view in WINDOWS:
        return _windows(tokenizer, cast(Window, view), texts, pairs)
    if (column := translation_column(view)) is not None:
        return tokenizer.encode([_translated(text, column) for text in texts], pairs)
    chosen = {HEAD: lambda: tokenizer, "raw": lambda: tokenizer.raw, "folded": lambda: tokenizer.folded}
    return chosen[view]().encode(texts, pairs)


def _translated(text: str, column: str) -> str:
    return text.translations.get(column, text) if isinstance(text, TranslatedText) else text


def _windows(
    tokenizer: TextTokenizer, window: Window, texts: Sequence[str], pairs: Sequence[str] | None
) -> Encodings:
    limit = READ_FACTOR * tokenizer.max_length * CHARACTERS_PER_TOKEN
    read = [_part(text, window, limit) for text in texts]
    read_pairs = None if pairs is None else [_part(pair, window, limit) for pair in pairs]
    ids, segments, truncated = [np.zeros(0, np.int32)], [np.zeros(0, np.uint8)], []
    for encoded in tokenizer.untruncated(read, read_pairs, limit=limit):
        for encoding in encoded:
            places = window_places(encoding, window, tokenizer.max_length)
            ids.append(np.array(encoding.ids, np.int32)[places])
            segments.append(np.array(encoding.type_ids, np.uint8)[places])
            truncated.append(len(encoding) > tokenizer.max_length)
    cut = [
        len(text) > limit or (pairs is not None and len(pairs[row]) > limit) for row, text in enumerate(texts)
    ]
    lengths = [len(part) for part in ids]  # That of the empty first one is the 0 that offsets begin with.
    return Encodings(
        ids_T=np.concatenate(ids),
        segments_T=np.concatenate(segments),
        offsets_N1=np.cumsum(lengths, dtype=np.int64),
        truncated_N=np.array(truncated, np.bool_) | np.array(cut, np.bool_),
    )


def _part(text: str, window: Window, limit: int) -> str:
    """The `limit` characters in which a window looks for its tokens."""
    spare = max(len(text) - limit, 0)
    start = {"head": 0, "tail": spare, "middle": spare // 2}[window]
    return text[start : start + limit]


def window_places(encoding: Encoding, window: Window, max_length: int) -> npt.NDArray[np.int64]:
    """Which tokens of a whole text (with its pair) a window keeps: all special ones, and a run of each text's own."""
    num_tokens = len(encoding)
    if num_tokens <= max_length:
        return np.arange(num_tokens)
    owners_T = np.array([-1 if owner is None else owner for owner in encoding.sequence_ids], np.int64)
    owned = [np.flatnonzero(owners_T == owner) for owner in (0, 1)]
    special = np.flatnonzero(owners_T < 0)
    kept = tokens_kept(len(owned[0]), len(owned[1]), max_length - len(special))
    runs = [_run(places, count, window) for places, count in zip(owned, kept, strict=True)]
    return np.sort(np.concatenate([special, *runs]))


def _run(places: npt.NDArray[np.int64], count: int, window: Window) -> npt.NDArray[np.int64]:
    spare = len(places) - count
    start = {"head": 0, "tail": spare, "middle": spare // 2}[window]
    return places[start : start + count]


def tokens_kept(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of a text and its pair fit into `room` where the longer is cut first, as head does.

    The tokenizers library's rule "longest first": the shorter stays whole up to half the room; where both are longer
    each has half, and the longer the odd token (of two equal ones the pair).
    """
    if first + second <= room:
        return first, second
    shorter = min(first, second, room // 2)
    return (shorter, room - shorter) if first <= second else (room - shorter, shorter)
