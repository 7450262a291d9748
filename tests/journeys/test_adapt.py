"""`manylabel adapt` killed and started again, and in two processes."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def command(tmp_path, tiny_encoder):
    """The arguments of an adaptation of about 150 steps, which keeps a checkpoint every ten."""
    words = ("refund", "money", "late", "parcel", "thanks", "great", "please", "hello", "order", "the")
    documents = [
        " ".join(" ".join(words[(i * 7 + s + place) % 10] for place in range(6)) + "." for s in range(3))
        + f" {i}"
        for i in range(800)
    ]
    (tmp_path / "texts.txt").write_text("\n\n".join(documents))
    settings = {
        "training.precision": "fp32",
        "training.epochs": 3,
        "training.batch_size": 16,
        "text.max_length": 48,
        "checkpoints.steps": 10,
        "checkpoints.minutes": 0,
    }
    options = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    return [sys.executable, "-m", "manylabel", "adapt", str(tmp_path / "texts.txt"), "--encoder", str(tiny_encoder),
            "--quiet", *options]  # fmt: skip


def run(command, *more):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([*command, *more], capture_output=True, text=True, check=False, env=environment)


def test_a_killed_adaptation_goes_on_to_the_same_bytes(command, tmp_path):
    done = run(command, "--out", str(tmp_path / "whole"))
    assert done.returncode == 0, done.stderr
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    killed = subprocess.Popen([*command, "--out", str(tmp_path / "part")], env=environment)
    limit = time.monotonic() + 60
    while time.monotonic() < limit and not list(tmp_path.glob("part.run/checkpoints/step-*")):
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert list(tmp_path.glob("part.run/checkpoints/step-*"))
    assert not (tmp_path / "part").exists()
    done = run(command, "--out", str(tmp_path / "part"))
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert "model.safetensors" in names
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "part" / name).read_bytes(), name
    assert not (tmp_path / "part.run").exists()


def test_two_processes_find_what_one_finds(command, tmp_path):
    plain = ["--json", "--set", "model.dropout=0"]
    one = run(command, *plain, "--out", str(tmp_path / "one"))
    two = run(command, *plain, "--out", str(tmp_path / "two"), "--processes", "2")
    assert two.returncode == 0, two.stderr
    found, expected = json.loads(two.stdout)["after"], json.loads(one.stdout)["after"]
    assert found["masked_tokens"] == expected["masked_tokens"]
    # Sums in another order, 150 times through AdamW.
    assert found["masked_loss"] == pytest.approx(expected["masked_loss"], abs=1e-3)
