import numpy as np
import pytest
import torch

from manylabel.modeling.heads import ClsHead, MeanHead, mean_of_texts
from manylabel.modeling.packed import to_device
from manylabel.values import Batch


def make_batch(lengths):
    num_tokens = sum(lengths)
    positions = np.concatenate([np.arange(length) for length in lengths])
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return to_device(Batch(np.arange(num_tokens), np.zeros(num_tokens, np.int64), positions, starts), "cpu")


def test_a_batch_on_a_device():
    batch = make_batch([2, 3])
    assert batch.texts_T.tolist() == [0, 0, 1, 1, 1]
    assert batch.firsts_B.tolist() == [0, 2]
    assert batch.lengths_B.tolist() == [2, 3]
    assert (batch.num_texts, batch.num_tokens, batch.plan.longest) == (2, 5, 3)


@pytest.mark.parametrize("lengths", [[], [3, 0]])
def test_empty_batches_and_texts_are_refused(lengths):
    empty = np.zeros(sum(lengths), np.int64)
    with pytest.raises(ValueError, match="at least one"):
        to_device(
            Batch(empty, empty, empty, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)), "cpu"
        )


def test_mean_of_texts_by_hand():
    hidden_TD = torch.tensor([[1.0, 2], [3, 4], [10, 20], [20, 40], [30, 60]])
    assert mean_of_texts(hidden_TD, make_batch([2, 3])).tolist() == [[2.0, 3.0], [20.0, 40.0]]


def test_mean_head_normalises_then_projects():
    head = MeanHead(4, 2)
    head.initialise()
    hidden_TD = torch.randn(5, 4)
    means = torch.stack([hidden_TD[:2].mean(0), hidden_TD[2:].mean(0)])
    normal = (means - means.mean(1, keepdim=True)) / (
        means.var(1, unbiased=False, keepdim=True) + 1e-5
    ).sqrt()
    expected = normal @ head.projection.weight.T
    torch.testing.assert_close(head(hidden_TD, make_batch([2, 3])), expected)


def test_data_dependent_pooler_gives_its_tanh_unit_inputs():
    features_BD = 0.1 * torch.randn(300, 6) + torch.linspace(-2, 2, 6)
    head = ClsHead(6, 3)
    head.initialise_from(features_BD, gain=0.5)
    inputs = head.dense(features_BD)
    torch.testing.assert_close(inputs.mean(0), torch.zeros(6), rtol=0, atol=1e-4)
    torch.testing.assert_close(inputs.std(0, unbiased=False), torch.full((6,), 0.5), rtol=1e-3, atol=0)


def test_constant_features_stay_finite():
    head = ClsHead(3, 2)
    head.initialise_from(torch.ones(5, 3))
    assert torch.isfinite(head(torch.ones(5, 3), make_batch([1] * 5))).all()
    with pytest.raises(ValueError, match="two texts"):
        head.initialise_from(torch.ones(1, 3))


@pytest.mark.parametrize("kind", [MeanHead, ClsHead])
def test_prior_and_seed(kind):
    head = kind(4, 3)
    head.set_prior(torch.tensor([0.5, 0.1, 0.0], dtype=torch.float64))
    assert head.projection.bias.tolist()[:2] == pytest.approx([0.0, np.log(1 / 9)], abs=1e-5)
    assert torch.isfinite(head.projection.bias).all()
    states = []
    for _ in range(2):
        head.initialise(torch.Generator().manual_seed(7))
        states.append({name: tensor.clone() for name, tensor in head.state_dict().items()})
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert head.projection.bias.tolist() == [0.0] * 3
    wide = kind(400, 300)
    wide.initialise()
    assert float(wide.projection.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
