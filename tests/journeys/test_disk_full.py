"""A real file system of 64 MB that fills up while a training writes to it."""

import os
import shutil
import subprocess
from contextlib import suppress

import pytest

from manylabel.config.load import load_settings
from manylabel.errors import TrainingError, UsageError
from manylabel.inference.load import load_model
from manylabel.recipes.train import Job, train_model
from manylabel.training.checkpoints import CheckpointStore
from manylabel.training.observers import SilentObserver

pytestmark = pytest.mark.slow  # many seconds together

SIZE = 64 << 20


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


class Filler(SilentObserver):
    """Fills the disk after step `at`; the steps seen."""

    def __init__(self, path, at):
        self.path, self.at, self.steps = path, at, []

    def step(self, step):
        self.steps.append(step.step)
        if step.step == self.at:
            with suppress(OSError), self.path.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass


def train(small_disk, tiny_mails, tiny_encoder, observer):
    settings = load_settings(
        None,
        typed={
            "model.encoder": str(tiny_encoder),
            "training.epochs": 40,
            "training.patience": 0,
            "training.precision": "fp32",
            "text.max_length": 64,
            "checkpoints.steps": 1,
        },
    )
    return train_model(Job(tiny_mails, small_disk / "model"), settings=settings, observer=observer)


def test_a_disk_that_fills_up_stops_the_training_and_leaves_the_last_checkpoint(
    small_disk, tiny_mails, tiny_encoder
):
    filler = Filler(small_disk / "filler", at=10)
    with pytest.raises(TrainingError, match="T314") as caught:
        train(small_disk, tiny_mails, tiny_encoder, filler)
    message = str(caught.value)
    assert "bytes" in message
    assert "free" in message
    checkpoints = small_disk / "model.run" / "checkpoints"
    found = CheckpointStore(checkpoints, keep=2).newest()
    assert found.checkpoint is not None
    assert found.damaged == ()
    assert found.checkpoint.step in {9, 10}
    assert [name for name in os.listdir(checkpoints) if not name.startswith("step-")] == []
    assert not (small_disk / "model").exists()

    filler.path.unlink()
    again = Filler(small_disk / "filler", at=None)
    report = train(small_disk, tiny_mails, tiny_encoder, again)
    assert again.steps[0] == found.checkpoint.step + 1
    assert load_model(report.folder).bundle.labels == ("refund", "delivery", "praise")


@pytest.mark.encoder
def test_a_disk_that_is_too_small_is_refused_before_the_first_step(small_disk, tiny_mails):
    """The default encoder needs hundreds of megabytes for its checkpoints."""
    observer = Filler(small_disk / "filler", at=None)
    settings = load_settings(None, typed={"training.epochs": 1})
    with pytest.raises(UsageError, match="U222"):
        train_model(Job(tiny_mails, small_disk / "model"), settings=settings, observer=observer)
    assert observer.steps == []
    assert os.listdir(small_disk) == []
