"""Parameter groups for AdamW: which rate and decay each parameter has; called by weights and the loop."""

from __future__ import annotations

from dataclasses import dataclass

from manylabel.config.schema import TrainingSettings
from manylabel.modeling.depth import num_encoder_layers, parameter_depths
from manylabel.modeling.pretraining import TrainableModel
from manylabel.training.freezing import is_asleep, is_frozen, rate_factor, require_layers

ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8


@dataclass(frozen=True)
class Rates:
    """Peak learning rates of the two parts."""

    encoder: float
    head: float


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters of one rate and decay: `peak` is the rate that the schedule multiplies.

    `depth` counts from the embeddings (0) through the layers to the head; None where no epoch treats depths apart.
    """

    names: tuple[str, ...]
    peak: float
    weight_decay: float
    depth: int | None


@dataclass(frozen=True)
class GroupPlan:
    """All groups of a model, and its number of encoder layers."""

    groups: tuple[ParameterGroup, ...]
    num_layers: int


def plan_groups(model: TrainableModel, settings: TrainingSettings, rates: Rates) -> GroupPlan:
    """Group what is trained; what the settings freeze no longer requires a gradient.

    Matrices are decayed, biases and normalisation weights (all one-dimensional parameters) are not, as in BERT's
    release. Raises UsageError when more layers are to be frozen than the encoder has.
    """
    depths = parameter_depths(model)
    num_layers = num_encoder_layers(depths)
    require_layers(num_layers, settings)
    members: dict[tuple[float, float, int | None], list[str]] = {}
    for name, parameter in model.named_parameters():
        depth = depths[name]
        if is_frozen(depth, num_layers, settings):
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            base = rates.head if depth > num_layers else rates.encoder
            peak = base * rate_factor(depth, num_layers, settings)
            decay = settings.weight_decay if parameter.ndim >= 2 else 0.0
            key = (peak, decay, depth if settings.gradual_unfreezing else None)
            members.setdefault(key, []).append(name)
    return GroupPlan(tuple(ParameterGroup(tuple(names), *key) for key, names in members.items()), num_layers)


def awake_groups(plan: GroupPlan, epoch: int, settings: TrainingSettings) -> list[bool]:
    """Which groups learn in `epoch` (from 0); gradual unfreezing lets the upper ones begin first."""
    return [
        group.depth is None or not is_asleep(group.depth, epoch, plan.num_layers, settings)
        for group in plan.groups
    ]
