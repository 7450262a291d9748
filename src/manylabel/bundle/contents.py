"""What a bundle holds, as values; written by save.py, read by load.py, used by inference and recipes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel.bundle.manifest import Provenance
from manylabel.bundle.probes import Probes
from manylabel.config.schema import RunSettings
from manylabel.data.layout import Layout
from manylabel.data.sketches import Sketches
from manylabel.decisions.abstain import Zones
from manylabel.decisions.calibration import Calibration
from manylabel.decisions.thresholds import Thresholds
from manylabel.evaluation.baseline import LinearBaseline
from manylabel.modeling.classifier import Classifier
from manylabel.text.tokenizer import TextTokenizer


@dataclass(frozen=True, eq=False)
class FittedBaseline:
    """The linear model trained on the same rows, with thresholds from the same validation rows."""

    model: LinearBaseline
    thresholds: Thresholds


@dataclass(frozen=True, eq=False)
class Bundle:
    """A trained model with everything its figures and decisions depend on.

    `seen_texts` are sorted 64-bit fingerprints of the training and validation texts, so that an evaluation can
    say which of its rows the model has seen; the texts themselves are not stored. `seen_sketches`, uint8 [M, 128]
    of `data.sketches`, do the same for near copies; None in a model saved before there were any. `seen_parts` divides
    them: `identical` are fingerprints of all these texts as they are, before normalisation, `validation` and
    `calibration` normalised ones of the rows that chose something. Without `calibration` a probability is the logistic
    function of its logit. `zones` says what to send to a human; None where nothing is. `report` is the HTML page of the
    figures.
    """

    classifier: Classifier
    encoder_config: Mapping[str, Any]
    tokenizer: TextTokenizer
    thresholds: Thresholds
    layout: Layout
    settings: RunSettings
    provenance: Provenance
    seen_texts: npt.NDArray[np.uint64]
    baseline: FittedBaseline
    evaluation: Mapping[str, Any] | None
    probes: Probes
    seen_sketches: Sketches | None = None
    calibration: Calibration | None = None
    zones: Zones | None = None
    seen_parts: Mapping[str, npt.NDArray[np.uint64]] = field(default_factory=dict)
    report: str | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names in column order."""
        return self.thresholds.labels

    @property
    def takes_pairs(self) -> bool:
        """Whether the model was trained on text pairs."""
        return self.layout.pair_column is not None
