"""From a folder to a predictor that has proved itself; called by the Python interface and every command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from manylabel.bundle.contents import Bundle
from manylabel.bundle.load import load_bundle
from manylabel.config.schema import Precision
from manylabel.inference.backends.torch_backend import TorchBackend
from manylabel.inference.predictor import Predictor
from manylabel.modeling.precision import choose_device, resolve_precision


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A verified bundle and a predictor over it; `probe_difference` is the largest deviation of the golden probes."""

    bundle: Bundle
    predictor: Predictor
    probe_difference: float


def build_predictor(bundle: Bundle, *, precision: Precision) -> Predictor:
    """A predictor over the bundle's weights, on the best device."""
    device = choose_device()
    backend = TorchBackend(bundle.classifier.to(device).eval(), dtype=resolve_precision(precision, device))
    budget = bundle.settings.inference.token_budget
    return Predictor(
        backend,
        bundle.tokenizer,
        bundle.thresholds,
        token_budget=budget,
        takes_pairs=bundle.takes_pairs,
        calibration=bundle.calibration,
        zones=bundle.zones,
    )


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
