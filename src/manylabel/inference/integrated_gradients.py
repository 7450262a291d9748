"""Integrated gradients at the word embedding (Sundararajan et al. 2017), by captum; called by `explain`.

The embedding's output is moved on a straight line from the baseline's to the text's, and the gradient of a label's
logit along that line is integrated by Gauss-Legendre. The copies of the text that this takes lie side by side as a
packed batch, so the same code serves the packed encoder and those of transformers.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from manylabel.errors import Finding, UsageError
from manylabel.modeling.auto_encoder import TransformersEncoder
from manylabel.modeling.classifier import Classifier
from manylabel.modeling.packed import PackedBatch, to_device
from manylabel.text.words import TokenizedWords
from manylabel.values import Batch

TOKENS_PER_PASS = 1024
"""Tokens of all copies that are computed together. BERT base keeps about 1 MB a token for the way back."""
USE_OCCLUSION = "use --method occlusion"


class EmbeddedForward:
    """Logits as a function of word embeddings: the classifier, with the output of its word embedding replaced."""

    def __init__(self, classifier: Classifier, text: TokenizedWords) -> None:
        """Take a classifier in evaluation mode where it is. Raises UsageError without a word embedding."""
        self._classifier, self._text = classifier, text
        self._layer = word_embedding(classifier)
        self._device = next(classifier.parameters()).device

    def embed(self, ids_T: npt.NDArray[np.int32]) -> Tensor:
        """Word embeddings [1, T, D] of token ids."""
        with torch.no_grad():
            return self._plain(torch.from_numpy(ids_T.astype(np.int64)).to(self._device))[None]

    def __call__(self, embedded_BTD: Tensor) -> Tensor:
        """Logits [B, L] of B copies of the text whose word embeddings are `embedded_BTD`."""

        def replace(layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:  # noqa: ANN401 - as torch calls it
            return embedded_BTD.reshape(output.shape)

        hook = self._layer.register_forward_hook(replace)
        try:
            logits_BL: Tensor = self._classifier(self._copies(len(embedded_BTD)))
        finally:
            hook.remove()
        return logits_BL

    def _plain(self, ids_T: Tensor) -> Tensor:
        embedded_TD: Tensor = self._layer(ids_T)
        return embedded_TD

    def _copies(self, num_copies: int) -> PackedBatch:
        length = len(self._text.ids_T)
        batch = Batch(
            ids_T=np.tile(self._text.ids_T, num_copies).astype(np.int64),
            segments_T=np.tile(self._text.segments_T, num_copies).astype(np.int64),
            positions_T=np.tile(np.arange(length, dtype=np.int64), num_copies),
            starts_B1=np.arange(num_copies + 1, dtype=np.int64) * length,
        )
        return to_device(batch, self._device)


def integrated_gradients(
    classifier: Classifier, text: TokenizedWords, *, label: int, steps: int
) -> npt.NDArray[np.float64]:
    """What each of T tokens adds to the logit of column `label`, in fp32 on the classifier's device.

    The sum over tokens comes the nearer to logit(text) - logit(baseline) the more `steps` there are. Special tokens
    are the same in both and get exactly 0. Raises UsageError without captum or a word embedding.
    """
    method = _captum()
    forward = EmbeddedForward(classifier, text)
    with _frozen(classifier):
        attributed: Tensor = method(forward).attribute(
            forward.embed(text.ids_T),
            baselines=forward.embed(text.masked_T),
            target=label,
            n_steps=steps,
            method="gausslegendre",
            internal_batch_size=max(1, TOKENS_PER_PASS // len(text.ids_T)),
        )
    result: npt.NDArray[np.float64] = attributed[0].detach().double().sum(-1).cpu().numpy()
    return result


def word_embedding(classifier: Classifier) -> nn.Module:
    """The layer that turns token ids into vectors; raises UsageError where an architecture has none to name."""
    encoder = classifier.encoder
    if not isinstance(encoder, TransformersEncoder):
        return encoder.embeddings.word
    try:
        layer = encoder.model.get_input_embeddings()
    except NotImplementedError:
        layer = None
    if not isinstance(layer, nn.Module):
        found = f"{type(encoder.model).__name__} does not name its word embedding"
        raise UsageError(Finding("U261", "manylabel explain", found, "", USE_OCCLUSION))
    return layer


@contextmanager
def _frozen(classifier: Classifier) -> Iterator[None]:
    """No gradients of weights, which nobody asks for here: less memory and less time."""
    thawed = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    try:
        for parameter in thawed:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in thawed:
            parameter.requires_grad_(True)


def _captum() -> Any:  # noqa: ANN401 - captum has no types
    """Captum's IntegratedGradients; its import brings matplotlib, whose remarks about its folders help nobody here."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from captum.attr import IntegratedGradients
    except ImportError as error:
        next_step = f"pip install 'manylabel[explain]', or {USE_OCCLUSION}"
        raise UsageError(Finding("U260", "captum", "not installed", next_step=next_step)) from error
    finally:
        logger.setLevel(level)
    return IntegratedGradients
