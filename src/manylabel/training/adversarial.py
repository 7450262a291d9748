"""Adversarial training: each text once more, its embeddings moved to where its loss grows fastest.

Chosen by recipes/augment.py. Miyato, Dai and Goodfellow 2017 ("Adversarial Training Methods for Semi-Supervised Text
Classification", equation 5), known as FGM: r = epsilon g / ||g||, g the gradient of the loss by all embeddings of a
text. As there the embeddings are normalised, so that growing ones cannot escape; here they are what enters the first
layer, position and segment included.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from manylabel.errors import ConfigError, Finding
from manylabel.modeling.classifier import Classifier
from manylabel.modeling.encoder import PackedEncoder
from manylabel.modeling.packed import PackedBatch
from manylabel.training.objectives import Objective
from manylabel.training.passes import no_autocast


class FgmPass:
    """Twice through the network: as the texts are, and against them; the loss is the mean of both.

    The first way back yields the gradient of the weights and the direction at once. The second time dropout is drawn
    anew.
    """

    def __init__(self, epsilon: float) -> None:
        """`epsilon` is the length of the step, over all tokens of a text together; greater than 0."""
        self._epsilon = epsilon

    def backward(
        self,
        model: nn.Module,
        batch: PackedBatch,
        targets: Any,  # noqa: ANN401 - only the objective looks inside
        *,
        objective: Objective,
        counts: Any,  # noqa: ANN401 - likewise
    ) -> tuple[Tensor, Tensor]:
        """As `Pass` says; the outputs are the logits of the texts as they are.

        Raises ConfigError (D199) for an encoder whose embeddings cannot be moved.
        """
        assert isinstance(model, Classifier)
        if not isinstance(model.encoder, PackedEncoder):
            raise ConfigError(_unmovable())
        offset_TD = torch.zeros(
            batch.num_tokens, model.encoder.hidden_size, device=batch.ids_T.device, requires_grad=True
        )
        logits_BL = model(batch, offset_TD=offset_TD)
        with no_autocast(logits_BL.device):
            plain = objective.loss(logits_BL, targets, counts) / 2
            plain.backward()  # type: ignore[no-untyped-call]
        assert offset_TD.grad is not None
        moved_BL = model(batch, offset_TD=step_against(offset_TD.grad, batch, self._epsilon))
        with no_autocast(logits_BL.device):
            against = objective.loss(moved_BL, targets, counts) / 2
            against.backward()  # type: ignore[no-untyped-call]
        return plain.detach() + against.detach(), logits_BL.detach()


def step_against(gradient_TD: Tensor, batch: PackedBatch, epsilon: float) -> Tensor:
    """The gradient scaled to length `epsilon` text by text; 0 for a text whose gradient is 0."""
    # In float64, where squares of the smallest fp32 numbers are not yet 0.
    squares_T = gradient_TD.double().square().sum(dim=1)
    norms_B = squares_T.new_zeros(batch.num_texts).index_add_(0, batch.texts_T, squares_T).sqrt()
    scale_B = torch.where(norms_B > 0, epsilon / norms_B, norms_B)
    return (gradient_TD * scale_B[batch.texts_T][:, None]).to(gradient_TD.dtype)


def _unmovable() -> Finding:
    return Finding(
        "D199",
        "setting augmentation.adversarial",
        "the embeddings of this encoder cannot be moved",
        "a step above 0 for encoders in the layout of BERT, RoBERTa or XLM-RoBERTa",
        "leave augmentation.adversarial out, or choose another encoder, for example --encoder default",
    )
