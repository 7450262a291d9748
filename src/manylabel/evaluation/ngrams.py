"""Words, pairs of words and pieces of words of many texts as counted hash columns; called by `nb_linear`.

What scikit-learn's vectorisers do with `ngram_range=(1, 2)` for words and `analyzer="char_wb", ngram_range=(2, 5)` for
characters, but in arrays: every piece of a text is hashed from two prefix sums, so 54,000 comments of 70 words take
seconds instead of two minutes. No text is kept, only numbers of columns.

A piece c_0 ... c_n of characters has the hash sum(m(c_i) B^i) mod 2^64, mixed once more; m mixes the code point. Prefix
sums give B^start times that, and B is odd, so it can be divided out.

Letters: N texts, K columns, T characters of the texts of a chunk, G pieces found in it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import scipy.sparse

from manylabel.values import BoolArray, IntArray

WORD_BITS, CHARACTER_BITS = 21, 21
NUM_COLUMNS = 2**WORD_BITS + 2**CHARACTER_BITS
"""Words and pairs of words have the first 2^21 columns, pieces of words the others; fewer would be shared by many."""
PIECES = (2, 3, 4, 5)
CHARACTERS_PER_CHUNK = 2**19
TEXTS_PER_CHUNK = 4096
MOST_COUNTED = 255
COLUMN_BITS = 23

_BASE = np.uint64(0x9E3779B97F4A7C15 | 1)
_INVERSE = np.uint64(pow(int(_BASE), -1, 2**64))
_SPACE = ord(" ")

Hashes = npt.NDArray[np.uint64]


def count_ngrams(texts: Sequence[str], *, character_limit: int) -> Iterator[scipy.sparse.csr_matrix]:
    """Counts of the columns, uint8 up to 255, one matrix of n x `NUM_COLUMNS` for each chunk of texts in order.

    Texts are taken in lower case, without accents, with single spaces. Pieces of words are read in the first
    `character_limit` characters of a text, words in all of it.
    """
    for chunk in _chunks(texts):
        yield _count(chunk, character_limit)


def folded(text: str) -> str:
    """`text` in lower case, without accents, each run of white space as one space."""
    lower = text.lower()
    if not lower.isascii():
        decomposed = unicodedata.normalize("NFKD", lower)
        lower = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return " ".join(lower.split())


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    """Folded texts, so many together that their arrays stay small; no texts give no chunk."""
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(folded(text))
        size += len(chunk[-1])
        if size >= CHARACTERS_PER_CHUNK or len(chunk) == TEXTS_PER_CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _count(texts: list[str], character_limit: int) -> scipy.sparse.csr_matrix:
    """Counts of one chunk, columns of a row in rising order."""
    joined = " " + "".join(f"{text} " for text in texts)
    codes_T = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)
    # Text i lies between two spaces, the second of which is the first one of text i + 1.
    ends = np.cumsum([len(text) + 1 for text in texts])
    text_T = np.searchsorted(ends, np.arange(len(codes_T)), side="left")
    text_T[0] = 0
    hasher = _Hasher(codes_T)
    found = [*_words(codes_T, text_T, hasher), *_pieces(codes_T, text_T, hasher, limit=character_limit)]
    keys_G = np.concatenate([(row_G << COLUMN_BITS) | column_G for row_G, column_G in found])
    keys_G.sort()
    firsts = np.flatnonzero(np.diff(keys_G, prepend=-1))
    counts = np.diff(firsts, append=len(keys_G))
    keys = keys_G[firsts]
    rows, columns = keys >> COLUMN_BITS, (keys & (2**COLUMN_BITS - 1)).astype(np.int32)
    starts = np.searchsorted(rows, np.arange(len(texts) + 1))
    values = np.minimum(counts, MOST_COUNTED).astype(np.uint8)
    return scipy.sparse.csr_matrix((values, columns, starts), shape=(len(texts), NUM_COLUMNS))


class _Hasher:
    """Hashes of pieces of a sequence of code points; two equal pieces have one hash wherever they lie."""

    def __init__(self, codes_T: IntArray) -> None:
        count = len(codes_T)
        powers = np.full(count, _BASE)
        powers[0] = 1
        np.multiply.accumulate(powers, out=powers)
        inverse = np.full(count, _INVERSE)
        inverse[0] = 1
        self._inverse_T = np.multiply.accumulate(inverse)
        self._prefix_T1 = np.zeros(count + 1, np.uint64)
        np.cumsum(_mix(codes_T.astype(np.uint64)) * powers, out=self._prefix_T1[1:])

    def __call__(self, starts: IntArray, ends: IntArray) -> Hashes:
        """Hashes of the pieces from `starts` to before `ends`."""
        return _mix((self._prefix_T1[ends] - self._prefix_T1[starts]) * self._inverse_T[starts])


def _mix(values: Hashes) -> Hashes:
    """Spread every bit over all others (the finaliser of splitmix64, Steele, Lea and Flood 2014)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _columns(hashes: Hashes, bits: int, first: int) -> IntArray:
    return (hashes >> np.uint64(64 - bits)).astype(np.int64) + first


def _words(codes_T: IntArray, text_T: IntArray, hasher: _Hasher) -> Iterator[tuple[IntArray, IntArray]]:
    """Text and column of each word (letters, digits and _ in a row) and of each two words that follow each other."""
    is_word_T = _word_characters(codes_T)
    edges = np.diff(is_word_T.astype(np.int8), prepend=0, append=0)
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    hashes, rows = hasher(starts, ends), text_T[starts]
    yield rows, _columns(hashes, WORD_BITS, 0)
    together = rows[1:] == rows[:-1]
    pairs = _mix(hashes[:-1][together] * _BASE + hashes[1:][together])
    yield rows[:-1][together], _columns(pairs, WORD_BITS, 0)


def _word_characters(codes_T: IntArray) -> BoolArray:
    """Which code points are letters, digits or _, as in a regular expression."""
    present, place_T = np.unique(codes_T, return_inverse=True)
    is_word = np.array([chr(code).isalnum() or code == ord("_") for code in present], np.bool_)
    return is_word[place_T]


def _pieces(
    codes_T: IntArray, text_T: IntArray, hasher: _Hasher, *, limit: int
) -> Iterator[tuple[IntArray, IntArray]]:
    """Text and column of each piece of a word, the spaces around the word included, as analyzer char_wb."""
    is_space_T = codes_T == _SPACE
    spaces_T1 = np.concatenate([[0], np.cumsum(is_space_T)])
    first_T = np.searchsorted(text_T, text_T, side="left")
    is_near_T = np.arange(len(codes_T)) - first_T < limit
    # The space before the first word of a text belongs to the text before.
    row_T = np.append(text_T[1:], text_T[-1])
    for length in PIECES:
        starts = np.arange(max(len(codes_T) - length + 1, 0))
        inner = spaces_T1[starts + length - 1] - spaces_T1[starts + 1]
        # Two spaces lie side by side only around an empty text.
        is_piece = (inner == 0) & ~(is_space_T[starts] & is_space_T[starts + length - 1] & (length == 2))
        starts = starts[is_piece & is_near_T[starts]]
        rows = np.where(is_space_T[starts], row_T[starts], text_T[starts])
        yield rows, _columns(hasher(starts, starts + length), CHARACTER_BITS, 2**WORD_BITS)
