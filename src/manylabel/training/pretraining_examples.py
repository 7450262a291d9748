"""Stretches of documents as examples for a language model, masked anew each epoch; called by the loop.

What an epoch shows of a row is a function of the seed, the epoch and the row, never of the batch it is in, so that
micro-batches, processes and a run that goes on from a checkpoint see the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from manylabel.config.schema import PretrainingSettings
from manylabel.modeling.transfer import send
from manylabel.text.masking import WordPieces, mask_tokens
from manylabel.text.segments import (
    NO_PAIR,
    SPECIAL_OF_ONE,
    SPECIAL_OF_PAIR,
    Segments,
    Sentences,
    draw_pairs,
    find_stretches,
    whole_stretches,
)
from manylabel.values import Batch

Indices = npt.NDArray[np.int64]

PAIRS, MASKS = 1, 2
"""What random numbers are for; the two must not repeat each other."""
ROWS_REMEMBERED = 4096
"""A batch is asked for by counting, by packing and for its targets; drawing it once is enough."""


@dataclass(frozen=True, eq=False)
class PretrainingTargets:
    """What stood at M masked places of a batch, and whether B second segments follow the first (0), do not (1), -1.

    `places_M` are rows among the batch's T tokens. All int64.
    """

    places_M: Tensor
    words_M: Tensor
    next_B: Tensor

    def to(self, device: torch.device) -> PretrainingTargets:
        """The same on `device`."""
        return PretrainingTargets(
            *(send(part, device) for part in (self.places_M, self.words_M, self.next_B))
        )


@dataclass(frozen=True, eq=False)
class _Row:
    """One example of an epoch: what is shown, where it is masked and what stood there."""

    ids_t: Indices
    segments_t: Indices
    places_M: Indices
    words_M: Indices


class PretrainingEpoch:
    """The examples of one epoch."""

    def __init__(
        self,
        ids_T: npt.NDArray[np.int32],
        segments: Segments,
        *,
        pieces: WordPieces,
        settings: PretrainingSettings,
        seeds: tuple[int, int],
    ) -> None:
        """`seeds` are the run's seed and the epoch's number."""
        self._ids_T, self._segments, self._pieces = ids_T, segments, pieces
        self._settings, self._seeds = settings, seeds
        self._lengths_N = segments.lengths_N
        self._remembered: dict[int, _Row] = {}

    @property
    def lengths_N(self) -> Indices:
        """Tokens of each example, special tokens included."""
        return self._lengths_N

    @property
    def num_pairs(self) -> int:
        """Examples of two segments."""
        return int((self._segments.next_N != NO_PAIR).sum())

    def batch(self, indices: Indices) -> Batch:
        """The examples at `indices` as the model sees them, masked, packed in that order."""
        rows = [self._row(int(index)) for index in indices]
        lengths_B = self._lengths_N[indices]
        starts_B1 = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths_B)])
        return Batch(
            ids_T=np.concatenate([row.ids_t for row in rows] or [np.zeros(0, np.int64)]),
            segments_T=np.concatenate([row.segments_t for row in rows] or [np.zeros(0, np.int64)]),
            positions_T=np.arange(starts_B1[-1], dtype=np.int64) - np.repeat(starts_B1[:-1], lengths_B),
            starts_B1=starts_B1,
        )

    def targets(self, indices: Indices) -> PretrainingTargets:
        """What the model has to guess in `batch(indices)`."""
        rows = [self._row(int(index)) for index in indices]
        starts_B = np.cumsum(self._lengths_N[indices]) - self._lengths_N[indices]
        places = [row.places_M + start for row, start in zip(rows, starts_B, strict=True)]
        return PretrainingTargets(
            places_M=torch.from_numpy(np.concatenate(places or [np.zeros(0, np.int64)])),
            words_M=torch.from_numpy(
                np.concatenate([row.words_M for row in rows] or [np.zeros(0, np.int64)])
            ),
            next_B=torch.from_numpy(self._segments.next_N[indices]),
        )

    def _row(self, index: int) -> _Row:
        found = self._remembered.get(index)
        if found is None:
            if len(self._remembered) >= ROWS_REMEMBERED:
                self._remembered.clear()
            found = self._remembered[index] = self._drawn(index)
        return found

    def _drawn(self, index: int) -> _Row:
        """The example with its special tokens, masked by random numbers of its own."""
        pieces, settings = self._pieces, self._settings
        first, second = (self._ids_T[slice(*part[index])] for part in self._ranges)
        end = np.array([pieces.sep_id])
        parts = [np.array([pieces.cls_id]), first, end]
        num_first = len(first) + SPECIAL_OF_ONE
        if self._segments.next_N[index] != NO_PAIR:
            parts += [second, end]
        ids_t = np.concatenate(parts).astype(np.int64)
        segments_t = (np.arange(len(ids_t)) >= num_first).astype(np.int64)
        choose = np.random.default_rng([*self._seeds, MASKS, index])
        masked = mask_tokens(
            ids_t, choose, pieces=pieces, share=settings.mask_share, whole_words=settings.whole_words
        )
        return _Row(masked.ids_t, segments_t, masked.places_M, ids_t[masked.places_M])

    @property
    def _ranges(self) -> tuple[Indices, Indices]:
        return self._segments.first_N2, self._segments.second_N2


class PretrainingExamples:
    """Stretches of documents that fill up to `max_length` tokens, in pairs where the settings ask for them."""

    def __init__(
        self,
        sentences: Sentences,
        *,
        pieces: WordPieces,
        settings: PretrainingSettings,
        max_length: int,
        seed: int,
    ) -> None:
        """No sentence may have more tokens than `capacity` gives."""
        self._sentences, self._pieces, self._settings, self._seed = sentences, pieces, settings, seed
        self._capacity = capacity(max_length, settings)
        self._stretches = find_stretches(sentences, self._capacity)
        documents_N = sentences.documents_S[self._stretches.starts_N]
        self._ids = tuple(f"document {document + 1:,}" for document in documents_N.tolist())

    @property
    def ids(self) -> tuple[str, ...]:
        """The document of each example, numbered from 1."""
        return self._ids

    def __len__(self) -> int:
        return len(self._stretches)

    def epoch(self, epoch: int) -> PretrainingEpoch:
        """The examples as this epoch (from 0) shows them: cut, paired and masked by random numbers of its own."""
        if self._settings.next_sentence:
            choose = np.random.default_rng([self._seed, epoch, PAIRS])
            segments = draw_pairs(self._sentences, self._stretches, choose, capacity=self._capacity)
        else:
            segments = whole_stretches(self._sentences, self._stretches)
        return PretrainingEpoch(
            self._sentences.ids_T,
            segments,
            pieces=self._pieces,
            settings=self._settings,
            seeds=(self._seed, epoch),
        )


def capacity(max_length: int, settings: PretrainingSettings) -> int:
    """Tokens of an example that are not special ones."""
    return max_length - (SPECIAL_OF_PAIR if settings.next_sentence else SPECIAL_OF_ONE)
