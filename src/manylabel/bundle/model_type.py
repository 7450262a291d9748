"""The model type in a bundle's config.json; called by save.py and load.py.

transformers loads a head it cannot represent with a warning and random classifier weights. So where it cannot
represent ours, config.json carries a model type of our own, which transformers refuses to load.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from manylabel.modeling.weights.hugging_face import loads_in_transformers

OWN_TYPE = "manylabel"
ENCODER_TYPE_KEY = "encoder_model_type"


def to_saved(config: Mapping[str, Any], *, head: str) -> dict[str, Any]:
    """The configuration as it is written."""
    if loads_in_transformers(config, "cls" if head == "cls" else "mean"):
        return dict(config)
    return {**config, "model_type": OWN_TYPE, ENCODER_TYPE_KEY: config["model_type"]}


def from_saved(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration under the encoder's own model type."""
    if config.get("model_type") != OWN_TYPE:
        return dict(config)
    encoder_type = config.get(ENCODER_TYPE_KEY)
    return {key: value for key, value in config.items() if key != ENCODER_TYPE_KEY} | {
        "model_type": encoder_type
    }
