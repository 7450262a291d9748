"""Several trained models that answer as one, as values; written by save.py, read by load.py, run by inference.

How a recipe saves an ensemble (the same call as for one network):

    models = (NetworkModel("minilm-0", classifier, encoder_config, tokenizer), ..., LinearModel("words", fitted))
    components = (Component("minilm", ("minilm-0", "minilm-1")), Component("words", ("words",)))
    bundle = Bundle(model=Ensemble(models, components, blend), thresholds=..., layout=..., ...)
    predictor = build_predictor(bundle, precision="fp32")     # inference/load.py
    probes = Probes.record(predictor.probabilities, bundle.labels, takes_pairs=bundle.takes_pairs)
    save_bundle(replace(bundle, probes=probes), out)

A component is what the blend weighs: the mean of its models' probabilities (the fold models of one recipe, say), each
model reading the text in the component's view. `Bundle.probes` may be `Probes({})` until they are recorded. A linear
model reads a pair as `data.pairs.joined` joins it, in training as in prediction.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import logit

from manylabel.decisions.blend import Blend
from manylabel.evaluation.baseline import LinearBaseline
from manylabel.evaluation.nb_linear import NbLinear
from manylabel.modeling.classifier import Classifier, HeadName
from manylabel.text.tokenizer import TextTokenizer
from manylabel.text.views import HEAD, VIEWS, translation_column

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
"""Names of models are names of folders, on every system."""
SMALLEST_PROBABILITY = 1e-12
"""A linear model is sure of a label that its training rows had in one class only; a logit has to stay finite."""


@dataclass(frozen=True, eq=False)
class NetworkModel:
    """An encoder with its head, and what a text becomes before it; `name` matters in an ensemble only."""

    name: str
    classifier: Classifier
    encoder_config: Mapping[str, Any]
    tokenizer: TextTokenizer

    @property
    def head(self) -> HeadName:
        """The head as the setting `model.head` names it."""
        return self.classifier.head_name

    @property
    def num_labels(self) -> int:
        """L."""
        return self.classifier.num_labels


@dataclass(frozen=True, eq=False)
class LinearModel:
    """A linear model on counts of words; it has no tokenizer and no length limit."""

    name: str
    model: LinearBaseline | NbLinear

    @property
    def num_labels(self) -> int:
        """L."""
        return len(self.model.labels)

    def logits(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """logits_NL, finite; what is fitted for an ensemble out of fold is scored by this too."""
        if isinstance(self.model, NbLinear):
            return self.model.logits(texts)
        probabilities_NL = self.model.probabilities(texts)
        clipped_NL = np.clip(probabilities_NL, SMALLEST_PROBABILITY, 1.0 - SMALLEST_PROBABILITY)
        logits_NL: npt.NDArray[np.float32] = logit(clipped_NL).astype(np.float32)
        return logits_NL


@dataclass(frozen=True)
class Component:
    """What a blend weighs: the mean of the probabilities of `models`, which read the text in one `view`.

    `view` is a name of `text.views`: "head", "tail", "middle", "raw", "folded" or "translation:COLUMN".
    """

    name: str
    models: tuple[str, ...]
    view: str = HEAD

    def __post_init__(self) -> None:
        if not self.models or len(set(self.models)) != len(self.models):
            raise ValueError(f'component "{self.name}" must name at least one model, each once')
        if self.view not in VIEWS and not translation_column(self.view):
            raise ValueError(f'there is no view "{self.view}"')


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Trained models, how they form components, and how a blend makes one logit a label of the components' logits.

    A model may be part of several components, in several views; it is stored and loaded once. The order of models and
    of components changes no number. Raises ValueError for names that repeat, cannot be folders or are not used, and
    for parts that disagree on the labels.
    """

    models: tuple[NetworkModel | LinearModel, ...]
    components: tuple[Component, ...]
    blend: Blend

    def __post_init__(self) -> None:
        names = tuple(model.name for model in self.models)
        if bad := [name for name in names if not NAME_PATTERN.fullmatch(name)]:
            raise ValueError(f"a model's name must match {NAME_PATTERN.pattern}, not {bad[0]!r}")
        # Folders on some systems do not tell upper from lower case.
        if len({name.lower() for name in names}) != len(names):
            raise ValueError("names of models must differ by more than upper and lower case")
        if set(names) != {name for component in self.components for name in component.models}:
            raise ValueError("components must use every model, and no other")
        of_components = [component.name for component in self.components]
        if sorted(of_components) != sorted(self.blend.components):
            raise ValueError("the blend must weigh these components, each once")
        for model in self.models:
            if model.num_labels != len(self.blend.labels):
                raise ValueError(f'model "{model.name}" has another number of labels than the blend')
            if isinstance(model, LinearModel) and tuple(model.model.labels) != tuple(self.blend.labels):
                raise ValueError(f'model "{model.name}" has other labels than the blend')

    @property
    def networks(self) -> tuple[NetworkModel, ...]:
        """The models with a tokenizer, by name."""
        found = (model for model in self.models if isinstance(model, NetworkModel))
        return tuple(sorted(found, key=lambda model: model.name))

    @property
    def max_length(self) -> int | None:
        """Tokens that every network reads; None without networks."""
        return min((network.tokenizer.max_length for network in self.networks), default=None)

    def network(self, name: str) -> NetworkModel | None:
        """The network of this name; None where there is none."""
        return next((network for network in self.networks if network.name == name), None)


def translation_columns(components: Iterable[Component]) -> tuple[str, ...]:
    """Columns that the components read instead of the text, each once, by name."""
    columns = {translation_column(component.view) for component in components}
    return tuple(sorted(column for column in columns if column is not None))
