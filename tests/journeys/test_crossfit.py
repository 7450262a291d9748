"""`manylabel crossfit` as a process that is killed with SIGKILL again and again, and goes on to the same bytes."""

import os
import signal
import subprocess
import sys
import time

import pytest

from manylabel.inference.load import load_model

pytestmark = pytest.mark.slow


def command(source, out, encoder, *more):
    options = {
        "training.epochs": 12,
        "training.batch_size": 4,
        "training.patience": 0,
        "training.precision": "fp32",
        "text.max_length": 48,
        "evaluation.resamples": 20,
        "checkpoints.steps": 3,
    }
    sets = [part for name, value in options.items() for part in ("--set", f"{name}={value}")]
    given = ["--folds", "2", "--seeds", "1,2", "--encoder", str(encoder), *sets, *more]
    return [sys.executable, "-m", "manylabel", "crossfit", str(source), "--out", str(out), *given]


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_killed_at_any_moment_the_same_command_ends_with_the_same_bytes(tiny_mails, tiny_encoder, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole, killed = tmp_path / "whole" / "model", tmp_path / "killed" / "model"
    whole.parent.mkdir()
    killed.parent.mkdir()
    told = subprocess.run(
        command(tiny_mails, whole, tiny_encoder), env=environment, check=True, capture_output=True, text=True
    )
    assert "blend: stacked" in told.stdout
    work, deaths = killed.parent / "model.crossfit", 0
    began = time.monotonic()

    def moments():
        """What is on the disk: folds, checkpoints, half-written files."""
        # os.walk passes over folders that are removed meanwhile.
        return {os.path.join(place, name) for place, _, names in os.walk(work) for name in names}

    while not killed.exists() and time.monotonic() - began < 200:
        before = moments()
        process = subprocess.Popen(
            command(tiny_mails, killed, tiny_encoder),
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # After a few new files; more each time, so that every attempt gets further.
        while process.poll() is None and len(moments() - before) <= 2 * deaths:
            time.sleep(0.01)
        if process.poll() is None and deaths < 4:
            process.send_signal(signal.SIGKILL)
            deaths += 1
        process.wait()
    assert deaths >= 3
    assert files_of(whole) == files_of(killed)
    load_model(killed)
    assert sorted(path.name for path in killed.parent.iterdir()) == sorted(
        path.name for path in whole.parent.iterdir()
    )
    assert (killed.parent / "model.oof.parquet").read_bytes() == (
        whole.parent / "model.oof.parquet"
    ).read_bytes()


def test_ctrl_c_says_where_the_state_is_and_that_the_command_goes_on(tiny_mails, tiny_encoder, tmp_path):
    out, environment = tmp_path / "model", {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command(tiny_mails, out, tiny_encoder),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not list(tmp_path.glob("model.crossfit/*-s1-f1.safetensors")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "T310" in told
    assert "model.crossfit" in told
    assert "the same command goes on" in " ".join(told.split())
