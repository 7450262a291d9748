"""Documents of sentences to examples for a language model: one segment, or two for next-sentence prediction.

Called by training/pretraining_examples. A document is divided once into stretches of whole sentences that fit into an
example; each epoch then draws anew where a stretch is cut in two and which second part is replaced.

Letters: S sentences, N stretches (the examples), T tokens without special ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.values import BoolArray, Encodings

Indices = npt.NDArray[np.int64]

SPECIAL_OF_ONE = 2
"""[CLS] A [SEP]"""
SPECIAL_OF_PAIR = 3
"""[CLS] A [SEP] B [SEP]"""
FOLLOWS, FROM_ELSEWHERE, NO_PAIR = 0, 1, -1
"""Next-sentence labels, the first two numbered as in BERT's release."""


@dataclass(frozen=True, eq=False)
class Sentences:
    """Token ids of S sentences, document after document, without special tokens.

    Sentence s owns `ids_T[offsets_S1[s]:offsets_S1[s + 1]]`; `documents_S` numbers the documents from 0, ascending.
    """

    ids_T: npt.NDArray[np.int32]
    offsets_S1: Indices
    documents_S: Indices

    @property
    def num_documents(self) -> int:
        """Documents that have a sentence; the numbers of others do not occur."""
        return int(1 + np.count_nonzero(np.diff(self.documents_S))) if len(self.documents_S) else 0

    def select(self, is_kept_D: BoolArray) -> Sentences:
        """The sentences of the documents that are kept, which keep their numbers."""
        is_kept_S = is_kept_D[self.documents_S]
        sizes_S = np.diff(self.offsets_S1)
        offsets_S1 = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes_S[is_kept_S])])
        return Sentences(self.ids_T[np.repeat(is_kept_S, sizes_S)], offsets_S1, self.documents_S[is_kept_S])

    @classmethod
    def of(cls, encodings: Encodings, num_sentences_D: Sequence[int], *, longest: int) -> Sentences:
        """Sentences that were tokenised one by one, D documents with so many each.

        The first and last token of each, [CLS] and [SEP], go; what is longer than `longest` is divided, and a sentence
        without tokens is left out.
        """
        sizes_S = encodings.lengths_N - SPECIAL_OF_ONE
        is_kept_T = np.ones(len(encodings.ids_T), np.bool_)
        is_kept_T[encodings.offsets_N1[:-1]] = is_kept_T[encodings.offsets_N1[1:] - 1] = False
        parts_S = -(-sizes_S // longest)
        documents_S = np.repeat(np.arange(len(num_sentences_D)), num_sentences_D)
        last_S = sizes_S - longest * (parts_S - 1)
        sizes = np.full(int(parts_S.sum()), longest, np.int64)
        sizes[np.cumsum(parts_S)[parts_S > 0] - 1] = last_S[parts_S > 0]
        offsets_S1 = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        return cls(encodings.ids_T[is_kept_T], offsets_S1, np.repeat(documents_S, parts_S).astype(np.int64))


@dataclass(frozen=True, eq=False)
class Stretches:
    """N runs of consecutive sentences of one document each: `starts_N` to `stops_N`, numbers of sentences."""

    starts_N: Indices
    stops_N: Indices

    def __len__(self) -> int:
        return len(self.starts_N)


@dataclass(frozen=True, eq=False)
class Segments:
    """The N examples of an epoch as ranges of T tokens: `first_N2`, and `second_N2`, which is empty without a pair.

    `next_N` is 0 where the second follows the first in its document, 1 where it comes from another document, -1
    without a second.
    """

    first_N2: Indices
    second_N2: Indices
    next_N: npt.NDArray[np.int64]

    @property
    def lengths_N(self) -> Indices:
        """Tokens of each example, special tokens included."""
        special_N = np.where(self.next_N == NO_PAIR, SPECIAL_OF_ONE, SPECIAL_OF_PAIR)
        return np.diff(self.first_N2)[:, 0] + np.diff(self.second_N2)[:, 0] + special_N


def find_stretches(sentences: Sentences, capacity: int) -> Stretches:
    """Whole sentences of one document, as many as have at most `capacity` tokens together; each exactly once."""
    offsets, documents = sentences.offsets_S1.tolist(), sentences.documents_S.tolist()
    starts: list[int] = []
    for place, document in enumerate(documents):
        is_new = not starts or document != documents[place - 1]
        if is_new or offsets[place + 1] - offsets[starts[-1]] > capacity:
            starts.append(place)
    return Stretches(
        np.array(starts, np.int64), np.array([*starts[1:], len(documents)][: len(starts)], np.int64)
    )


def whole_stretches(sentences: Sentences, stretches: Stretches) -> Segments:
    """Every stretch as one segment."""
    first_N2 = sentences.offsets_S1[np.stack([stretches.starts_N, stretches.stops_N], axis=1)]
    nothing_N2 = np.zeros_like(first_N2)
    return Segments(first_N2, nothing_N2, np.full(len(stretches), NO_PAIR))


def draw_pairs(
    sentences: Sentences, stretches: Stretches, choose: np.random.Generator, *, capacity: int
) -> Segments:
    """Cut every stretch of two or more sentences in two, and replace the second part of half of them.

    The cut lies between two sentences, each place equally likely. The replacement comes from another document, begins
    at any of its sentences, and is as many whole sentences as it takes to be as long as what it replaces, so that
    length tells little; it ends with its document, and is cut where the two would exceed `capacity` tokens. A
    stretch of one sentence, and every stretch when there is one document, stays one segment.
    """
    offsets, (cut_N, chance_N, document_N, begin_N) = sentences.offsets_S1, choose.random((4, len(stretches)))
    starts, stops = stretches.starts_N, stretches.stops_N
    document_starts = np.flatnonzero(np.diff(sentences.documents_S, prepend=-1))
    has_pair_N = (stops - starts > 1) & (len(document_starts) > 1)
    cuts = np.where(has_pair_N, starts + 1 + (cut_N * (stops - starts - 1)).astype(np.int64), stops)
    first_N2 = np.stack([offsets[starts], offsets[cuts]], axis=1)
    second_N2 = np.stack([offsets[cuts], offsets[stops]], axis=1)
    replaced = np.flatnonzero(has_pair_N & (chance_N < 0.5))
    if len(replaced):
        own = np.searchsorted(document_starts, starts[replaced], side="right") - 1
        other = (document_N[replaced] * (len(document_starts) - 1)).astype(np.int64)
        other += other >= own
        document_stops = np.append(document_starts[1:], len(sentences.documents_S))
        begins = document_starts[other]
        begins += (begin_N[replaced] * (document_stops[other] - begins)).astype(np.int64)
        wanted = np.diff(second_N2[replaced])[:, 0]
        ends = np.minimum(np.searchsorted(offsets, offsets[begins] + wanted), document_stops[other])
        room = capacity - np.diff(first_N2[replaced])[:, 0]
        last = np.minimum(offsets[ends], offsets[begins] + room)
        second_N2[replaced] = np.stack([offsets[begins], last], axis=1)
    next_N = np.where(has_pair_N, FOLLOWS, NO_PAIR)
    next_N[replaced] = FROM_ELSEWHERE
    return Segments(first_N2, second_N2, next_N)
