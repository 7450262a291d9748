"""One small run of benchmarks/augmentation.py, and its arithmetic."""

import importlib
import json
import shutil
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture
def augmentation(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("augmentation")


def test_every_way_that_can_be_tried_is_in_the_file_once(
    augmentation, tiny_mails, tiny_encoder, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "mails"
    folder.mkdir()
    for name in ("train", "dev", "test"):
        shutil.copy(tiny_mails, folder / f"{name}.csv")
    out = tmp_path / "out.json"
    monkeypatch.setattr("manylabel.recipes.augment.wordnet_synonyms", lambda: lambda word: ())
    options = [str(folder), "--rows", "60", "--seeds", "1", "--epochs", "1", "--out", str(out)]
    options += ["--set", f"model.encoder={json.dumps(str(tiny_encoder))}", "--set", "training.precision=fp32"]
    monkeypatch.setattr(sys, "argv", ["augmentation.py", *options])
    augmentation.main()
    stored = json.loads(out.read_text())
    names = [run["way"] for run in stored["runs"]]
    assert names == [way.name for way in augmentation.WAYS if way.name != "translations 1"]
    assert stored["training_rows"] == 60
    assert all(0 < run["average_precision"] <= 1 for run in stored["runs"])
    # Every way but synonyms, which have none here, makes another model than the same seed without it.
    scores = {run["way"]: run["average_precision"] for run in stored["runs"]}
    assert scores["synonyms 0.2"] == scores["none"]
    assert len(set(scores.values())) > 3
    assert "translations 1: left out, train.csv has no translation columns" in capsys.readouterr().out
    before = out.read_bytes()
    augmentation.main()
    assert out.read_bytes() == before


def test_gains_are_against_the_same_seed(augmentation):
    runs = [
        {"way": way, "seed": seed, "average_precision": value, "f1": value, "training_seconds": 2.0}
        for way, seed, value in [
            ("none", 1, 0.5),
            ("none", 2, 0.7),
            ("typos 0.05", 1, 0.6),
            ("typos 0.05", 2, 0.7),
        ]
    ]
    table = augmentation.table_of(runs)
    cells = [list(column.cells) for column in table.columns]
    assert cells[0] == ["none", "typos 0.05"]
    assert cells[1] == ["0.6000 ±0.1000", "0.6500 ±0.0500"]
    assert cells[3] == ["", "+0.0500 (+0.0000 to +0.1000)"]
