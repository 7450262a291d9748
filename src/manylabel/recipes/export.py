"""A bundle as a plain transformers folder; called by `manylabel export`."""

from __future__ import annotations

import shutil
from pathlib import Path

from manylabel.bundle import files
from manylabel.bundle.ensemble import NetworkModel
from manylabel.bundle.files import published_folder
from manylabel.bundle.model_files import NETWORK_FILES
from manylabel.errors import Finding, UsageError
from manylabel.inference.load import load_model
from manylabel.modeling.weights.hugging_face import loads_in_transformers


def export_to_transformers(model: Path, out: Path, *, member: str | None = None) -> None:
    """Write the four files that AutoModelForSequenceClassification reads as the new folder `out`, after verifying.

    Of an ensemble one network can be written, named by `member`. Raises UsageError when transformers cannot represent
    the model, an ensemble has no such network, `out` exists or lies in the model's folder.
    """
    _check_out(model, out)
    network = load_model(model).bundle.of_network(member).model
    assert isinstance(network, NetworkModel)
    if not loads_in_transformers(network.encoder_config, network.head):
        raise UsageError(
            Finding(
                "U206",
                str(model),
                f'transformers has no place for the head "{network.head}" on this encoder',
                "the head cls on a BERT, RoBERTa or XLM-RoBERTa encoder",
                "train again with --set model.head=cls, or load it with manylabel.load",
            )
        )
    source = model if member is None else model / files.MODELS / member
    with published_folder(out, overwrite=False) as folder:
        for name in NETWORK_FILES:
            shutil.copyfile(source / name, folder / name)


def _check_out(model: Path, out: Path) -> None:
    """An export never replaces anything, least of all the model it is made from."""
    place, source = out.resolve(), model.resolve()
    if source in (place, *place.parents):
        found = "the model's own folder" if place == source else "in the model's own folder"
        raise UsageError(Finding("U210", str(out), found, "another folder", "choose another --out"))
    if out.exists():
        raise UsageError(
            Finding("U201", str(out), "it exists already", "a new name", "choose another --out, or remove it")
        )
