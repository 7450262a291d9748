"""Figures from few rows: no row's label takes part in a choice about it."""

from dataclasses import replace

import numpy as np
import pytest

from manylabel.bundle.load import load_bundle
from manylabel.config.load import load_settings
from manylabel.config.schema import DataSettings
from manylabel.data.corpus import load_corpus
from manylabel.errors import ConfigError, UsageError
from manylabel.inference.load import load_model
from manylabel.recipes.cross_fit import cross_fitted, out_of_fold_baseline
from manylabel.recipes.evaluate import judge_rows
from manylabel.recipes.folds import OutOfFold
from manylabel.recipes.train import Job, train_model
from manylabel.training.observers import SilentObserver

SETTINGS = load_settings(None, ["evaluation.resamples=50"])


@pytest.fixture(scope="module")
def rows(tiny_mails):
    return load_corpus(tiny_mails, DataSettings()).corpus


@pytest.fixture(scope="module")
def folded(rows):
    generator = np.random.default_rng(5)
    logits_NL = (2.0 * rows.targets_NL - 1.0 + generator.normal(size=rows.targets_NL.shape)).astype(
        np.float32
    )
    return OutOfFold(logits_NL, np.arange(len(rows)) % 4)


def scored(rows, folded, predictor):
    of_baseline_NL = out_of_fold_baseline(rows, folded.fold_N, SETTINGS, observer=SilentObserver())
    return cross_fitted(folded, rows, predictor, SETTINGS, of_baseline_NL=of_baseline_NL)


def test_labels_of_a_fold_decide_nothing_about_its_rows(tiny_model, rows, folded):
    predictor = load_model(tiny_model).predictor
    before = scored(rows, folded, predictor)
    held_N = folded.fold_N == 2
    targets_NL = rows.targets_NL.copy()
    targets_NL[held_N] = 1 - targets_NL[held_N]
    after = scored(replace(rows, targets_NL=targets_NL), folded, predictor)
    # Not the baseline's decisions: the models that scored the other folds were trained on these labels.
    for name in ("probabilities_NL", "decisions_NL", "of_baseline_NL"):
        first, second = getattr(before, name), getattr(after, name)
        assert np.array_equal(first[held_N], second[held_N]), name
    assert not np.array_equal(before.probabilities_NL[~held_N], after.probabilities_NL[~held_N])


def test_figures_are_those_of_the_decisions_out_of_fold(tiny_model, rows, folded):
    predictor = load_model(tiny_model).predictor
    found = scored(rows, folded, predictor)
    figures = judge_rows(
        found, seen=None, roles={}, settings=SETTINGS.evaluation, observer=SilentObserver()
    ).evaluation
    expected = (found.decisions_NL == (rows.targets_NL == 1)).mean()
    assert figures.accuracy == pytest.approx(expected)
    # The intervals are of the same decisions, and not of those that the model's own thresholds would make.
    low, high = figures.intervals["overall"]["accuracy"]
    assert low <= expected <= high


def test_training_with_folds_holds_no_rows_out_and_judges_all(tiny_mails, tiny_encoder, tmp_path):
    values = ["training.epochs=2", "training.learning_rate=0.001", "training.precision=fp32"]
    settings = load_settings(
        None, [*values, "text.max_length=64", f"model.encoder={tiny_encoder}", "evaluation.resamples=50"]
    )
    job = Job(tiny_mails, tmp_path / "model", folds=3)
    report = train_model(job, settings=settings, observer=SilentObserver())
    assert report.evaluation["out_of_fold"] == 3
    assert report.evaluation["rows"] == 120
    assert "one of 3 fold models that had not seen it" in report.evaluation["chosen_on"]
    card = (tmp_path / "model" / "README.md").read_text()
    assert "## Figures out of fold" in card
    assert "Figures on the test rows" not in card
    data = load_bundle(tmp_path / "model").provenance.data
    assert set(data) == {"train", "validation"}
    assert data["train"]["rows"] + data["validation"]["rows"] == 120
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_folds_and_calibration_rows_contradict_each_other(tiny_mails, tiny_encoder, tmp_path):
    job = Job(tiny_mails, tmp_path / "model", folds=3, calibration=tiny_mails)
    with pytest.raises(UsageError, match="--folds"):
        train_model(
            job, settings=load_settings(None, [f"model.encoder={tiny_encoder}"]), observer=SilentObserver()
        )


@pytest.mark.parametrize("method", ["beta", "isotonic"])
def test_maps_that_transformers_cannot_have_are_refused_for_cls_before_training(
    method, tiny_mails, tiny_encoder, tmp_path
):
    settings = load_settings(
        None, ["model.head=cls", f"decisions.calibration={method}", f"model.encoder={tiny_encoder}"]
    )
    with pytest.raises(ConfigError, match="C245"):
        train_model(Job(tiny_mails, tmp_path / "model"), settings=settings, observer=SilentObserver())


def test_a_training_without_folds_leaves_files_of_that_name_alone(
    tiny_mails, tiny_encoder, train_tiny, tmp_path
):
    (tmp_path / "model.folds").write_text("mine")
    train_tiny(tiny_mails, tiny_encoder, tmp_path / "model", training__epochs=1, evaluation__resamples=0)
    assert (tmp_path / "model.folds").read_text() == "mine"
