"""What must hold for every set of lengths: nothing lost, nothing twice, no budget exceeded, packing undone."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from manylabel.text.buckets import epoch_batches, plan_batches, split_batch
from manylabel.text.pack import pack
from manylabel.values import Encodings

lengths = st.lists(st.integers(1, 40), min_size=1, max_size=60).map(lambda values: np.array(values, np.int64))


def encodings_of(lengths_N: np.ndarray) -> Encodings:
    total = int(lengths_N.sum())
    return Encodings(
        ids_T=np.arange(total, dtype=np.int32),
        segments_T=(np.arange(total) % 2).astype(np.uint8),
        offsets_N1=np.concatenate([[0], np.cumsum(lengths_N)]),
        truncated_N=np.zeros(len(lengths_N), np.bool_),
    )


@given(lengths, st.integers(1, 100))
def test_every_text_is_planned_once_and_within_budget(lengths_N, budget):
    batches = plan_batches(lengths_N, budget)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths_N)))
    assert all(lengths_N[batch].sum() <= budget or len(batch) == 1 for batch in batches)


@given(lengths, st.integers(1, 100))
def test_a_split_batch_is_the_batch(lengths_N, budget):
    indices = np.arange(len(lengths_N))[::2]
    parts = split_batch(indices, lengths_N, budget)
    assert sorted(np.concatenate(parts).tolist()) == indices.tolist()


@given(st.integers(1, 200), st.integers(1, 40), st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_visits_every_text_once(num_texts, batch_size, seed, epoch):
    batches = epoch_batches(num_texts, batch_size=batch_size, seed=seed, epoch=epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(num_texts))
    assert all(len(batch) == batch_size for batch in batches[:-1])


def test_epochs_and_seeds_give_different_orders_and_equal_ones_the_same():
    def order(seed, epoch):
        return np.concatenate(epoch_batches(100, batch_size=10, seed=seed, epoch=epoch)).tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


@given(lengths, st.randoms(use_true_random=False))
def test_packing_keeps_every_token(lengths_N, choose):
    encodings = encodings_of(lengths_N)
    indices = np.array(choose.sample(range(len(lengths_N)), k=choose.randint(1, len(lengths_N))), np.int64)
    batch = pack(encodings, indices)
    for place, index in enumerate(indices):
        packed = slice(batch.starts_B1[place], batch.starts_B1[place + 1])
        source = slice(encodings.offsets_N1[index], encodings.offsets_N1[index + 1])
        assert np.array_equal(batch.ids_T[packed], encodings.ids_T[source])
        assert np.array_equal(batch.segments_T[packed], encodings.segments_T[source])
        assert np.array_equal(batch.positions_T[packed], np.arange(lengths_N[index]))
    assert batch.num_tokens == lengths_N[indices].sum()
