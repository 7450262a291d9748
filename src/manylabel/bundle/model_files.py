"""The files of a network, of a linear model and of an ensemble of both; written by save.py, read by load.py.

One network lies in the bundle's folder, in transformers' layout. An ensemble has ensemble.json there and each model in
a folder of its own, models/NAME: a network in the same four files, a linear model in linear.safetensors.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file as save_tensors

from manylabel.bundle import files
from manylabel.bundle.ensemble import NAME_PATTERN, Component, Ensemble, LinearModel, NetworkModel
from manylabel.bundle.manifest import RESTORE
from manylabel.bundle.model_type import from_saved, to_saved
from manylabel.decisions.blend import Blend
from manylabel.errors import BundleError, Finding
from manylabel.evaluation.baseline import LinearBaseline
from manylabel.evaluation.nb_linear import NbLinear
from manylabel.modeling.classifier import HeadName
from manylabel.modeling.weights.hugging_face import load_classifier, to_hugging_face
from manylabel.text.tokenizer import TextTokenizer

NETWORK_FILES = (files.CONFIG, files.WEIGHTS, files.TOKENIZER, files.TOKENIZER_CONFIG)
"""What transformers reads, in the order it is written."""
LINEAR_KINDS: dict[Literal["tfidf", "nb"], type[LinearBaseline] | type[NbLinear]] = {
    "tfidf": LinearBaseline,
    "nb": NbLinear,
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Model(_Part):
    """One model; `head` and `max_length` are those of a network."""

    name: str
    kind: Literal["network", "tfidf", "nb"]
    head: Literal["mean", "cls"] | None = None
    max_length: int | None = None


class _Component(_Part):
    name: str
    models: tuple[str, ...]
    view: str


class _Contents(_Part):
    """ensemble.json."""

    models: tuple[_Model, ...]
    components: tuple[_Component, ...]
    blend: dict[str, Any]


def write_network(network: NetworkModel, folder: Path, labels: tuple[str, ...]) -> None:
    """The part that transformers reads: config, weights, tokenizer."""
    config, weights = to_hugging_face(network.classifier, network.encoder_config, labels)
    write_json(folder / files.CONFIG, to_saved(config, head=network.head))
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(weights.items())}
    save_tensors(tensors, folder / files.WEIGHTS, metadata={"format": "pt"})
    (folder / files.TOKENIZER).write_text(network.tokenizer.to_json(), encoding="utf-8")
    write_json(folder / files.TOKENIZER_CONFIG, network.tokenizer.transformers_config())


def read_network(
    folder: Path, labels: tuple[str, ...], *, name: str, head: HeadName, max_length: int
) -> NetworkModel:
    """The way back; raises BundleError when the config has other labels, or weights that do not fit it."""
    config = from_saved(read_json(folder / files.CONFIG))
    id2label = {int(index): label for index, label in config["id2label"].items()}
    if labels != tuple(id2label[index] for index in sorted(id2label)):
        found = "config.json, decisions.json and manifest.json disagree on the labels"
        raise BundleError(Finding("B410", str(folder), found, next_step=RESTORE))
    weights = load_tensors(folder / files.WEIGHTS)
    classifier = load_classifier(config, weights, num_labels=len(labels), head=head)
    return NetworkModel(name, classifier, config, TextTokenizer.from_folder(folder, max_length=max_length))


def write_ensemble(ensemble: Ensemble, folder: Path) -> None:
    """Each model in a folder of its name, and how they answer as one."""
    for model in ensemble.models:
        place = folder / files.MODELS / model.name
        place.mkdir(parents=True)
        if isinstance(model, LinearModel):
            save_arrays(dict(sorted(model.model.to_arrays().items())), place / files.LINEAR)
        else:
            write_network(model, place, ensemble.blend.labels)
    contents = _Contents(
        models=tuple(map(_entry, ensemble.models)),
        components=tuple(
            _Component(name=each.name, models=each.models, view=each.view) for each in ensemble.components
        ),
        blend=ensemble.blend.to_json(),
    )
    write_json(folder / files.ENSEMBLE, contents.model_dump(mode="json", exclude_none=True))


def read_ensemble(folder: Path, labels: tuple[str, ...]) -> Ensemble:
    """The way back, one model after the other; raises BundleError for what does not fit together, by model."""
    path = folder / files.ENSEMBLE
    try:
        contents = _Contents.model_validate(read_json(path))
        blend = Blend.from_json(contents.blend)
        if blend.labels != labels:
            raise ValueError("it blends other labels than manifest.json names")
        models = tuple(_read_model(folder, entry, labels) for entry in contents.models)
        components = tuple(Component(each.name, each.models, each.view) for each in contents.components)
        return Ensemble(models, components, blend)
    except (ValueError, KeyError) as error:
        found = (
            "its parts do not fit together" if isinstance(error, ValidationError | KeyError) else str(error)
        )
        raise BundleError(Finding("B424", str(path), found, next_step=RESTORE)) from error


def _read_model(folder: Path, entry: _Model, labels: tuple[str, ...]) -> NetworkModel | LinearModel:
    place = folder / files.MODELS / entry.name
    expected = NETWORK_FILES if entry.kind == "network" else (files.LINEAR,)
    if not NAME_PATTERN.fullmatch(entry.name) or not all((place / name).is_file() for name in expected):
        raise ValueError(f"there is no model {entry.name!r} of the kind {entry.kind}")
    try:
        if entry.kind != "network":
            arrays = load_arrays(place / files.LINEAR)
            return LinearModel(entry.name, LINEAR_KINDS[entry.kind].from_arrays(arrays, labels))
        if entry.head is None or entry.max_length is None:
            raise ValueError(f'the network "{entry.name}" has no head or no length')
        return read_network(place, labels, name=entry.name, head=entry.head, max_length=entry.max_length)
    except BundleError as error:
        # What reads weights does not know whose they are.
        named = f"{files.MODELS}/{entry.name}"
        findings = (
            finding if named in finding.place else replace(finding, place=f"{place}, {finding.place}")
            for finding in error.findings
        )
        raise BundleError(*findings) from error


def _entry(model: NetworkModel | LinearModel) -> _Model:
    if isinstance(model, NetworkModel):
        return _Model(name=model.name, kind="network", head=model.head, max_length=model.tokenizer.max_length)
    kind: Literal["tfidf", "nb"] = "nb" if isinstance(model.model, NbLinear) else "tfidf"
    return _Model(name=model.name, kind=kind)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Two spaces deep, letters of every script as they are, nothing that is no number."""
    path.write_text(
        json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
