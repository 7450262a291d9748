"""The straight line by hand, and the same numbers through every way in."""

import csv
import json
import random
import subprocess
import sys

import numpy as np
import pytest

import manylabel
from manylabel.config.schema import DataSettings
from manylabel.data.corpus import load_corpus
from manylabel.inference.backends.torch_backend import TorchBackend
from manylabel.inference.load import load_model
from manylabel.recipes.predict import predict_file
from manylabel.text.buckets import plan_batches
from manylabel.text.pack import pack

pytestmark = pytest.mark.slow  # trains or scores with real models throughout

WORDS = (
    "refund",
    "late",
    "parcel",
    "courier",
    "thanks",
    "great",
    "money",
    "paid",
    "hello",
    "order",
    "you",
    "never",
)


@pytest.fixture(scope="module")
def texts():
    choose = random.Random(11)
    some = [" ".join(choose.choices(WORDS, k=choose.randint(1, 60))) for _ in range(1991)]
    return [*some, "", "  ", 'quotes " and, commas', "two\nlines", "emoji 😀", "NA", "null", "001", "[SEP]"]


@pytest.fixture(scope="module")
def expected(tiny_model, texts):
    return manylabel.load(tiny_model).predict(texts).probabilities_BL


def test_one_text_by_hand(tiny_model, tiny_mails):
    loaded = load_model(tiny_model)
    bundle = loaded.bundle
    corpus = load_corpus(tiny_mails, DataSettings()).corpus  # 1 read, 2 check
    encodings = bundle.tokenizer.encode(corpus.texts[:1])  # 3
    batches = plan_batches(encodings.lengths_N, 1024)  # 4
    batch = pack(encodings, batches[0])  # 5
    import torch

    logits_BL = TorchBackend(bundle.classifier, dtype=torch.float32).logits(batch)  # 6
    probabilities_BL = bundle.calibration.apply(logits_BL)  # 7
    decisions_BL = bundle.thresholds.decide(probabilities_BL)  # 8
    predictions = loaded.predictor.predict(corpus.texts[:1])  # 9 composes 3 to 8
    assert np.array_equal(predictions.probabilities_BL, probabilities_BL)
    assert np.array_equal(predictions.decisions_BL, decisions_BL)


def test_one_by_one_equals_bulk(tiny_model, texts, expected):
    model = manylabel.load(tiny_model)
    single = np.concatenate([model.predict([text]).probabilities_BL for text in texts])
    assert np.abs(single - expected).max() <= 1e-6


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz", ".jsonl.zst"])
@pytest.mark.parametrize("out_suffix", [".csv", ".jsonl", ".parquet"])
def test_files_equal_python(tiny_model, texts, expected, tmp_path, suffix, out_suffix):
    import pyarrow as pa

    from manylabel.data.read import read_table
    from manylabel.data.write import open_writer

    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{out_suffix}"
    kept = [text.replace("\n", " ") for text in texts] if suffix == ".tsv" else texts
    with open_writer(source, source) as writer:
        writer.write(pa.table({"id": [f"r{i}" for i in range(len(kept))], "text": kept}))
    assert predict_file(load_model(tiny_model), source, target, options=DataSettings()).rows == len(texts)
    table = read_table(target, DataSettings())
    assert table["id"].to_pylist() == [f"r{i}" for i in range(len(texts))]
    columns = [np.array(table[f"p_{name}"].to_pylist(), float) for name in ("refund", "delivery", "praise")]
    assert np.abs(np.stack(columns, axis=1) - expected).max() <= 1e-6


def test_command_line_equals_python(tiny_model, texts, expected, tmp_path):
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    with source.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts)])
    run = [sys.executable, "-m", "manylabel", "predict", str(tiny_model)]
    subprocess.run(
        [*run, "--input", str(source), "--output", str(target), "--text-column", "text"], check=True
    )
    with target.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    got = np.array([[float(row[f"p_{name}"]) for name in ("refund", "delivery", "praise")] for row in rows])
    assert np.abs(got - expected).max() <= 1e-6
    shown = subprocess.run(
        [*run, "--json", "--", texts[0], texts[1]], check=True, capture_output=True, text=True
    )
    probabilities = [list(one["probabilities"].values()) for one in json.loads(shown.stdout)["predictions"]]
    assert np.abs(np.array(probabilities) - expected[:2]).max() <= 1e-6
