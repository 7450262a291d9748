"""A batch divided over processes: hand-worked cases, and what must hold for every set of lengths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manylabel.text.buckets import share_batch

lengths = st.lists(st.integers(1, 600), min_size=1, max_size=80).map(
    lambda values: np.array(values, np.int64)
)


@pytest.mark.parametrize(
    ("lengths_N", "num_ranks", "loads"),
    [
        (
            [7, 6, 5, 4, 3],
            2,
            [14, 11],
        ),  # 7+4+3 and 6+5: the textbook's order, one token above the best, 13 and 12.
        ([10, 1, 1, 1, 1], 2, [10, 4]),
        ([5, 5, 5, 5], 2, [10, 10]),
        ([3, 2], 4, [3, 2, 0, 0]),
        ([4, 9], 1, [13]),
    ],
)
def test_the_longest_go_first_to_whoever_has_least(lengths_N, num_ranks, loads):
    lengths_N = np.array(lengths_N)
    shares = share_batch(np.arange(len(lengths_N)), lengths_N, num_ranks)
    assert [int(lengths_N[share].sum()) for share in shares] == loads


@given(lengths, st.integers(1, 9), st.randoms(use_true_random=False))
def test_every_text_goes_to_one_process_and_loads_differ_by_at_most_the_longest(lengths_N, num_ranks, choose):
    indices = np.array(choose.sample(range(len(lengths_N)), k=choose.randint(1, len(lengths_N))), np.int64)
    shares = share_batch(indices, lengths_N, num_ranks)
    assert len(shares) == num_ranks
    assert sorted(np.concatenate(shares).tolist()) == sorted(indices.tolist())
    loads = [int(lengths_N[share].sum()) for share in shares]
    assert max(loads) - min(loads) <= lengths_N[indices].max()


@given(lengths, st.integers(1, 9))
def test_the_same_batch_is_always_divided_alike(lengths_N, num_ranks):
    indices = np.arange(len(lengths_N))
    first, second = (share_batch(indices, lengths_N, num_ranks) for _ in range(2))
    assert [share.tolist() for share in first] == [share.tolist() for share in second]
    assert all(share.dtype == np.int64 for share in first)


def test_a_typical_batch_is_all_but_even():
    # 32 texts of log-normal length, about 88 tokens: what a step of comments looks like.
    lengths_N = np.random.default_rng(1).lognormal(4.0, 0.9, 32).clip(5, 512).astype(np.int64)
    shares = share_batch(np.arange(32), lengths_N, 4)
    loads = [int(lengths_N[share].sum()) for share in shares]
    assert max(loads) / np.mean(loads) < 1.02
