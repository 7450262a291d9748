"""A bundle as a plain transformers folder; called by `manylabel export`."""

from __future__ import annotations

import shutil
from pathlib import Path

from manylabel.bundle import files
from manylabel.bundle.files import published_folder
from manylabel.errors import Finding, UsageError
from manylabel.inference.load import load_model
from manylabel.modeling.weights.hugging_face import loads_in_transformers

TRANSFORMERS_FILES = (files.CONFIG, files.WEIGHTS, files.TOKENIZER, files.TOKENIZER_CONFIG)


def export_to_transformers(model: Path, out: Path, *, overwrite: bool = False) -> None:
    """Write the four files that AutoModelForSequenceClassification reads, after verifying the model.

    Raises UsageError when transformers cannot represent the model, or `out` exists and `overwrite` is not set.
    """
    bundle = load_model(model).bundle
    if not loads_in_transformers(bundle.encoder_config, bundle.settings.model.head):
        raise UsageError(
            Finding(
                "U206",
                str(model),
                f'transformers has no place for the head "{bundle.settings.model.head}" on this encoder',
                "the head cls on a BERT, RoBERTa or XLM-RoBERTa encoder",
                "train again with --set model.head=cls, or load it with manylabel.load",
            )
        )
    if out.exists() and not overwrite:
        raise UsageError(
            Finding(
                "U201",
                str(out),
                "it exists already",
                "a new name",
                "choose another --out, or add --overwrite",
            )
        )
    with published_folder(out) as folder:
        for name in TRANSFORMERS_FILES:
            shutil.copyfile(model / name, folder / name)
