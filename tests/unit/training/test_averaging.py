import pytest
import torch

from manylabel.training.averaging import WeightAverage, warmed_up


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_equal_to_the_recurrence_in_python(decay):
    generator = torch.Generator().manual_seed(3)
    weights = [torch.randn(5, generator=generator), torch.randn(2, generator=generator)]
    average = WeightAverage(weights)
    expected = [weight.tolist() for weight in weights]
    for step in range(30):
        for weight in weights:
            weight.add_(torch.randn(weight.shape, generator=generator))
        average.update(decay)
        used = min(decay, (1 + step) / (10 + step))
        expected = [
            [used * old + (1 - used) * new for old, new in zip(before, weight.tolist(), strict=True)]
            for before, weight in zip(expected, weights, strict=True)
        ]
    for value, numbers in zip(average.values, expected, strict=True):
        assert value.tolist() == pytest.approx(numbers, rel=1e-5, abs=1e-6)


def test_the_decay_warms_up():
    # (1 + n) / (10 + n): 1/10, 2/11, 3/12, ... until the decay asked for.
    assert [warmed_up(0.3, step) for step in range(5)] == pytest.approx([0.1, 2 / 11, 0.25, 0.3, 0.3])


def test_the_weights_are_left_alone_and_the_averages_stay_in_place():
    weights = torch.nn.Parameter(torch.ones(3))
    average = WeightAverage([weights])
    (before,) = average.values
    assert torch.equal(before, torch.ones(3))
    with torch.no_grad():
        weights.fill_(2.0)
    average.update(0.999)
    assert average.values[0] is before
    assert before.tolist() == pytest.approx([1.9] * 3)
    assert not before.requires_grad
    assert weights.tolist() == [2.0] * 3


def test_a_restored_average_goes_on_bit_by_bit():
    weights = torch.linspace(-1, 1, 7)
    whole = WeightAverage([weights])
    for _ in range(3):
        weights += 0.3
        whole.update(0.9)
    saved = {name: tensor.clone() for name, tensor in whole.state().items()}
    resumed = WeightAverage([weights])
    resumed.restore(saved)
    for _ in range(3):
        weights -= 0.7
        whole.update(0.9)
        resumed.update(0.9)
    assert resumed.num_updates == 6
    assert torch.equal(resumed.values[0], whole.values[0])
    assert not torch.equal(saved["0"], whole.values[0])


def test_other_tensors_are_refused_and_nothing_changes():
    average = WeightAverage([torch.zeros(3), torch.zeros(2)])
    foreign = WeightAverage([torch.ones(3), torch.ones(1)]).state()
    with pytest.raises(ValueError, match="shapes"):
        average.restore(foreign)
    with pytest.raises(KeyError):
        average.restore({"0": torch.ones(3), "num_updates": torch.tensor(4)})
    assert [value.tolist() for value in average.values] == [[0.0] * 3, [0.0] * 2]
    assert average.num_updates == 0


def test_only_fp32():
    with pytest.raises(ValueError, match="fp32"):
        WeightAverage([torch.zeros(3, dtype=torch.bfloat16)])
