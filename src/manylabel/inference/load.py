"""From a folder to a predictor that has proved itself; called by the Python interface and every command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from manylabel.bundle.contents import Bundle
from manylabel.bundle.ensemble import NetworkModel
from manylabel.bundle.load import load_bundle
from manylabel.config.schema import Precision
from manylabel.inference.backends.torch_backend import TorchBackend
from manylabel.inference.ensemble import EnsembleScorer, ScoredNetwork
from manylabel.inference.predictor import Predictor
from manylabel.inference.scorer import Scorer, SingleScorer
from manylabel.modeling.precision import choose_device, resolve_precision


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A verified bundle and a predictor over it; `probe_difference` is the largest deviation of the golden probes."""

    bundle: Bundle
    predictor: Predictor
    probe_difference: float


def build_predictor(bundle: Bundle, *, precision: Precision) -> Predictor:
    """A predictor over the bundle's weights, on the best device; an ensemble's weights are there once."""
    return Predictor(
        _scorer(bundle, precision),
        bundle.thresholds,
        takes_pairs=bundle.takes_pairs,
        calibration=bundle.calibration,
        zones=bundle.zones,
    )


def _scorer(bundle: Bundle, precision: Precision) -> Scorer:
    budget = bundle.settings.inference.token_budget
    if isinstance(bundle.model, NetworkModel):
        backend = _backend(bundle.model, precision)
        return SingleScorer(backend, bundle.model.tokenizer, token_budget=budget)
    models = {
        model.name: ScoredNetwork(_backend(model, precision), model.tokenizer)
        if isinstance(model, NetworkModel)
        else model
        for model in bundle.model.models
    }
    return EnsembleScorer(models, bundle.model.components, bundle.model.blend, token_budget=budget)


def _backend(network: NetworkModel, precision: Precision) -> TorchBackend:
    device = choose_device()
    return TorchBackend(network.classifier.to(device).eval(), dtype=resolve_precision(precision, device))


def load_model(folder: Path | str, *, precision: Precision | None = None) -> LoadedModel:
    """Load and verify the model in `folder`; `precision` overrides the one it was saved with.

    Raises BundleError when a hash or a golden probe (always computed in fp32) does not hold.
    """
    folder = Path(folder)
    bundle = load_bundle(folder)
    exact = build_predictor(bundle, precision="fp32")
    difference = bundle.probes.check(
        exact.probabilities, bundle.labels, takes_pairs=bundle.takes_pairs, place=str(folder)
    )
    chosen = precision or bundle.settings.inference.precision
    predictor = exact if chosen == "fp32" else build_predictor(bundle, precision=chosen)
    return LoadedModel(bundle, predictor, difference)
