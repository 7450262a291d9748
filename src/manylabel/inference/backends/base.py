"""What the predictor needs of an engine; the torch engine is beside this file."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from manylabel.values import Batch


class Backend(Protocol):
    """Computes logits of packed batches; holds the weights."""

    def logits(self, batch: Batch) -> npt.NDArray[np.float32]:
        """logits_BL of the texts of `batch`, in their order."""
        ...
