"""The best validation of a run and the weights it was made with; kept by the loop."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from pydantic import JsonValue
from torch import Tensor, nn


class Best:
    """The best score so far, its step and weights; before any validation, the weights training began with."""

    def __init__(self, module: nn.Module) -> None:
        """Nothing was validated yet."""
        self.score: float | None = None
        self.step = 0
        self.validations_since = 0
        self._was_validated = False
        self._weights = _copy_of(module)

    def offer(self, score: float | None, step: int, module: nn.Module) -> bool:
        """Keep these weights if they are better, or if nothing can be judged; never if their logits are not finite.

        `score` is None where nothing can be judged and NaN where logits are not finite.
        """
        if score is not None and math.isnan(score):
            better = False
        else:
            better = not self._was_validated or score is None or self.score is None or score > self.score
        if better:
            self._was_validated = True
            self.score, self.step, self.validations_since = score, step, 0
            self._weights = _copy_of(module)
        else:
            self.validations_since += 1
        return better

    def install(self, module: nn.Module) -> None:
        """Give the module the best weights."""
        with torch.no_grad():
            for name, tensor in _tensors(module).items():
                tensor.copy_(self._weights[name])

    def tensors(self) -> dict[str, Tensor]:
        """The weights, for a checkpoint; they are replaced, never changed."""
        return dict(self._weights)

    def facts(self) -> dict[str, JsonValue]:
        """The rest, for a checkpoint."""
        return {
            "score": self.score,
            "step": self.step,
            "validations_since": self.validations_since,
            "was_validated": self._was_validated,
        }

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, JsonValue]) -> None:
        """Go on from `tensors()` and `facts()`."""
        self._weights = {name: tensors[name].to(value.device) for name, value in self._weights.items()}
        score = facts["score"]
        self.score = None if score is None else float(score)  # type: ignore[arg-type]
        self.step, self.validations_since = int(facts["step"]), int(facts["validations_since"])  # type: ignore[arg-type]
        self._was_validated = bool(facts["was_validated"])


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """All parameters and the buffers that are saved."""
    return {name: tensor.detach() for name, tensor in module.state_dict().items()}


def _copy_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in _tensors(module).items()}
