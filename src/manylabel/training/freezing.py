"""Which depths learn, when and how fast; called by training's parameter groups and the loop.

Depths are those of `modeling.depth`: 0 for the embeddings, i + 1 for layer i, `num_layers + 1` for the head.
"""

from __future__ import annotations

from manylabel.config.schema import TrainingSettings
from manylabel.errors import ConfigError, Finding


def require_layers(num_layers: int, settings: TrainingSettings) -> None:
    """Raise `ConfigError` (a `UsageError`) when more layers are to be frozen than the encoder has."""
    if settings.frozen_layers > num_layers:
        raise ConfigError(
            Finding(
                code="C221",
                place="setting training.frozen_layers",
                found=f"{settings.frozen_layers}, but the encoder has {num_layers} layers",
                allowed=f"0 to {num_layers} for this encoder",
                next_step=f"--set training.frozen_layers={num_layers} trains the head alone",
            )
        )


def is_frozen(depth: int, num_layers: int, settings: TrainingSettings) -> bool:
    """Whether parameters of this depth keep their weights for the whole run; the head never does."""
    if depth == 0:
        return settings.freeze_embeddings or settings.frozen_layers > 0
    return depth <= min(settings.frozen_layers, num_layers)


def rate_factor(depth: int, num_layers: int, settings: TrainingSettings) -> float:
    """What the peak rate is multiplied by at this depth: `layer_decay` to the power of the layers above it.

    1 for the last layer, and for the head, which has a rate of its own. Discriminative fine-tuning of Howard & Ruder
    2018, section 3.2, there with 1 / 2.6 from layer to layer; ELECTRA was fine-tuned with 0.8 and 0.9 (Clark et al.
    2020, appendix B).
    """
    return float(settings.layer_decay ** max(num_layers - depth, 0))


def is_asleep(depth: int, epoch: int, num_layers: int, settings: TrainingSettings) -> bool:
    """Whether gradual unfreezing has not yet reached this depth in `epoch` (from 0).

    Epoch 0 trains the head alone, each further epoch one layer more from above, the embeddings last (Howard & Ruder
    2018, section 3.3). Always false without the setting.
    """
    return settings.gradual_unfreezing and depth + epoch < num_layers + 1
