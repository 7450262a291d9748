"""What is said before and after training: small numbers, and layers that would never learn."""

import pytest

from manylabel.config.schema import TrainingSettings
from manylabel.modeling.weights.hugging_face import load_pretrained
from manylabel.recipes.fit import in_words, tell_unfreezing
from manylabel.training.observers import SilentObserver
from manylabel.training.preflight import duration


class Listener(SilentObserver):
    def __init__(self):
        self.stages = []

    def stage(self, text):
        self.stages.append(text)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        # Two layers: epoch 1 the head, 2 and 3 the layers, 4 the embeddings.
        ({"epochs": 1}, "in 1 epoch only the head is ever trained (--set training.epochs=4 reaches"),
        ({"epochs": 2}, "in 2 epochs the embeddings and 1 layer keep their weights (--set training.epochs=4"),
        ({"epochs": 3}, "in 3 epochs the embeddings keep their weights"),
        ({"epochs": 4}, None),
        ({"epochs": 3, "freeze_embeddings": True}, None),
        ({"epochs": 1, "frozen_layers": 1}, "only the head is ever trained (--set training.epochs=2 reaches"),
        ({"epochs": 1, "frozen_layers": 2}, None),  # The head alone is what was asked for.
        ({"epochs": 1, "gradual_unfreezing": False}, None),
    ],
)
def test_layers_that_gradual_unfreezing_never_reaches_are_told(tiny_encoder, settings, told):
    listener = Listener()
    model = load_pretrained(tiny_encoder, num_labels=3, head="mean")
    tell_unfreezing(model, TrainingSettings(**{"gradual_unfreezing": True, **settings}), listener)
    if told is None:
        assert listener.stages == []
    else:
        assert told in listener.stages[0]


def test_small_numbers_are_said_as_they_are():
    assert [in_words(count) for count in (31_264, 99_999, 100_000, 22_713_216)] == [
        "31,264",
        "99,999",
        "0.1M",
        "22.7M",
    ]
    assert [duration(seconds) for seconds in (0.2, 1.4, 2.0, 89.0)] == [
        "1 second",
        "1 second",
        "2 seconds",
        "89 seconds",
    ]
