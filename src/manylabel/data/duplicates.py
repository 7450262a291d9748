"""Texts that are the same or almost the same, and test texts that training has seen.

Called by `split` (a cluster of duplicates stays in one split), by `describe` and by evaluation. Exact means
equal after NFKC, case folding and collapsing white space. Near means that the sets of word shingles have at
least the given Jaccard similarity; MinHash finds candidates, and the true similarity decides.
"""

from __future__ import annotations

import hashlib
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from datasketch import MinHash, MinHashLSH

from manylabel.data.pairs import joined
from manylabel.values import BoolArray, Corpus, IntArray

SHINGLE_WORDS = 3
MIN_WORDS = 6
"""Shorter texts have too few shingles for a similarity to mean anything; they are compared exactly only."""
MAX_WORDS = 2000
"""Words of a text that are compared; bounds the work for texts of megabytes."""
NUM_PERMUTATIONS = 64
MISS_WEIGHT = 0.9
"""Candidates are verified, so the index prefers false candidates to missed ones."""
HIGHEST_THRESHOLD = 0.9
"""An index for a higher one would have a single band and miss most pairs."""
MAX_CANDIDATES = 200
"""Candidates verified for one text; texts of a large cluster join it through any of these."""

Shingles = npt.NDArray[np.uint32]


@dataclass(frozen=True, eq=False)
class LeakAudit:
    """Which of N test texts training has seen: exactly, or nearly (and not exactly)."""

    exact_N: BoolArray
    near_N: BoolArray


def normalized(text: str) -> str:
    """`text` in NFKC, case folded, with single spaces; the key of exact duplicates."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_fingerprints(texts: Sequence[str]) -> npt.NDArray[np.uint64]:
    """64-bit BLAKE2b numbers of N normalised texts; equal for exact duplicates, the same on any machine."""
    digests = (
        hashlib.blake2b(normalized(text).encode("utf-8", "surrogatepass"), digest_size=8).digest()
        for text in texts
    )
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def duplicate_groups(texts: Sequence[str], *, similarity: float, seed: int) -> IntArray:
    """A cluster number for each of N texts: equal for exact and near duplicates.

    Args:
        texts: N texts.
        similarity: Jaccard similarity of shingle sets, 0 to 1, from which texts are near duplicates; with 1
            only exact ones count.
        seed: Seed of MinHash.

    Returns:
        int64 of N; a cluster's number is the position of its first text.
    """
    exact_N = exact_groups(texts)
    firsts = np.flatnonzero(exact_N == np.arange(len(texts)))
    if similarity >= 1.0 or len(firsts) < 2:
        return exact_N
    clusters = Clusters(len(texts))
    index = _NearIndex(similarity, seed)
    for first, shingles, sketch in index.sketches(texts, firsts):
        near = index.near(shingles, sketch)
        for other in near:
            clusters.join(first, other)
        index.add(first, shingles, sketch)
    return clusters.numbers()[exact_N]


def exact_groups(texts: Sequence[str]) -> IntArray:
    """For each of N texts the position of the first that is equal after normalisation."""
    first_of: dict[str, int] = {}
    groups = [first_of.setdefault(normalized(text), index) for index, text in enumerate(texts)]
    return np.asarray(groups, dtype=np.int64)


def leak_audit(
    train_texts: Sequence[str], test_texts: Sequence[str], *, similarity: float = 0.8, seed: int = 1
) -> LeakAudit:
    """Which test texts occur exactly or nearly among the training texts.

    Args:
        train_texts: Texts used for training (with `pairs.joined` for pairs).
        test_texts: N texts to judge.
        similarity: Jaccard similarity of shingle sets, 0 to 1, that counts as near.
        seed: Seed of MinHash.

    Returns:
        Masks over the test texts.
    """
    seen = {normalized(text) for text in train_texts}
    exact_N = np.array([normalized(text) in seen for text in test_texts], dtype=np.bool_)
    near_N = np.zeros(len(test_texts), dtype=np.bool_)
    if similarity < 1.0:
        index = _NearIndex(similarity, seed)
        for position, shingles, sketch in index.sketches(train_texts, range(len(train_texts))):
            index.add(position, shingles, sketch)
        for position, shingles, sketch in index.sketches(test_texts, np.flatnonzero(~exact_N)):
            near_N[position] = bool(index.near(shingles, sketch))
    return LeakAudit(exact_N, near_N)


def contradictory_rows(corpus: Corpus) -> IntArray:
    """Positions of texts that occur more than once (exactly) with different labels, in order."""
    groups_N = exact_groups(joined(corpus.texts, corpus.pairs))
    differs_N = (corpus.targets_NL != corpus.targets_NL[groups_N]).any(axis=1)
    return np.flatnonzero(np.isin(groups_N, groups_N[differs_N]))


class Clusters:
    """Disjoint sets over 0 to N - 1; the smallest member stands for a set."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def root(self, member: int) -> int:
        """The smallest member of the set of `member`."""
        while self._parent[member] != member:
            self._parent[member] = self._parent[self._parent[member]]
            member = self._parent[member]
        return member

    def join(self, first: int, second: int) -> None:
        """Makes one set of the sets of two members."""
        low, high = sorted((self.root(int(first)), self.root(int(second))))
        self._parent[high] = low

    def numbers(self) -> IntArray:
        """The representative of each member."""
        return np.asarray([self.root(member) for member in range(len(self._parent))], dtype=np.int64)


class _NearIndex:
    """MinHash index of shingle sets; every candidate is verified with the true similarity."""

    def __init__(self, similarity: float, seed: int) -> None:
        self._similarity = similarity
        self._index = MinHashLSH(
            threshold=min(similarity, HIGHEST_THRESHOLD),
            num_perm=NUM_PERMUTATIONS,
            weights=(1.0 - MISS_WEIGHT, MISS_WEIGHT),
        )
        self._shingles: dict[int, Shingles] = {}
        self._seed = seed

    def sketches(
        self, texts: Sequence[str], positions: Iterable[int]
    ) -> Iterator[tuple[int, Shingles, MinHash]]:
        """Position, shingles and MinHash of each text that is long enough."""
        blank = MinHash(num_perm=NUM_PERMUTATIONS, seed=self._seed, hashfunc=_same)
        for position in positions:
            shingles = shingle_hashes(texts[position])
            if len(shingles):
                sketch = blank.copy()
                sketch.update_batch(shingles)
                yield int(position), shingles, sketch

    def add(self, position: int, shingles: Shingles, sketch: MinHash) -> None:
        """Makes a text findable."""
        self._index.insert(position, sketch, check_duplication=False)
        self._shingles[position] = shingles

    def near(self, shingles: Shingles, sketch: MinHash) -> list[int]:
        """Positions of indexed texts that are near duplicates, smallest first, at most MAX_CANDIDATES."""
        candidates = sorted(self._index.query(sketch))[:MAX_CANDIDATES]
        return [other for other in candidates if jaccard(shingles, self._shingles[other]) >= self._similarity]


def _same(value: int) -> int:
    return value


def shingle_hashes(text: str) -> Shingles:
    """Sorted different CRC-32 values of the word triples of a normalised text; none for a short text."""
    words = normalized(text).split(" ")[:MAX_WORDS]
    if len(words) < MIN_WORDS:
        return np.zeros(0, dtype=np.uint32)
    shingles = zip(*(words[start:] for start in range(SHINGLE_WORDS)), strict=False)
    hashes = {zlib.crc32(" ".join(shingle).encode("utf-8", "surrogatepass")) for shingle in shingles}
    return np.sort(np.fromiter(hashes, dtype=np.uint32, count=len(hashes)))


def jaccard(first: Shingles, second: Shingles) -> float:
    """Size of the intersection over size of the union of two sorted sets; 0 when both are empty."""
    common = len(np.intersect1d(first, second, assume_unique=True))
    union = len(first) + len(second) - common
    return common / union if union else 0.0
