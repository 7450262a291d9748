"""Which tokens belong to which words of a text; called by `inference.explain`.

A word is a run of characters without white space; Han, Hiragana and Katakana characters, which are written without
spaces, are words of their own. Characters that one token covers stay together, so every token has one word at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from manylabel.text.tokenizer import SPECIAL_TOKENS, TextTokenizer

Part = Literal["text", "pair"]
Span = tuple[int, int]
PARTS: tuple[Part, Part] = ("text", "pair")
NO_WORD = -1
SINGLE_CHARACTERS = (
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),  # Katakana, phonetic extensions
    (0x3400, 0x4DBF),  # Han, extension A
    (0x4E00, 0x9FFF),  # Han
    (0xF900, 0xFAFF),  # Han, compatibility
    (0x20000, 0x323AF),  # Han, extensions B to H
)
"""Blocks of The Unicode Standard whose characters are words of their own; first and last code point."""


@dataclass(frozen=True)
class Word:
    """A word as the text has it, the characters `start` to `end` of its part, and how many tokens it became.

    The text is the one that `TextTokenizer.prepared` gives: disguises undone where the tokenizer folds.
    No tokens: the tokenizer drops its characters (control characters, for example), and the model never sees it.
    """

    text: str
    part: Part
    start: int
    end: int
    num_tokens: int


@dataclass(frozen=True, eq=False)
class TokenizedWords:
    """A text as the model reads it: T tokens, and the W words they come from.

    `words_T` is the index of each token's word, or -1 for special tokens and where there is no word. `masked_T`
    are the same tokens, those of the text replaced by `mask_token` and the special ones kept. `truncated` says that
    the text was longer than the model reads; `words` are then those it reads.
    """

    words: tuple[Word, ...]
    ids_T: npt.NDArray[np.int32]
    segments_T: npt.NDArray[np.uint8]
    words_T: npt.NDArray[np.int64]
    masked_T: npt.NDArray[np.int32]
    mask_token: str
    truncated: bool

    def without_word(self, word: int) -> npt.NDArray[np.int32]:
        """The tokens [T] with those of one word masked."""
        return np.where(self.words_T == word, self.masked_T, self.ids_T)


def tokenize_words(tokenizer: TextTokenizer, text: str, pair: str | None = None) -> TokenizedWords:
    """The tokens that `tokenizer` gives for a text (and its pair), each with its word.

    Never fails on the content of a text; lone surrogates become U+FFFD, as in prediction.
    """
    encodings = tokenizer.encode([text], None if pair is None else [pair])
    parts = [tokenizer.prepared(part) for part in (text, pair) if part is not None]
    library = _library_tokenizer(tokenizer)
    encoding = library.encode(parts[0], parts[1] if pair is not None else None)
    if not np.array_equal(encoding.ids, encodings.ids_T):
        raise ValueError("the tokenizer read from JSON gives other tokens than the one it was written from")
    truncated = bool(encodings.truncated_N[0])
    words: list[Word] = []
    words_T = np.full(len(encoding.ids), NO_WORD, np.int64)
    for part, content in enumerate(parts):
        found, owners = _words_of_part(encoding, part, content, truncated=truncated)
        words_T[owners >= 0] = owners[owners >= 0] + len(words)
        words += found
    mask_token, mask_id = _mask(library)
    is_special_T = np.array(encoding.special_tokens_mask, np.bool_)
    return TokenizedWords(
        words=tuple(words),
        ids_T=encodings.ids_T,
        segments_T=encodings.segments_T,
        words_T=words_T,
        masked_T=np.where(is_special_T, encodings.ids_T, np.int32(mask_id)),
        mask_token=mask_token,
        truncated=truncated,
    )


def split_words(text: str) -> list[Span]:
    """Start and end of each word in order: runs without white space, Han and Kana characters one by one."""
    spans: list[Span] = []
    is_open = False
    for place, character in enumerate(text):
        if character.isspace():
            is_open = False
        elif _stands_alone(character):
            spans.append((place, place + 1))
            is_open = False
        elif is_open:
            spans[-1] = (spans[-1][0], place + 1)
        else:
            spans.append((place, place + 1))
            is_open = True
    return spans


def _stands_alone(character: str) -> bool:
    code = ord(character)
    return code >= SINGLE_CHARACTERS[0][0] and any(first <= code <= last for first, last in SINGLE_CHARACTERS)


def _library_tokenizer(tokenizer: TextTokenizer) -> Tokenizer:
    """The same tokenizer, which also tells the characters of each token (`encode_batch_fast` does not)."""
    library = Tokenizer.from_str(tokenizer.to_json())
    library.no_padding()
    library.enable_truncation(tokenizer.max_length, strategy="longest_first")
    library.encode_special_tokens = True
    return library


def _mask(library: Tokenizer) -> tuple[str, int]:
    """What stands for a word that is not there: the mask token, else padding, else the unknown token."""
    for kind in ("mask_token", "pad_token", "unk_token"):
        for names in SPECIAL_TOKENS:
            mask_id = library.token_to_id(names[kind])
            if mask_id is not None:
                return names[kind], int(mask_id)
    raise ValueError("the tokenizer has no mask, padding or unknown token")


def _words_of_part(
    encoding: Encoding, part: int, content: str, *, truncated: bool
) -> tuple[list[Word], npt.NDArray[np.int64]]:
    """The words of the text (0) or its pair (1), and for each token of the encoding its word or -1."""
    units = split_words(content)
    owners_T = np.full(len(encoding.ids), NO_WORD, np.int64)
    places = [index for index, sequence in enumerate(encoding.sequence_ids) if sequence == part]
    if not units:
        return [], owners_T
    ranges = [_units_of(_trimmed(encoding.offsets[place], content), units) for place in places]
    joined = np.zeros(len(units), np.bool_)
    for first, last in ranges:
        joined[first + 1 : last + 1] = True
    words_U = np.cumsum(~joined) - 1
    owners_T[places] = [words_U[first] for first, _ in ranges]
    num_words = int(words_U[-1]) + 1
    counts = np.bincount(owners_T[places], minlength=num_words)
    read = num_words if not truncated else int(counts.nonzero()[0].max(initial=-1)) + 1
    firsts = [*np.flatnonzero(~joined).tolist(), len(units)]
    spans = [(units[first][0], units[after - 1][1]) for first, after in pairwise(firsts)][:read]
    words = [
        Word(content[start:end], PARTS[part], start, end, int(count))
        for (start, end), count in zip(spans, counts, strict=False)
    ]
    return words, owners_T


def _trimmed(span: Span, content: str) -> Span:
    """A token's characters without white space around them, which some vocabularies count to the token."""
    start, end = span
    while start < end and content[start].isspace():
        start += 1
    while end > start and content[end - 1].isspace():
        end -= 1
    return start, end


def _units_of(span: Span, units: list[Span]) -> Span:
    """First and last unit that a token covers; one without characters goes to the unit it precedes, or the last."""
    start, end = span
    first = min(_first_ending_after(start, units), len(units) - 1)
    last = first
    while last + 1 < len(units) and units[last + 1][0] < end:
        last += 1
    return first, last


def _first_ending_after(place: int, units: list[Span]) -> int:
    """Index of the first unit that ends after `place`, by bisection; their number where none does."""
    low, high = 0, len(units)
    while low < high:
        middle = (low + high) // 2
        if units[middle][1] > place:
            high = middle
        else:
            low = middle + 1
    return low
