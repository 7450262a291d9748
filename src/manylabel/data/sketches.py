"""Small sketches of texts, in which near copies are found without the texts.

Called by `duplicates` for candidates, by training, which puts the sketches of its texts into the model, and by
evaluation, which looks for near copies of them. A sketch is the last byte of each of 128 MinHash values of a text's
counted words (Broder 1997; b-bit minwise hashing: Li and Koenig 2010). Equal bytes estimate the Jaccard similarity of
two texts with a standard deviation of at most 0.045. A model keeps 128 bytes for each different text of its training;
the numbers are made here and not by a library, so that a later version still reads them. Sketches of word triples, as
earlier models hold them, must not be compared with these.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from manylabel.data.words import CountedWords, counted_words
from manylabel.values import BoolArray, IntArray

SKETCH_BYTES = 128
CHANCE = 1 / 256
"""Share of bytes that are equal in sketches of texts without a common word."""
STANDARD_DEVIATION = 0.045
"""Of an estimated similarity, at most: sqrt(0.5 * 0.5 / 128)."""
BYTES_OF_BAND = 4
"""Sketches with an equal band of 32 are compared: of pairs of similarity s all but (1 - s**4)**32, which is 1.2 % at
0.6, 0.2 % at 0.65, one in 20 million at 0.8; and of pairs that are not alike, s = 0.1, one in 300."""
BYTES_OF_BAND_LOW = 2
"""The same with 64 bands for a similarity asked for that is below LOW; from 0.3 on 99 % are compared, below fewer."""
LOW = 0.6
BYTES_OF_KEY = 8
"""A band and what follows it: in a crowded band the sketches that agree longest come first (LSH forest: Bawa, Condie
and Ganesan 2005)."""
MAX_OF_BAND = 500
"""Sketches compared with one for an equal band. It bounds the work where many texts are alike, as filled-in forms."""
CHUNK_ROWS = 4096

Sketches = npt.NDArray[np.uint8]


def text_sketches(texts: Sequence[str]) -> Sketches:
    """The different sketches of N texts in rising order, uint8 [M, 128]; short texts have none, so M <= N.

    About 0.07 ms for a text of 100 words. The same on any machine.
    """
    sketches = [sketch(words) for text in texts if len(words := counted_words(text))]
    if not sketches:
        return np.zeros((0, SKETCH_BYTES), dtype=np.uint8)
    # Rows of bytes compared as one value; np.unique(axis=0) would do the same with 128 fields.
    whole_M = np.unique(np.stack(sketches).view(f"V{SKETCH_BYTES}").ravel())
    return whole_M.view(np.uint8).reshape(-1, SKETCH_BYTES)


def sketch(words: CountedWords) -> Sketches:
    """The sketch, uint8 [128], of the counted words of a text, of which there is at least one."""
    # The high half of a * x + b modulo 2**64, strongly universal for 32-bit x (Thorup 2015, High Speed Hashing for
    # Integers and Strings, section 3.3).
    values = (words.astype(np.uint64)[:, None] * MULTIPLIERS + ADDENDS) >> np.uint64(32)
    last_bytes: Sketches = values.min(axis=0).astype(np.uint8)
    return last_bytes


def nearly_seen(texts: Sequence[str], sketches: Sketches, *, similarity: float) -> BoolArray:
    """Which of N texts have a near copy, as far as the sketches tell, among the M sketched ones.

    Args:
        texts: N texts.
        sketches: uint8 [M, 128] of `text_sketches`.
        similarity: Jaccard similarity of counted words, 0 to 1, from which a text counts; with 1 none does.

    Returns:
        Mask over the texts. It takes about 0.2 ms a text, and for a million sketches 5 s and 400 MB more.
    """
    seen_N = np.zeros(len(texts), dtype=np.bool_)
    if similarity >= 1.0 or not len(sketches):
        return seen_N
    index = SketchIndex(sketches, similarity)
    for start in range(0, len(texts), CHUNK_ROWS):
        words = {
            row: counted_words(text) for row, text in enumerate(texts[start : start + CHUNK_ROWS], start)
        }
        rows = [row for row, each in words.items() if len(each)]
        if rows:
            asked_QS = np.stack([sketch(words[row]) for row in rows])
            for row, (_, estimates) in zip(rows, index.likely(asked_QS), strict=True):
                seen_N[row] = bool((estimates >= similarity).any())
    return seen_N


def estimated_similarity(one: Sketches, others: Sketches) -> npt.NDArray[np.float64]:
    """Jaccard similarity of a text to M others: equal bytes without those that are equal by chance."""
    equal_M = np.count_nonzero(others == one, axis=1) / SKETCH_BYTES
    estimates: npt.NDArray[np.float64] = (equal_M - CHANCE) / (1.0 - CHANCE)
    return estimates


class SketchIndex:
    """M sketches by their bands of bytes, each band sorted together with the bytes that follow it."""

    def __init__(self, sketches: Sketches, similarity: float) -> None:
        self._sketches = sketches
        self._width = BYTES_OF_BAND if similarity >= LOW else BYTES_OF_BAND_LOW
        keys = list(self._keys(sketches))
        self._orders = [np.argsort(keys_M, kind="stable").astype(np.int32) for keys_M in keys]
        self._sorted = [keys_M[order_M] for keys_M, order_M in zip(keys, self._orders, strict=True)]

    def likely(self, asked_QS: Sketches) -> Iterator[tuple[IntArray, npt.NDArray[np.float64]]]:
        """For each of Q sketches the positions of those with an equal band, and their estimated similarities.

        A sketch that is itself among the M is among its own. Of a band at most MAX_OF_BAND count, those that agree
        longest.
        """
        for start in range(0, len(asked_QS), CHUNK_ROWS):
            some_QS = asked_QS[start : start + CHUNK_ROWS]
            windows = [
                self._window(keys_Q, sorted_M)
                for keys_Q, sorted_M in zip(self._keys(some_QS), self._sorted, strict=True)
            ]
            firsts_QB, lasts_QB = (np.stack(each, axis=1).tolist() for each in zip(*windows, strict=True))
            for asked, firsts, lasts in zip(some_QS, firsts_QB, lasts_QB, strict=True):
                parts = [
                    order_M[first:last]
                    for order_M, first, last in zip(self._orders, firsts, lasts, strict=True)
                    if first < last
                ]
                found = np.unique(np.concatenate(parts)) if parts else np.zeros(0, dtype=np.int32)
                yield found.astype(np.int64), estimated_similarity(asked, self._sketches[found])

    def _keys(self, sketches: Sketches) -> Iterator[npt.NDArray[np.uint64]]:
        """For each band one number a sketch: its bytes, the first weighing most, and the bytes that follow it."""
        ring = np.concatenate([sketches, sketches[:, :BYTES_OF_KEY]], axis=1)
        for start in range(0, SKETCH_BYTES, self._width):
            key_bytes = np.ascontiguousarray(ring[:, start : start + BYTES_OF_KEY])
            yield key_bytes.view(">u8").ravel().astype(np.uint64)

    def _window(
        self, keys_Q: npt.NDArray[np.uint64], sorted_M: npt.NDArray[np.uint64]
    ) -> tuple[IntArray, IntArray]:
        """First and behind the last place, in the order of a band, of the sketches whose band is that of each key."""
        following = np.uint64((1 << 8 * (BYTES_OF_KEY - self._width)) - 1)
        first_Q = np.searchsorted(sorted_M, keys_Q & ~following, "left")
        last_Q = np.searchsorted(sorted_M, keys_Q | following, "right")
        if (last_Q - first_Q).max(initial=0) > MAX_OF_BAND:
            nearest_Q = np.searchsorted(sorted_M, keys_Q, "left") - MAX_OF_BAND // 2
            first_Q = np.clip(nearest_Q, first_Q, np.maximum(first_Q, last_Q - MAX_OF_BAND))
            last_Q = np.minimum(last_Q, first_Q + MAX_OF_BAND)
        return first_Q, last_Q


def _numbers(name: str) -> npt.NDArray[np.uint64]:
    """128 fixed 64-bit numbers from BLAKE2b of a name and a position."""
    digests = (hashlib.blake2b(f"{name} {index}".encode(), digest_size=8) for index in range(SKETCH_BYTES))
    return np.frombuffer(b"".join(digest.digest() for digest in digests), dtype="<u8").astype(np.uint64)


MULTIPLIERS, ADDENDS = _numbers("multiplier"), _numbers("addend")
