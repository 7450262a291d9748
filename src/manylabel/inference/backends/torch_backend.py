"""The PyTorch engine: a classifier on a device in a precision; called by the predictor."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from manylabel.modeling.classifier import Classifier
from manylabel.modeling.packed import to_device
from manylabel.modeling.precision import autocast
from manylabel.values import Batch


class TorchBackend:
    """Logits by our own modules; on a CPU in fp32 equal to transformers to 1e-5."""

    def __init__(self, classifier: Classifier, *, dtype: torch.dtype) -> None:
        """Use `classifier` where it is; `dtype` is float32 or bfloat16."""
        self._classifier = classifier
        self._device = next(classifier.parameters()).device
        self._dtype = dtype

    def logits(self, batch: Batch) -> npt.NDArray[np.float32]:
        """logits_BL in float32."""
        with torch.inference_mode(), autocast(self._dtype, self._device):
            logits_BL = self._classifier(to_device(batch, self._device))
        result: npt.NDArray[np.float32] = logits_BL.float().cpu().numpy()
        return result
