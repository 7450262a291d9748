"""Low-rank adaptation (LoRA): small trained updates of frozen weight matrices, folded into them before saving.

`add_lora` is called by recipes/train.py before training, `merge_lora` after it. The source is Hu et al. 2021 (LoRA:
Low-Rank Adaptation of Large Language Models), section 4.1; there for attention's matrices, here for every linear layer.
A weight W [out, in] is used as W + (alpha / rank) B A, with A [rank, in] and B [out, rank].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from manylabel.errors import EncoderError, Finding
from manylabel.modeling.classifier import Classifier
from manylabel.modeling.depth import layer_numbers, layer_of


class LowRankUpdate(nn.Module):
    """A weight [out, in] plus a scaled product of two thin matrices: `expand` [out, rank] @ `reduce` [rank, in]."""

    def __init__(self, weight: Tensor, rank: int, *, alpha: float, generator: torch.Generator | None) -> None:
        super().__init__()
        num_outputs, num_inputs = weight.shape
        # Drawn where the generator lives, so that a seed gives the same start on every device.
        drawn = torch.empty(rank, num_inputs, device="cpu" if generator is None else generator.device)
        nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)
        self.reduce = nn.Parameter(drawn.to(weight))
        self.expand = nn.Parameter(weight.new_zeros(num_outputs, rank))
        self._scale = alpha / rank

    def forward(self, weight: Tensor) -> Tensor:
        """The weight as the layer uses it; same shape.

        The sum is taken before the multiplication with a batch, so the products with thin matrices do not grow with
        the number of tokens.
        """
        return weight + self._scale * (self.expand @ self.reduce)


def add_lora(
    classifier: Classifier, rank: int, *, alpha: float, generator: torch.Generator | None = None
) -> None:
    """Freeze the encoder and give every linear layer inside its layers a trainable update of rank `rank`.

    At first B is 0, so the logits are exactly those of the classifier before; A is drawn from U(-b, b) with
    b = 1 / sqrt(in), as in the authors' code. Embeddings get no update; the head is trained as it is. Raises
    `EncoderError` for an encoder without linear layers.
    """
    linears = _layers_linears(classifier.encoder)
    if not linears:
        raise EncoderError(
            Finding(
                code="E151",
                place="setting lora.rank",
                found="this encoder has no layers with linear weights to adapt",
                allowed="0 for this encoder",
                next_step="--set lora.rank=0, or choose another encoder",
            )
        )
    classifier.encoder.requires_grad_(False)
    for linear in linears:
        update = LowRankUpdate(linear.weight, rank, alpha=alpha, generator=generator)
        parametrize.register_parametrization(linear, "weight", update)


@torch.no_grad()
def merge_lora(classifier: Classifier) -> None:
    """Fold every update into its weight; names, shapes and order of the state are then as if LoRA had not been.

    The logits stay the same. All parameters of the encoder are trainable again. Nothing happens without LoRA.
    """
    adapted = [
        module for module in classifier.encoder.modules() if parametrize.is_parametrized(module, "weight")
    ]
    for linear in adapted:
        assert isinstance(linear, nn.Linear)
        merged, bias = linear.weight, linear.bias
        parametrize.remove_parametrizations(linear, "weight", leave_parametrized=False)
        linear.weight.copy_(merged)
        # Removing the parametrization puts the weight behind the bias.
        del linear.bias
        linear.register_parameter("bias", bias)
    if adapted:
        classifier.encoder.requires_grad_(True)


def num_trained_parameters(classifier: Classifier) -> int:
    """Numbers that training changes."""
    return sum(parameter.numel() for parameter in classifier.parameters() if parameter.requires_grad)


def _layers_linears(encoder: nn.Module) -> list[nn.Linear]:
    """The linear layers inside the encoder's layers, in order; a module that is used twice comes once."""
    layers = layer_numbers(encoder)
    return [
        module
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear) and layer_of(f"{name}.", layers) is not None
    ]
