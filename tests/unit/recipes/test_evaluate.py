"""Rows of an evaluation that the model has seen: copies, and near copies by their sketches."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from manylabel.bundle import files
from manylabel.bundle.load import load_bundle
from manylabel.bundle.save import save_bundle
from manylabel.config.schema import DataSettings, EvaluationSettings
from manylabel.data.sketches import text_sketches
from manylabel.inference.load import load_model
from manylabel.recipes.evaluate import evaluate_model


class Told:
    """An observer that keeps what it is told."""

    def __init__(self):
        self.lines = []

    def stage(self, text):
        self.lines.append(text)


@pytest.fixture(scope="module")
def mails(tiny_mails):
    with tiny_mails.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def sketched(tiny_model, mails, tmp_path_factory):
    """The tiny model saved again with sketches of all e-mails, and loaded from there."""
    folder = tmp_path_factory.mktemp("sketched") / "model"
    sketches = text_sketches([mail["text"] for mail in mails])
    save_bundle(replace(load_bundle(tiny_model), seen_sketches=sketches), folder)
    return load_model(folder)


@pytest.fixture(scope="module")
def rows(mails, tmp_path_factory):
    """A file of 20 copies, 20 e-mails with one word more, and 20 new texts."""
    path = tmp_path_factory.mktemp("rows") / "test.csv"
    long = [mail for mail in mails if len(mail["text"].split()) >= 15][:40]
    assert len(long) == 40
    texts = [mail["text"].upper() for mail in long[:20]]
    texts += [mail["text"] + " zebra" for mail in long[20:]]
    texts += [" ".join(f"new{row}x{word}" for word in range(12)) for row in range(20)]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "refund", "delivery", "praise"])
        writer.writerows([text, row % 2, 1, 0] for row, text in enumerate(texts))
    return path


def test_near_copies_are_counted_and_left_out_as_at_training(sketched, rows):
    told = Told()
    seen = sketched.bundle.seen_texts
    figures = evaluate_model(sketched, rows, options=DataSettings(), observer=told).to_json()
    assert figures["rows"] == 60
    copies = figures["rows_seen_in_training"] - 20
    assert 0 < copies <= 20  # Those of the test rows are none of the training's.
    assert figures["without_seen_rows"]["rows"] == 40 - copies
    line = f"  leak audit: of 60 rows {copies} are copies of rows that made the model, 20 more nearly so"
    assert line in told.lines
    assert figures["seen_in_training"] == {"exact": 0, "normalised": copies, "near": 20}
    assert sum(figures["roles"].values()) == copies
    assert figures["roles"]["calibration"]
    assert "calibration and thresholds" in figures["chosen_on"]
    assert len(seen) < 120


def test_what_is_concluded_beside_the_baseline_is_repeated_without_these_rows(sketched, rows):
    settings = EvaluationSettings(resamples=60)
    figures = evaluate_model(
        sketched, rows, options=DataSettings(), observer=Told(), settings=settings
    ).to_json()
    unseen = figures["without_seen_rows"]
    against = unseen["against_baseline"]
    assert against["figures"]["macro/f1"]["b"] == pytest.approx(unseen["macro"]["f1"])
    assert against["figures"]["macro/f1"]["a"] == pytest.approx(unseen["baseline"]["macro"]["f1"])
    assert against["conclusion"]
    assert figures["against_baseline"]["figures"]["macro/f1"]["b"] == pytest.approx(figures["macro"]["f1"])
    quick = settings.model_copy(update={"resamples": 0})
    plain = evaluate_model(sketched, rows, options=DataSettings(), observer=Told(), settings=quick).to_json()
    assert "against_baseline" not in plain["without_seen_rows"]


def test_a_model_without_sketches_finds_copies_only(sketched, rows):
    told = Told()
    older = replace(sketched, bundle=replace(sketched.bundle, seen_sketches=None))
    figures = evaluate_model(older, rows, options=DataSettings(), observer=told).to_json()
    assert 0 < figures["rows_seen_in_training"] <= 20
    assert any(
        line.endswith(" are copies of rows that made the model, 0 more nearly so") for line in told.lines
    )


def test_sketches_are_saved_loaded_and_told_in_the_card(sketched, tiny_model, mails, tmp_path):
    assert np.array_equal(sketched.bundle.seen_sketches, text_sketches([mail["text"] for mail in mails]))
    save_bundle(sketched.bundle, tmp_path / "again")
    card = (tmp_path / "again" / files.CARD).read_text()
    assert "near copies of the longer ones" in card
    assert "find short texts by guessing" in card
    save_bundle(replace(sketched.bundle, seen_sketches=None), tmp_path / "without")
    assert load_bundle(tmp_path / "without").seen_sketches is None
    assert "near copies" not in (tmp_path / "without" / files.CARD).read_text()
