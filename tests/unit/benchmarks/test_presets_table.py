"""The benchmark of presets: means over seeds and their differences, and one small run of the script."""

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from manylabel.config.schema import EvaluationSettings
from manylabel.evaluation.weighted import Judged
from manylabel.values import Corpus, LabelSet

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
SETTINGS = EvaluationSettings(resamples=200)


@pytest.fixture
def presets(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("presets")


@pytest.fixture
def corpus():
    choose = np.random.default_rng(5)
    targets_NL = (choose.random((120, 3)) < 0.3).astype(np.int8)
    ids = tuple(map(str, range(120)))
    return Corpus("made", ids, LabelSet(("a", "b", "c")), targets_NL, ids, np.arange(1, 121))


def run(presets, corpus, case, seed, *, noise):
    choose = np.random.default_rng(seed)
    probabilities_NL = np.clip(0.3 + 0.4 * corpus.targets_NL + noise * choose.normal(size=(120, 3)), 0.0, 1.0)
    judged = Judged(
        corpus.labels.names, corpus.targets_NL, probabilities_NL, probabilities_NL >= 0.5, (1.0, 1.0)
    )
    return presets.Run(case, seed, 1.0, 2.0, judged)


def test_a_case_is_the_mean_over_its_seeds_and_is_compared_row_by_row(presets, corpus):
    runs = [run(presets, corpus, "default", seed, noise=0.1) for seed in (1, 2)]
    runs += [run(presets, corpus, "ulmfit", seed, noise=0.5) for seed in (3, 4)]
    default, ulmfit = presets.measure(runs, corpus, SETTINGS)
    expected = np.mean(
        [average_precision_score(one.judged.targets_NL, one.judged.probabilities_NL) for one in runs[2:]]
    )
    figure, difference = ulmfit["macro"]["average_precision"], ulmfit["minus_default"]["average_precision"]
    assert figure["value"] == pytest.approx(expected, abs=1e-5)
    assert figure["interval"][0] < expected < figure["interval"][1]
    assert difference["value"] == pytest.approx(
        expected - default["macro"]["average_precision"]["value"], abs=2e-5
    )
    assert difference["interval"][1] < 0.0
    assert "minus_default" not in default
    assert ulmfit["settings"]["training.gradual_unfreezing"] is True


def test_equal_models_do_not_differ(presets, corpus):
    runs = [run(presets, corpus, case, 1, noise=0.3) for case in ("default", "article")]
    difference = presets.measure(runs, corpus, SETTINGS)[1]["minus_default"]["roc_auc"]
    assert difference == {"value": 0.0, "interval": [0.0, 0.0]}


def test_a_figure_that_is_undefined_is_null_and_shown_as_a_dash(presets, corpus):
    empty = replace(corpus, targets_NL=np.zeros_like(corpus.targets_NL))
    case = presets.measure([run(presets, empty, "default", 1, noise=0.3)], empty, SETTINGS)[0]
    assert case["macro"]["roc_auc"] == {"value": None, "interval": None}
    json.dumps(case, allow_nan=False)
    assert presets.shown(case["macro"]["roc_auc"]) == "-"
    assert presets.table_of([case]).row_count == 1


@pytest.mark.slow
def test_a_small_run_writes_the_table_and_is_not_made_twice(tmp_path, tiny_mails, tiny_encoder):
    command = [
        sys.executable,
        str(BENCHMARKS / "presets.py"),
        str(tiny_mails),
        "--encoder",
        str(tiny_encoder),
    ]
    command += ["--rows", "40", "--seeds", "2", "--resamples", "50", "--only", "default", "--only", "ulmfit"]
    command += ["--set", "text.max_length=32", "--set", "training.epochs=1", "--tag", "tiny"]
    command += ["--work", str(tmp_path / "work"), "--results", str(tmp_path / "results")]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr[-2000:]
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").iterdir()}
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.stdout == first.stdout
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "work").iterdir()} == kept
    (result,) = (tmp_path / "results").glob("*-presets-tiny-40.json")
    content = json.loads(result.read_text("utf-8"))
    assert [case["case"] for case in content["cases"]] == ["default", "ulmfit"]
    assert [len(case["by_seed"]) for case in content["cases"]] == [2, 2]
    assert str(tmp_path) not in result.read_text("utf-8")
