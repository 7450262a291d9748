"""What a bundle holds, as values; written by save.py, read by load.py, used by inference and recipes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel.bundle.ensemble import Ensemble, NetworkModel
from manylabel.bundle.manifest import Provenance
from manylabel.bundle.probes import Probes
from manylabel.config.schema import RunSettings
from manylabel.data.layout import Layout
from manylabel.data.sketches import Sketches
from manylabel.decisions.abstain import Zones
from manylabel.decisions.calibration import Calibration
from manylabel.decisions.thresholds import Thresholds
from manylabel.errors import Finding, UsageError, counted
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
    figures. `model` is one network or an ensemble; see `ensemble` for how a bundle with one is made.
    """

    model: NetworkModel | Ensemble
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

    @property
    def classifier(self) -> Classifier:
        """The network; raises UsageError for an ensemble, as the next two do."""
        return self._network().classifier

    @property
    def encoder_config(self) -> Mapping[str, Any]:
        """The encoder's config.json, under the encoder's own model type."""
        return self._network().encoder_config

    @property
    def tokenizer(self) -> TextTokenizer:
        """What turns texts into tokens."""
        return self._network().tokenizer

    @property
    def max_length(self) -> int | None:
        """Tokens of a text that are read, in an ensemble by every network; None where nothing reads tokens."""
        if isinstance(self.model, Ensemble):
            return self.model.max_length
        return self.model.tokenizer.max_length

    def of_network(self, member: str | None = None) -> Bundle:
        """This bundle where it holds one network, or that network of an ensemble which is named `member`.

        A network of an ensemble is neither calibrated nor has zones or figures of its own, and the thresholds are
        the ensemble's. Raises UsageError for an ensemble without `member`, for a name that is none of its networks,
        and for a name where there is one network.
        """
        if not isinstance(self.model, Ensemble):
            if member is not None:
                found, step = "the model is one network and has no members", "leave --member out"
                raise UsageError(Finding("B423", "--member", found, next_step=step))
            return self
        names = [network.name for network in self.model.networks]
        if member is None:
            raise UsageError(_is_ensemble(self.model, names))
        network = self.model.network(member)
        if network is None and any(member == model.name for model in self.model.models):
            found = f"{member!r} is a linear model, which is not a network"
            raise UsageError(
                Finding("B422", "--member", found, ", ".join(names) or "none", "choose a network")
            )
        if network is None:
            near = get_close_matches(member, names, n=1)
            step = f"did you mean {near[0]!r}?" if near else "choose one of them"
            found = f"the ensemble has no network {member!r}"
            raise UsageError(Finding("B422", "--member", found, ", ".join(names) or "none", step))
        return replace(self, model=network, calibration=None, zones=None, evaluation=None, report=None)

    def _network(self) -> NetworkModel:
        model = self.of_network().model
        assert isinstance(model, NetworkModel)
        return model


def _is_ensemble(ensemble: Ensemble, networks: list[str]) -> Finding:
    found = f"the model is an ensemble of {counted(len(ensemble.models), 'model')}"
    if not networks:
        return Finding(
            "B421", "model", f"{found}, none of them a network", "one network", "train one network"
        )
    return Finding("B421", "model", found, "one network",
                   f"name one of its networks with --member: {', '.join(networks)}")  # fmt: skip
