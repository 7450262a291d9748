"""Which texts a training benchmark runs over, and in which batches; used by train_speed.py and article_job.py.

A few steps must stand for an epoch although texts differ by a factor of 100 in length. So the batches are chosen from
6,400 random texts (the population), not taken as they come. `grouped` are those that transformers' own length grouping
makes, thinned evenly by length such that mean tokens and mean squared tokens agree with the population's; `random` are
random batches whose mean tokens and padding agree with what is expected of random batches.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from manylabel.modeling.weights.locate import locate_encoder
from manylabel.text.tokenizer import TextTokenizer
from manylabel.values import Encodings

IntArray = npt.NDArray[np.int64]

BATCH_SIZE = 32
CAP = 512
POPULATION = 6400
"""The fewest texts from which Trainer's length grouping reaches its full groups of 50 batches of 32."""
TRIALS = 4000
CHEAP_TRIALS = 100_000
SOURCES = {"jigsaw": "jigsaw/validation.csv", "goemotions": "goemotions/train.tsv"}
NUM_LABELS = {"jigsaw": 6, "goemotions": 28}


@dataclass(frozen=True, eq=False)
class Sample:
    """The texts of a measurement, in batches of 32: first the texts of `grouped`, then those of `random`.

    Both have one row a batch, indices into the sample. `population_lengths` are the tokens of all texts of the
    population.
    """

    encodings: Encodings
    targets_NL: npt.NDArray[np.int8]
    grouped: IntArray
    random: IntArray
    population_lengths: IntArray

    @property
    def lengths_N(self) -> IntArray:
        """Tokens of the texts of the sample."""
        return self.encodings.lengths_N

    @property
    def num_texts(self) -> int:
        """Texts of `grouped`, which are the first of the sample."""
        return int(self.grouped.size)

    def shortest_batch(self) -> IntArray:
        """The 32 shortest texts: a cheap first step."""
        return np.argsort(self.lengths_N, kind="stable")[:BATCH_SIZE].astype(np.int64)


def random_batches(lengths_N: IntArray, count: int, *, seed: int) -> IntArray:
    """`count` random batches [count, 32] of different texts, whose padding and length are nearest to expected."""
    choose = np.random.default_rng(seed)
    mean, longest = float(lengths_N.mean()), expected_longest(lengths_N, seed=seed)

    def offers() -> Iterator[tuple[float, IntArray]]:
        for _ in range(TRIALS):
            batches = choose.permutation(len(lengths_N))[: count * BATCH_SIZE].reshape(count, BATCH_SIZE)
            lengths = lengths_N[batches]
            padding = lengths.max(axis=1).mean() / longest
            yield abs(padding - 1) + abs(lengths.mean() / mean - 1), batches

    return min(offers(), key=lambda offer: offer[0])[1]


def expected_longest(lengths_N: IntArray, *, seed: int, draws: int = 2000) -> float:
    """Mean length of the longest of 32 texts drawn at random."""
    choose = np.random.default_rng(seed)
    return float(lengths_N[choose.integers(0, len(lengths_N), (draws, BATCH_SIZE))].max(axis=1).mean())


def read_sample(name: str, data: Path, *, num_grouped: int, num_random: int, seed: int = 1) -> Sample:
    """Texts of `name` (jigsaw or goemotions) from the folder `data`, tokenised with the default encoder's tokenizer."""
    texts, targets_NL = read_texts(name, data)
    chosen = np.random.default_rng(seed).permutation(len(texts))[:POPULATION]
    tokenizer = TextTokenizer.from_folder(locate_encoder("default"), max_length=CAP, normalization="nfkc")
    encodings = tokenizer.encode([texts[i] for i in chosen])
    return choose_sample(
        encodings, targets_NL[chosen], num_grouped=num_grouped, num_random=num_random, seed=seed
    )


def read_lengths(name: str, data: Path) -> IntArray:
    """Tokens of every text of `name`, at most 512."""
    tokenizer = TextTokenizer.from_folder(locate_encoder("default"), max_length=CAP, normalization="nfkc")
    return tokenizer.encode(read_texts(name, data)[0]).lengths_N


def choose_sample(
    encodings: Encodings,
    targets_NL: npt.NDArray[np.int8],
    *,
    num_grouped: int,
    num_random: int,
    seed: int,
) -> Sample:
    """So many representative batches of either kind; a text may be in both."""
    lengths_N = encodings.lengths_N
    batches = length_batches(lengths_N, seed=seed)
    by_length = batches[np.argsort(lengths_N[batches].mean(axis=1), kind="stable")]
    grouped = by_length[representative(lengths_N[by_length], num_grouped, seed=seed)]
    indices = np.concatenate([grouped, random_batches(lengths_N, num_random, seed=seed)]).reshape(-1)
    rows = np.arange(len(indices), dtype=np.int64).reshape(-1, BATCH_SIZE)
    return Sample(
        select(encodings, indices), targets_NL[indices], rows[:num_grouped], rows[num_grouped:], lengths_N
    )


def length_batches(lengths_N: IntArray, *, seed: int) -> IntArray:
    """The whole batches [n, 32] of transformers' own LengthGroupedSampler, as Trainer's group_by_length uses it."""
    import torch
    from transformers.trainer_pt_utils import LengthGroupedSampler

    generator = torch.Generator().manual_seed(seed)
    order = np.array(list(LengthGroupedSampler(BATCH_SIZE, lengths=lengths_N.tolist(), generator=generator)))
    whole = len(order) // BATCH_SIZE * BATCH_SIZE
    return order[:whole].reshape(-1, BATCH_SIZE).astype(np.int64)


def representative(lengths_nB: IntArray, count: int, *, seed: int) -> IntArray:
    """`count` of n batches, one of each of `count` neighbouring parts, nearest to all in mean and mean square.

    Raises ValueError when there are fewer batches than asked for.
    """
    if not 1 <= count <= len(lengths_nB):
        raise ValueError(f"{count} batches of {len(lengths_nB)}")
    choose = np.random.default_rng(seed)
    means, squares = lengths_nB.mean(axis=1), (lengths_nB.astype(float) ** 2).mean(axis=1)
    parts = np.array_split(np.arange(len(lengths_nB)), count)
    offers_tc = np.stack([choose.choice(part, CHEAP_TRIALS) for part in parts], axis=1)
    distance_t = np.abs(means[offers_tc].mean(axis=1) / means.mean() - 1)
    distance_t += np.abs(squares[offers_tc].mean(axis=1) / squares.mean() - 1)
    best: IntArray = offers_tc[int(distance_t.argmin())]
    return best


def select(encodings: Encodings, indices: IntArray) -> Encodings:
    """The encodings of the texts at `indices`, in that order."""
    begins, ends = encodings.offsets_N1[indices], encodings.offsets_N1[indices + 1]
    rows = np.concatenate([np.arange(begin, end) for begin, end in zip(begins, ends, strict=True)])
    return Encodings(
        ids_T=encodings.ids_T[rows],
        segments_T=encodings.segments_T[rows],
        offsets_N1=np.concatenate([np.zeros(1, np.int64), np.cumsum(ends - begins)]),
        truncated_N=encodings.truncated_N[indices],
    )


def read_texts(name: str, data: Path) -> tuple[list[str], npt.NDArray[np.int8]]:
    """All texts of a public data set with their labels [N, L]."""
    path = data / SOURCES[name]
    with path.open(encoding="utf-8", newline="") as file:
        if name == "jigsaw":
            rows = list(csv.reader(file))[1:]
            return [row[1] for row in rows], np.array([row[2:8] for row in rows]).astype(np.int8)
        fields = [line.rstrip("\r\n").split("\t") for line in file]
    return [row[0] for row in fields], _from_ids([row[1] for row in fields], NUM_LABELS[name])


def _from_ids(written: Sequence[str], num_labels: int) -> npt.NDArray[np.int8]:
    """Label ids as "3,17" to targets [N, L]."""
    targets_NL = np.zeros((len(written), num_labels), np.int8)
    for row, ids in enumerate(written):
        targets_NL[row, [int(label) for label in ids.split(",")]] = 1
    return targets_NL
