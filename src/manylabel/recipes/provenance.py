"""Where a model came from, for its manifest; called by recipes/train.py. No times: equal runs give equal bytes."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from manylabel import __version__
from manylabel.bundle.manifest import Provenance
from manylabel.config.schema import Precision, RunSettings
from manylabel.digest import sha256_of
from manylabel.modeling.native.library import level
from manylabel.modeling.precision import choose_device, resolve_precision
from manylabel.recipes.adapted_encoder import adaptation_facts
from manylabel.recipes.corpora import Corpora
from manylabel.training.loop import Outcome
from manylabel.values import Corpus

ENCODER_SUFFIXES = (".safetensors", ".json", ".txt", ".model")
LIBRARIES = ("torch", "tokenizers", "safetensors", "scikit-learn", "numpy", "pyarrow")


def describe_run(
    corpora: Corpora, outcome: Outcome, encoder_folder: Path, settings: RunSettings
) -> Provenance:
    """Data with fingerprints, those of an adapted encoder too, versions, its weights, the course of training.

    Equal bytes are promised for equal data, settings, versions and hardware facts named here.
    """
    parts = {**corpora.by_role, "test": corpora.test}
    adapted = adaptation_facts(encoder_folder)
    return Provenance(
        data={
            name: {"source": corpus.source, "rows": len(corpus), "sha256": corpus_fingerprint(corpus)}
            for name, corpus in parts.items()
            if corpus is not None
        }
        | ({} if adapted is None else {"texts of the encoder": adapted}),
        versions=describe_versions(),
        hardware=describe_hardware(settings),
        encoder_sha256=encoder_fingerprint(encoder_folder),
        training={
            "ending": outcome.ending,
            "steps": outcome.steps,
            "best step": outcome.best_step,
            "best validation macro average precision": outcome.best_score,
        },
    )


def describe_versions() -> dict[str, str]:
    """This program, Python and the libraries that decide the bytes of a model."""
    libraries = {library: version(library) for library in LIBRARIES}
    return {"manylabel": __version__, "python": platform.python_version(), **libraries}


def describe_hardware(settings: RunSettings) -> dict[str, str]:
    """What the last digits of weights depend on."""
    device = choose_device()
    return {
        "device": device.type,
        "training precision": str(resolve_precision(settings.training.precision, device))[6:],
        "threads": str(torch.get_num_threads()),
        "kernels": _kernels(device),
    }


def describe_engine(precision: Precision, device: torch.device) -> dict[str, str | int | float | bool | None]:
    """What decides the last digits of a training beside data and settings: a run goes on only where it is the same."""
    return {
        "device": device.type,
        "number format": str(resolve_precision(precision, device)),
        "kernels": _kernels(device),
        "manylabel": __version__,
    }


def _kernels(device: torch.device) -> str:
    """The C++ kernels that take part."""
    return level() if device.type == "cpu" else "none"


def corpus_fingerprint(corpus: Corpus) -> str:
    """SHA-256 over labels, texts, pairs and targets in order."""
    digest = hashlib.sha256()
    columns = (corpus.labels.names, corpus.texts, corpus.pairs or ())
    for column in columns:
        for text in column:
            encoded = text.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
        digest.update(b"column ends")
    digest.update(corpus.targets_NL.astype("int8").tobytes())
    return digest.hexdigest()


def folder_fingerprint(folder: Path) -> str:
    """SHA-256 over the hashes of everything an encoder is made of: weights, configuration, tokenizer."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.suffix in ENCODER_SUFFIXES):
        digest.update(f"{path.name} {sha256_of(path)}".encode())
    return digest.hexdigest()


def encoder_fingerprint(folder: Path) -> str:
    """SHA-256 over the hashes of the encoder's weight files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(sha256_of(path).encode())
    return digest.hexdigest()
