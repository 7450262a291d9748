"""Small sketches of texts, in which near copies are found without the texts. Called by training and evaluation.

A sketch is the last byte of each of 128 MinHash values of a text's word triples (Broder 1997; b-bit minwise hashing:
Li and Koenig 2010). Equal bytes estimate the Jaccard similarity of two texts with a standard deviation of at most
0.045. A model keeps 128 bytes for each different text of its training; the numbers are made here and not by a
library, so that a later version still reads them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from manylabel.data.duplicates import MAX_CANDIDATES, shingle_hashes
from manylabel.values import BoolArray, IntArray

SKETCH_BYTES = 128
CHANCE = 1 / 256
"""Share of bytes that are equal in sketches of texts without a common triple."""
BYTES_OF_BAND = 4
"""Sketches with an equal band are compared: pairs of similarity 0.8 but for one in 20 million, of 0.2 one in 20."""
BYTES_OF_BAND_LOW = 2
"""The same for a similarity asked for that is below LOW; from 0.3 on 99 % are compared, below it fewer."""
LOW = 0.6

Sketches = npt.NDArray[np.uint8]


def text_sketches(texts: Sequence[str]) -> Sketches:
    """The different sketches of N texts in rising order, uint8 [M, 128]; short texts have none, so M <= N.

    About 0.07 ms for a text of 100 words. The same on any machine.
    """
    sketches = [sketch for text in texts if (sketch := _sketch(text)) is not None]
    if not sketches:
        return np.zeros((0, SKETCH_BYTES), dtype=np.uint8)
    # Rows of bytes compared as one value; np.unique(axis=0) would do the same with 128 fields.
    whole_M = np.unique(np.stack(sketches).view(f"V{SKETCH_BYTES}").ravel())
    return whole_M.view(np.uint8).reshape(-1, SKETCH_BYTES)


def nearly_seen(texts: Sequence[str], sketches: Sketches, *, similarity: float) -> BoolArray:
    """Which of N texts have a near copy, as far as the sketches tell, among the M sketched ones.

    Args:
        texts: N texts.
        sketches: uint8 [M, 128] of `text_sketches`.
        similarity: Jaccard similarity of triples, 0 to 1, from which a text counts; with 1 none does.

    Returns:
        Mask over the texts. It takes about 0.2 ms a text, and for a million sketches 5 s and 260 MB more.
    """
    seen_N = np.zeros(len(texts), dtype=np.bool_)
    if similarity >= 1.0 or not len(sketches):
        return seen_N
    index = _Bands(sketches, BYTES_OF_BAND if similarity >= LOW else BYTES_OF_BAND_LOW)
    for position, text in enumerate(texts):
        sketch = _sketch(text)
        if sketch is not None:
            likely = index.sharing_a_band(sketch)
            estimates = estimated_similarity(sketch, sketches[likely])
            seen_N[position] = bool((estimates >= similarity).any())
    return seen_N


def estimated_similarity(sketch: Sketches, others: Sketches) -> npt.NDArray[np.float64]:
    """Jaccard similarity of a text to M others: equal bytes without those that are equal by chance."""
    equal_M: npt.NDArray[np.float64] = (others == sketch).mean(axis=1)
    return (equal_M - CHANCE) / (1.0 - CHANCE)


class _Bands:
    """Sketches by their bands of bytes, each band sorted."""

    def __init__(self, sketches: Sketches, width: int) -> None:
        self._type = np.dtype(f"<u{width}")
        keys = np.ascontiguousarray(sketches).view(self._type)
        self._orders = [np.argsort(band, kind="stable").astype(np.int32) for band in keys.T]
        self._sorted = [band[order] for band, order in zip(keys.T, self._orders, strict=True)]

    def sharing_a_band(self, sketch: Sketches) -> IntArray:
        """Positions of sketches with a band equal to that of `sketch`, of each band at most MAX_CANDIDATES."""
        found = []
        for key, order, band in zip(sketch.view(self._type), self._orders, self._sorted, strict=True):
            first, last = np.searchsorted(band, key, "left"), np.searchsorted(band, key, "right")
            found.append(order[first : min(last, first + MAX_CANDIDATES)])
        return np.unique(np.concatenate(found))


def _sketch(text: str) -> Sketches | None:
    """uint8 [128]; None for a text that is too short for triples to mean anything."""
    shingles = shingle_hashes(text).astype(np.uint64)
    if not len(shingles):
        return None
    # The high half of a * x + b modulo 2**64, strongly universal for 32-bit x (Thorup 2015, High Speed Hashing for
    # Integers and Strings, section 3.3).
    values = (shingles[:, None] * MULTIPLIERS + ADDENDS) >> np.uint64(32)
    sketch: Sketches = values.min(axis=0).astype(np.uint8)  # The last byte.
    return sketch


def _numbers(name: str) -> npt.NDArray[np.uint64]:
    """128 fixed 64-bit numbers from BLAKE2b of a name and a position."""
    digests = (hashlib.blake2b(f"{name} {index}".encode(), digest_size=8) for index in range(SKETCH_BYTES))
    return np.frombuffer(b"".join(digest.digest() for digest in digests), dtype="<u8").astype(np.uint64)


MULTIPLIERS, ADDENDS = _numbers("multiplier"), _numbers("addend")
