"""The script that plants trouble, on the shipped e-mails: what it plants, that it is found, and when it fails."""

import importlib.util
import random
import sys
from pathlib import Path

import numpy as np
import pytest

from manylabel.config.load import load_settings
from manylabel.data.words import normalized
from manylabel.training.observers import SilentObserver

REPOSITORY = Path(__file__).resolve().parents[2]
MAILS = REPOSITORY / "examples" / "customer_emails.csv"


@pytest.fixture(scope="module")
def script():
    path = REPOSITORY / "scripts" / "planted_trouble.py"
    spec = importlib.util.spec_from_file_location("planted_trouble", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def settings(tiny_encoder):
    values = {
        "model.encoder": str(tiny_encoder),
        "training.epochs": 1,
        "training.precision": "fp32",
        "text.max_length": 32,
    }
    return load_settings(None, [f"{name}={value}" for name, value in values.items()])


@pytest.fixture(scope="module")
def corpus(script):
    return script.load(MAILS)


def test_copies_are_what_they_say(script, corpus):
    kinds = list(script.planted_copies(corpus, 40, 20, random.Random(3)).values())
    texts = set(corpus.texts)
    keys = set(map(normalized, corpus.texts))
    assert all(text in texts for text in kinds[0])
    assert not any(text in texts for text in kinds[1])
    assert all(normalized(text) in keys for text in kinds[1])
    words = [text.split() for text in corpus.texts]
    for text in kinds[2]:
        own = text.split()
        changed = min(
            sum(a != b for a, b in zip(own, other, strict=True)) for other in words if len(other) == len(own)
        )
        assert changed in {1, 2}
        assert len(own) >= 20


def test_planted_copies_are_found(script, corpus, settings, tmp_path):
    lines = script.find_copies(corpus, tmp_path, settings, count=60, min_words=10)
    assert [str(line) for line in lines if line.failed] == []
    assert [line.planted for line in lines if line.must is not None] == [60] * 6
    assert [line.found for line in lines if line.must is None] == [0, 0]


def test_labels_that_cannot_be_learned_are_named(script, corpus, settings, tmp_path):
    lines = script.find_labels(corpus, tmp_path, settings)
    assert [str(line) for line in lines if line.failed] == []
    assert len(lines) == 6


def test_flipped_labels(script, corpus, settings, tmp_path):
    wrong, flipped_NL = script.flip_labels(corpus, 40)
    assert flipped_NL.sum() == 40
    assert np.array_equal(wrong.targets_NL != corpus.targets_NL, flipped_NL)
    assert (wrong.targets_NL[flipped_NL] == 1).sum() == 20
    assert flipped_NL.any(axis=1).sum() == 40
    small = corpus.select(np.arange(150))
    told = script.flips_report(
        small, settings, count=8, folds=2, work_folder=tmp_path / "folds", observer=SilentObserver()
    )
    assert told[0].startswith(f"8 flipped labels among {150 * len(corpus.labels):,}")


def test_flips_are_found_far_above_chance_by_the_baseline(script, corpus, settings):
    wrong, flipped_NL = script.flip_labels(corpus, 40)
    probabilities_NL = script.baseline_out_of_fold(wrong, settings, 5)
    suspected = script.find_label_errors(wrong, probabilities_NL).suspected[:80]
    hits = sum(flipped_NL[cell.row, wrong.labels.names.index(cell.label)] for cell in suspected)
    by_chance = 40 * 80 / flipped_NL.size
    assert hits > 10 * by_chance


def test_a_line_fails_where_too_few_are_found(script):
    assert script.Line("x", 100, 94, 0.95).failed
    assert not script.Line("x", 100, 95, 0.95).failed
    assert not script.Line("x", 100, 0).failed
