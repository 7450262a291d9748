"""Texts that are the same or almost the same, and test texts that training has seen.

Called by `split` (a cluster of duplicates stays in one split), by `describe` and by evaluation. Exact means
equal after NFKC, case folding and collapsing white space. Near means that the sets of counted words have at least
the given Jaccard similarity; sketches find candidates, and the true similarity decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.data.pairs import joined
from manylabel.data.sketches import SKETCH_BYTES, STANDARD_DEVIATION, Sketches, SketchIndex, sketch
from manylabel.data.words import CountedWords, counted_words, jaccard, normalized
from manylabel.values import BoolArray, Corpus, IntArray

MAX_CANDIDATES = 200
"""Candidates verified for one text, the likeliest first; texts of a large cluster join it through any of these."""
MARGIN = 4 * STANDARD_DEVIATION
"""Candidates whose estimated similarity is farther below the limit are not verified: one of 30,000 reaches it."""


@dataclass(frozen=True, eq=False)
class LeakAudit:
    """Which of N test texts training has seen: exactly after normalisation, or nearly (and not exactly).

    `identical_N` are those of the exact ones that are equal character for character.
    """

    exact_N: BoolArray
    near_N: BoolArray
    identical_N: BoolArray

    @property
    def seen_N(self) -> BoolArray:
        """All that were seen in one way or another."""
        return self.exact_N | self.near_N

    def counts(self) -> dict[str, int]:
        """Rows by the closest way in which they were seen."""
        return {
            "exact": int(self.identical_N.sum()),
            "normalised": int((self.exact_N & ~self.identical_N).sum()),
            "near": int((self.near_N & ~self.exact_N).sum()),
        }


def text_fingerprints(texts: Sequence[str]) -> npt.NDArray[np.uint64]:
    """64-bit BLAKE2b numbers of N normalised texts; equal for exact duplicates, the same on any machine."""
    return raw_fingerprints([normalized(text) for text in texts])


def raw_fingerprints(texts: Sequence[str]) -> npt.NDArray[np.uint64]:
    """64-bit BLAKE2b numbers of N texts as they are; equal for identical texts, the same on any machine."""
    digests = (
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts
    )
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def duplicate_groups(texts: Sequence[str], *, similarity: float) -> IntArray:
    """A cluster number for each of N texts: equal for exact and near duplicates, the same on any machine.

    Args:
        texts: N texts.
        similarity: Jaccard similarity of counted words, 0 to 1, from which texts are near duplicates; with 1 only
            exact ones count.

    Returns:
        int64 of N; a cluster's number is the position of its first text. About 0.2 ms a text.
    """
    exact_N = exact_groups(texts)
    firsts = np.flatnonzero(exact_N == np.arange(len(texts)))
    if similarity >= 1.0 or len(firsts) < 2:
        return exact_N
    clusters = Clusters(len(texts))
    compared = _Compared.of([texts[first] for first in firsts.tolist()], firsts)
    for first, other in compared.near(compared, similarity):
        clusters.join(first, other)
    return clusters.numbers()[exact_N]


def exact_groups(texts: Sequence[str]) -> IntArray:
    """For each of N texts the position of the first that is equal after normalisation."""
    first_of: dict[str, int] = {}
    groups = [first_of.setdefault(normalized(text), index) for index, text in enumerate(texts)]
    return np.asarray(groups, dtype=np.int64)


def leak_audit(
    train_texts: Sequence[str], test_texts: Sequence[str], *, similarity: float = 0.65
) -> LeakAudit:
    """Which test texts occur exactly or nearly among the training texts.

    Args:
        train_texts: Texts used for training (with `pairs.joined` for pairs).
        test_texts: N texts to judge.
        similarity: Jaccard similarity of counted words, 0 to 1, that counts as near; with 1 none does.

    Returns:
        Masks over the test texts.
    """
    seen = {normalized(text): text for text in train_texts}
    exact_N = np.array([normalized(text) in seen for text in test_texts], dtype=np.bool_)
    near_N = np.zeros(len(test_texts), dtype=np.bool_)
    if similarity < 1.0:
        others_N = np.flatnonzero(~exact_N)
        tested = _Compared.of([test_texts[position] for position in others_N.tolist()], others_N)
        trained = _Compared.of(list(seen.values()), np.arange(len(seen)))
        for position, _ in tested.near(trained, similarity):
            near_N[position] = True
    as_they_are = set(train_texts)
    identical_N = np.array([text in as_they_are for text in test_texts], dtype=np.bool_)
    return LeakAudit(exact_N, near_N, identical_N)


def contradictory_rows(corpus: Corpus) -> IntArray:
    """Positions of texts that occur more than once (exactly), once with a label and once without it, in order.

    A cell that nobody annotated contradicts nothing.
    """
    groups_N = exact_groups(joined(corpus.texts, corpus.pairs))
    differs_N = np.zeros(len(corpus), dtype=np.bool_)
    for targets_N in corpus.targets_NL.T:
        carried_N, not_carried_N = (
            np.bincount(groups_N, weights=targets_N == value, minlength=len(corpus)) > 0 for value in (1, 0)
        )
        differs_N |= carried_N & not_carried_N
    return np.flatnonzero(differs_N[groups_N])


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


@dataclass(frozen=True, eq=False)
class _Compared:
    """The M texts that are long enough to be compared: positions, counted words and sketches, uint8 [M, 128]."""

    positions_M: IntArray
    words: tuple[CountedWords, ...]
    sketches_MS: Sketches

    @classmethod
    def of(cls, texts: Sequence[str], positions_N: IntArray) -> _Compared:
        """Those of N texts, with the position by which each is known."""
        words = [counted_words(text) for text in texts]
        kept = [row for row, each in enumerate(words) if len(each)]
        sketches_MS = np.zeros((len(kept), SKETCH_BYTES), dtype=np.uint8)
        for place, row in enumerate(kept):
            sketches_MS[place] = sketch(words[row])
        return cls(positions_N[kept], tuple(words[row] for row in kept), sketches_MS)

    def near(self, others: _Compared, similarity: float) -> Iterator[tuple[int, int]]:
        """Positions of near duplicates, one of these texts and one of the others."""
        index = SketchIndex(others.sketches_MS, similarity)
        for place, (found, estimates) in enumerate(index.likely(self.sketches_MS)):
            worth = np.flatnonzero(estimates >= similarity - MARGIN)
            if len(worth) > MAX_CANDIDATES:
                worth = worth[np.argsort(-estimates[worth], kind="stable")[:MAX_CANDIDATES]]
            for other in found[worth].tolist():
                if jaccard(self.words[place], others.words[other]) >= similarity:
                    yield int(self.positions_M[place]), int(others.positions_M[other])
