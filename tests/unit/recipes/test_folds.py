"""Out-of-fold predictions: who sees what, going on after an interruption, equal bits, refusals."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from sklearn.metrics import roc_auc_score

from manylabel.config.load import load_settings
from manylabel.config.schema import DataSettings
from manylabel.data.corpus import load_corpus
from manylabel.errors import TrainingStopped, UsageError
from manylabel.recipes import fold_trainer as recipe
from manylabel.recipes.folds import forget_folds, out_of_fold
from manylabel.training.observers import SilentObserver

pytestmark = pytest.mark.slow  # trains or scores with real models throughout

FOLDS = 3


@pytest.fixture(autouse=True)
def one_thread(two_threads):
    """Networks so small are slower on two where cores are busy."""
    torch.set_num_threads(1)


class Listener(SilentObserver):
    def __init__(self):
        self.stages, self.steps = [], 0

    def stage(self, text):
        self.stages.append(text)

    def step(self, step):
        self.steps += 1


@pytest.fixture(scope="module")
def settings(tiny_encoder):
    values = {
        "model.encoder": str(tiny_encoder),
        "training.epochs": 5,
        "training.batch_size": 4,
        "training.patience": 0,
        "training.learning_rate": 0.003,
        "training.precision": "fp32",
        "text.max_length": 64,
    }
    return load_settings(None, [f"{name}={value}" for name, value in values.items()])


@pytest.fixture(scope="module")
def corpus(tiny_mails):
    return load_corpus(tiny_mails, DataSettings()).corpus


@pytest.fixture(scope="module")
def whole(corpus, settings, tmp_path_factory):
    """What three folds in one go give, and the folder they are kept in."""
    torch.set_num_threads(1)  # As in the tests; the last bits depend on it.
    folder = tmp_path_factory.mktemp("folds") / "work"
    listener = Listener()
    result = out_of_fold(corpus, settings, folds=FOLDS, observer=listener, work_folder=folder)
    return result, folder, listener


def test_each_row_is_scored_by_the_model_of_the_other_folds(corpus, settings, tmp_path, monkeypatch):
    seen = []
    real = recipe.Trainer

    def watching(classifier, data, **options):
        seen.append([set(data.ids)])
        return real(classifier, data, **options)

    real_score = recipe.validation_score

    def watching_score(backend, encodings, validation, **options):
        seen[-1].append(set(validation.ids))
        return real_score(backend, encodings, validation, **options)

    monkeypatch.setattr(recipe, "Trainer", watching)
    monkeypatch.setattr(recipe, "validation_score", watching_score)
    result = out_of_fold(
        corpus, settings, folds=FOLDS, observer=SilentObserver(), work_folder=tmp_path / "work"
    )
    assert len(seen) == FOLDS
    for fold, (train, selection) in enumerate(seen):
        held_out = {corpus.ids[row] for row in np.flatnonzero(result.fold_N == fold)}
        assert train | selection | held_out == set(corpus.ids)
        assert len(train) + len(selection) + len(held_out) == len(corpus)


def test_the_result_is_whole_and_better_than_chance(whole, corpus):
    result, _, listener = whole
    assert result.logits_NL.shape == corpus.targets_NL.shape
    assert np.isfinite(result.logits_NL).all()
    assert sorted(set(result.fold_N.tolist())) == list(range(FOLDS))
    # A random order has 0.5; the standard error with 120 rows is about 0.05.
    assert roc_auc_score(corpus.targets_NL == 1, result.probabilities_NL, average="macro") > 0.6
    assert [stage for stage in listener.stages if stage.startswith("Fold 2 of 3: training on ")]


def test_kept_folds_are_used_again(whole, corpus, settings):
    result, folder, _ = whole
    listener = Listener()
    again = out_of_fold(corpus, settings, folds=FOLDS, observer=listener, work_folder=folder)
    assert np.array_equal(again.logits_NL, result.logits_NL)
    assert listener.steps == 0


@pytest.mark.parametrize("when", ["between folds", "within a fold", "at once"])
def test_an_interrupted_call_goes_on_to_the_same_bits(whole, corpus, settings, tmp_path, when):
    result, _, complete = whole
    folder = tmp_path / "work"

    def should_stop():
        if when == "between folds":
            return (folder / "fold-1.safetensors").exists()
        return listener.steps >= complete.steps // 2

    class Killed(Listener):
        def step(self, step):
            super().step(step)
            if when == "at once" and self.steps >= complete.steps // 2:
                raise KeyboardInterrupt

    listener = Killed()
    asked = should_stop if when != "at once" else (lambda: False)
    with pytest.raises(TrainingStopped, match=r"1 finished fold of 3 kept there.*same command"):
        out_of_fold(corpus, settings, folds=FOLDS, observer=listener, work_folder=folder, should_stop=asked)
    assert sorted(path.name for path in folder.iterdir()) == ["fold-1.safetensors", "run.json"]
    (folder / ".writing-host-1-fold-2.safetensors").write_bytes(b"half")
    listener = Listener()
    again = out_of_fold(corpus, settings, folds=FOLDS, observer=listener, work_folder=folder)
    assert np.array_equal(again.logits_NL, result.logits_NL)
    assert 0 < listener.steps < complete.steps
    forget_folds(folder)
    assert not folder.exists()


def test_interrupted_before_a_fold_is_finished_nothing_is_left(corpus, settings, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        out_of_fold(
            corpus,
            settings,
            folds=FOLDS,
            observer=SilentObserver(),
            work_folder=tmp_path / "work",
            should_stop=lambda: True,
        )
    assert list(tmp_path.iterdir()) == []


def test_other_settings_are_refused_and_damaged_folds_made_again(whole, corpus, settings):
    result, folder, complete = whole
    other = load_settings(
        None, [f"model.encoder={settings.model.encoder}", "training.epochs=1", "text.max_length=64"]
    )
    with pytest.raises(UsageError, match=r"training\.epochs: 1 now, 5 in that run"):
        out_of_fold(corpus, other, folds=FOLDS, observer=SilentObserver(), work_folder=folder)
    path = folder / "fold-2.safetensors"
    whole_bytes = path.read_bytes()
    for damaged in (whole_bytes[:-8], b"", (folder / "fold-3.safetensors").read_bytes()):
        path.write_bytes(damaged)
        listener = Listener()
        again = out_of_fold(corpus, settings, folds=FOLDS, observer=listener, work_folder=folder)
        assert any("fold 2 of 3 is damaged" in stage for stage in listener.stages)
        assert np.array_equal(again.logits_NL, result.logits_NL)
        assert 0 < listener.steps < complete.steps
    assert path.read_bytes() == whole_bytes
    assert load_file(path)["logits_nL"].dtype == np.float32
