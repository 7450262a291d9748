"""How deep each parameter lies, counted from the embeddings; called by training's parameter groups and by `lora`.

Depth 0 are the embeddings and whatever else comes before the first layer, layer i (from 0) has depth i + 1, the head
comes last. What follows the layers inside the encoder, such as a final normalisation, counts with the last layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from torch import nn

from manylabel.modeling.pretraining import TrainableModel

EMBEDDINGS_DEPTH: Final = 0


def parameter_depths(model: TrainableModel) -> dict[str, int]:
    """Depth of every parameter by its full name: embeddings 0, layer i at i + 1, head one above the last layer.

    An embedding outside the layers has depth 0 wherever it is declared (the relative positions of DeBERTa and MPNet
    come after the layers). An encoder without a list of layers has depth 0 as a whole, and its head 1.
    """
    layers = layer_numbers(model.encoder)
    num_layers = 1 + max(layers.values(), default=-1)
    tables = {
        f"{name}.weight" for name, module in model.encoder.named_modules() if isinstance(module, nn.Embedding)
    }
    depths, outside_layers = {}, EMBEDDINGS_DEPTH
    for name, _ in model.encoder.named_parameters():
        layer = layer_of(name, layers)
        if layer is not None:
            depth, outside_layers = layer + 1, num_layers
        else:
            depth = EMBEDDINGS_DEPTH if name in tables else outside_layers
        depths[f"encoder.{name}"] = depth
    return depths | {f"head.{name}": num_layers + 1 for name, _ in model.head.named_parameters()}


def num_encoder_layers(depths: Mapping[str, int]) -> int:
    """The number of layers that `parameter_depths` counted."""
    return max(depths.values()) - 1


def layer_numbers(encoder: nn.Module) -> dict[str, int]:
    """Number of each layer, from 0, by the prefix (with its dot) of its names; empty without a list of layers.

    The layers are the largest `ModuleList` that lies in no other one. Lists of the same length beside it belong to
    the same layers: XLM keeps attentions, feed-forwards and normalisations in lists of their own.
    """
    lists: dict[str, nn.ModuleList] = {}
    for name, module in encoder.named_modules():
        is_inside = any(name.startswith(f"{outer}.") for outer in lists)
        if isinstance(module, nn.ModuleList) and len(module) and not is_inside:
            lists[name] = module
    num_layers = len(max(lists.values(), key=_num_weights, default=()))
    return {
        f"{name}.{number}.": number
        for name, members in lists.items()
        if len(members) == num_layers
        for number in range(num_layers)
    }


def layer_of(name: str, layers: Mapping[str, int]) -> int | None:
    """Number of the layer, from 0, that the parameter or module `name` of the encoder lies in; None outside."""
    return next((number for prefix, number in layers.items() if name.startswith(prefix)), None)


def _num_weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
