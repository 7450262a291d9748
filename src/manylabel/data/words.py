"""The words of a text as sets that are compared. Called by `duplicates` and `sketches`, which look for near copies.

A word counts as often as it occurs: the second "no" of a text is another member of its set than the first. So the
Jaccard similarity is that of bags of words, and a set similarity serves for it (Broder 1997 counts shingles so). Order
does not matter. One changed word of n costs at most two members, where it would cost six word triples.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter

import numpy as np
import numpy.typing as npt

MIN_WORDS = 6
"""Shorter texts have too few words for a similarity to mean anything; they are compared exactly only."""
MAX_WORDS = 2000
"""Words of a text that are compared; bounds the work for texts of megabytes."""

UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]+"
)
"""Runs of scripts that are written without spaces: Thai, Lao, Myanmar, Khmer, Kana, Han. Their words are pairs of
neighbouring characters here, as search engines index them."""

CountedWords = npt.NDArray[np.uint32]


def normalized(text: str) -> str:
    """`text` in NFKC, case folded, with single spaces; the key of exact duplicates."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def counted_words(text: str) -> CountedWords:
    """Sorted different CRC-32 values of the counted words of a normalised text; none for a short text.

    A counted word is how often it came before, a space and the word: "no no yes" becomes "0 no", "1 no", "0 yes".
    """
    words = UNSPACED.sub(_pairs_of_characters, normalized(text)).split()[:MAX_WORDS]
    if len(words) < MIN_WORDS:
        return np.zeros(0, dtype=np.uint32)
    before: Counter[str] = Counter()
    hashes = set()
    for word in words:
        hashes.add(zlib.crc32(f"{before[word]} {word}".encode("utf-8", "surrogatepass")))
        before[word] += 1
    return np.sort(np.fromiter(hashes, dtype=np.uint32, count=len(hashes)))


def _pairs_of_characters(run: re.Match[str]) -> str:
    characters = run.group()
    pairs = [characters[start : start + 2] for start in range(max(len(characters) - 1, 1))]
    return f" {' '.join(pairs)} "


def jaccard(first: CountedWords, second: CountedWords) -> float:
    """Size of the intersection over size of the union of two sorted sets; 0 when both are empty."""
    common = len(np.intersect1d(first, second, assume_unique=True))
    union = len(first) + len(second) - common
    return common / union if union else 0.0
