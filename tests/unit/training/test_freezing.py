import pytest

from manylabel.config.schema import TrainingSettings
from manylabel.errors import UsageError
from manylabel.training.freezing import is_asleep, is_frozen, rate_factor, require_layers

# An encoder of 3 layers: embeddings 0, layers 1 to 3, head 4.
NUM_LAYERS = 3
DEPTHS = range(5)


def settings(**values):
    return TrainingSettings(**values)


@pytest.mark.parametrize(
    ("values", "frozen"),
    [
        ({}, []),
        ({"freeze_embeddings": True}, [0]),
        ({"frozen_layers": 1}, [0, 1]),
        ({"frozen_layers": 2, "freeze_embeddings": True}, [0, 1, 2]),
        ({"frozen_layers": 3}, [0, 1, 2, 3]),
    ],
)
def test_what_is_frozen(values, frozen):
    assert [depth for depth in DEPTHS if is_frozen(depth, NUM_LAYERS, settings(**values))] == frozen


def test_the_head_is_never_frozen():
    assert not is_frozen(4, NUM_LAYERS, settings(frozen_layers=200))


@pytest.mark.parametrize(
    ("decay", "factors"),
    [(1.0, [1, 1, 1, 1, 1]), (0.5, [0.125, 0.25, 0.5, 1, 1]), (0.1, [0.001, 0.01, 0.1, 1, 1])],
)
def test_the_rate_falls_from_layer_to_layer(decay, factors):
    found = [rate_factor(depth, NUM_LAYERS, settings(layer_decay=decay)) for depth in DEPTHS]
    assert found == pytest.approx(factors)


@pytest.mark.parametrize(
    ("epoch", "awake"),
    [(0, [4]), (1, [3, 4]), (2, [2, 3, 4]), (3, [1, 2, 3, 4]), (4, [0, 1, 2, 3, 4]), (9, [0, 1, 2, 3, 4])],
)
def test_layers_wake_from_above(epoch, awake):
    gradual = settings(gradual_unfreezing=True)
    assert [depth for depth in DEPTHS if not is_asleep(depth, epoch, NUM_LAYERS, gradual)] == awake
    assert not any(is_asleep(depth, epoch, NUM_LAYERS, settings()) for depth in DEPTHS)


def test_more_frozen_layers_than_there_are():
    require_layers(3, settings(frozen_layers=3))
    with pytest.raises(UsageError) as caught:
        require_layers(3, settings(frozen_layers=4))
    (finding,) = caught.value.findings
    assert "training.frozen_layers" in finding.place
    assert "4" in finding.found
    assert "3" in finding.found
    assert finding.allowed.startswith("0 to 3")
