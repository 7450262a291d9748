"""The story of a run with what it can be told: recipes, stopping and going on, a disk that is too small."""

import shutil
from collections import namedtuple

import pytest

from manylabel.config.load import load_settings
from manylabel.digest import sha256_of
from manylabel.errors import TrainingStopped, UsageError
from manylabel.inference.load import load_model
from manylabel.recipes.train import Job, train_model
from manylabel.training.observers import SilentObserver

pytestmark = pytest.mark.slow  # trains or scores with real models throughout


class Watch(SilentObserver):
    """Keeps what was told; asks to stop after `last` steps."""

    def __init__(self, last=None):
        self.last, self.stages, self.steps = last, [], []

    def stage(self, text):
        self.stages.append(text)

    def step(self, step):
        self.steps.append(step.step)

    def should_stop(self):
        return self.last is not None and len(self.steps) >= self.last


@pytest.fixture
def train(tiny_mails, tiny_encoder, tmp_path):
    def run(name="model", *, last=None, fresh=False, **overrides):
        values = {
            "model.encoder": str(tiny_encoder),
            "training.epochs": 3,
            "training.learning_rate": 1e-3,
            "training.precision": "fp32",
            "text.max_length": 64,
            **{key.replace("__", "."): value for key, value in overrides.items()},
        }
        watch = Watch(last)
        job = Job(tiny_mails, tmp_path / name, fresh=fresh)
        settings = load_settings(None, typed=values)
        report = train_model(job, settings=settings, observer=watch, should_stop=watch.should_stop)
        return report, watch

    return run


def hashes(folder):
    return {path.name: sha256_of(path) for path in folder.iterdir()}


@pytest.mark.parametrize(
    "options",
    [
        {"lora__rank": 4, "training__learning_rate": 1e-2},
        {"loss__kind": "asymmetric"},
        {"loss__kind": "distribution_balanced", "training__schedule": "cosine"},
        {"training__ema_decay": 0.9, "training__layer_decay": 0.8},
        {"training__gradual_unfreezing": True, "training__gradient_checkpointing": True},
    ],
    ids=lambda options: next(iter(options)),
)
def test_every_recipe_gives_a_model_like_any_other(train, options):
    plain, _ = train("plain")
    report, watch = train("model", **options)
    model, other = load_model(report.folder), load_model(plain.folder)
    shapes = [{n: t.shape for n, t in m.bundle.classifier.state_dict().items()} for m in (model, other)]
    assert shapes[0] == shapes[1]
    assert hashes(report.folder)["model.safetensors"] != hashes(plain.folder)["model.safetensors"]
    assert watch.steps == list(range(1, len(watch.steps) + 1))


@pytest.mark.parametrize("options", [{}, {"lora__rank": 4}, {"training__precision": "bf16"}], ids=str)
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(train, tmp_path, options):
    whole, expected = train("whole", **options)
    for last in (1, 4):
        with pytest.raises(TrainingStopped, match="the same command goes on"):
            train("parts", last=last, **options)
    assert not (tmp_path / "parts").exists()
    report, watch = train("parts", **options)
    assert watch.steps == expected.steps[5:]
    assert any("Going on from step 5" in stage for stage in watch.stages)
    assert hashes(report.folder) == hashes(whole.folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts", "whole"]


def test_another_run_in_the_folder_is_refused_unless_fresh(train, tmp_path):
    with pytest.raises(TrainingStopped):
        train(last=2)
    with pytest.raises(UsageError, match=r"training\.epochs.*4 now, 3 in that run"):
        train(training__epochs=4)
    report, watch = train(training__epochs=4, fresh=True)
    assert watch.steps[0] == 1
    assert report.outcome.steps == len(watch.steps)
    assert not (tmp_path / "model.run").exists()


def test_a_run_goes_on_with_the_same_translations_only(tiny_mails, tiny_encoder, tmp_path):
    lines = tiny_mails.read_text(encoding="utf-8").splitlines()
    values = {
        "model.encoder": str(tiny_encoder),
        "training.epochs": 1,
        "text.max_length": 64,
        "data.translation_columns": ["other"],
        "augmentation.translations": 1.0,
    }
    settings = load_settings(None, typed=values)
    source, watch = tmp_path / "mails.csv", Watch(last=2)

    def train_with(translation):
        rows = [f"{line},{translation} {number}" for number, line in enumerate(lines[1:])]
        source.write_text("\n".join([f"{lines[0]},other", *rows]), encoding="utf-8")
        job = Job(source, tmp_path / "model")
        train_model(job, settings=settings, observer=watch, should_stop=watch.should_stop)

    with pytest.raises(TrainingStopped):
        train_with("please give my money back")
    with pytest.raises(UsageError, match="translations"):
        train_with("the parcel is late")


def test_what_a_step_does_not_depend_on_may_change(train):
    with pytest.raises(TrainingStopped):
        train(last=2)
    _, watch = train(checkpoints__minutes=1, inference__token_budget=512)
    assert watch.steps[0] == 3


def test_a_damaged_checkpoint_is_passed_over_and_told(train, tmp_path):
    with pytest.raises(TrainingStopped):
        train(last=4, checkpoints__steps=1)
    state = tmp_path / "model.run" / "checkpoints" / "step-00000004" / "state.safetensors"
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    _, watch = train(checkpoints__steps=1)
    assert watch.steps[0] == 4
    assert any("falling back to step 3" in stage for stage in watch.stages)


def test_a_run_is_estimated_and_a_disk_too_small_refused_before_the_first_step(train, tmp_path, monkeypatch):
    _, watch = train("first")
    assert any("estimate: about" in stage and "of memory" in stage for stage in watch.stages)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 5, 5))
    with pytest.raises(UsageError, match="U222"):
        train("second")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first"]
