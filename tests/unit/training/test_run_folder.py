"""One training a folder, one run a folder, and nobody else's files touched."""

import errno
import json
import os
import platform
import signal
import subprocess
import sys
import time

import pytest
import torch

from manylabel.errors import UsageError
from manylabel.training import folder_lock, run_folder
from manylabel.training.checkpoints import Checkpoint, CheckpointStore
from manylabel.training.folder_lock import Owner, this_process
from manylabel.training.run_folder import RunFolder

pytestmark = pytest.mark.slow  # many seconds together

NOBODY = 999_999_999
"""No process has this number: Linux ends at 4,194,304."""
IDENTITY = {
    "training.epochs": 3,
    "training.learning_rate": 3e-5,
    "data.train": "ab" * 32,
    "lora.rank": None,
    "x": True,
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.run"


@pytest.fixture(params=["system lock", "process number"])
def kind_of_lock(request, monkeypatch):
    """Both ways to lock."""
    if request.param == "process number":
        monkeypatch.setattr(folder_lock, "fcntl", None)
    elif folder_lock.fcntl is None:
        pytest.skip("this system has no file locks")


def save(run, step):
    return CheckpointStore(run.checkpoints, keep=2).save(Checkpoint(step, {"w": torch.ones(3)}, {}))


def refusal(path):
    with pytest.raises(UsageError) as refused, RunFolder(path):
        pass
    return refused.value.findings[0]


def write_lock(path, **changes):
    path.mkdir(exist_ok=True)
    content = {"pid": NOBODY, "host": platform.node(), "started": "2026-01-01", "begun": None, **changes}
    (path / "lock.json").write_text(json.dumps(content))


# ----------------------------------------------------------------------------------------------------- the lock


HOLDER = """
import sys, time
from pathlib import Path
from manylabel.training import folder_lock, run_folder
from manylabel.training.run_folder import RunFolder

if sys.argv[2] == "without":
    folder_lock.fcntl = None
with RunFolder(Path(sys.argv[1])) as run:
    run.open({"a": 1}, fresh=False)
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("way", ["with", "without"])
def test_a_second_training_is_refused_at_once_and_the_lock_of_a_killed_one_is_taken_over(
    path, monkeypatch, way
):
    if way == "without":
        monkeypatch.setattr(folder_lock, "fcntl", None)
    command = [sys.executable, "-c", HOLDER, path, way]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        began = time.monotonic()
        finding = refusal(path)
        assert time.monotonic() - began < 1
        assert finding.code == "U220"
        assert f"process {holder.pid} on {platform.node()}" in finding.found
        holder.send_signal(signal.SIGKILL)
    assert (path / "lock.json").exists()
    with RunFolder(path) as run:
        assert json.loads((path / "lock.json").read_text())["pid"] == os.getpid()
        assert run.open({"a": 1}, fresh=False) == "continued"
    assert os.listdir(path) == ["run.json"]


def test_the_same_process_is_refused_too_and_the_lock_ends_with_the_block(path, kind_of_lock):
    with RunFolder(path):
        assert str(os.getpid()) in refusal(path).found
        assert json.loads((path / "lock.json").read_text())["pid"] == os.getpid()
    with pytest.raises(ZeroDivisionError), RunFolder(path):
        1 / 0  # noqa: B018
    with RunFolder(path):
        pass
    assert not path.exists()


@pytest.mark.parametrize("content", [{}, {"pid": os.getpid(), "begun": "another boot/17"}])
def test_the_lock_of_a_process_that_is_gone_is_taken_over(path, kind_of_lock, content):
    """The second one has the number of a process that runs, but began at another time."""
    write_lock(path, **content)
    with RunFolder(path):
        assert json.loads((path / "lock.json").read_text())["begun"] == this_process().begun


@pytest.mark.skipif(this_process().begun is None, reason="the system does not tell when a process began")
def test_a_used_again_process_number_is_known_by_when_it_began():
    now = this_process()
    assert not now.is_gone()
    assert Owner(now.pid, now.host, now.started, "earlier").is_gone()
    assert not Owner(now.pid, now.host, now.started, None).is_gone()
    assert Owner(NOBODY, now.host, now.started, now.begun).is_gone()
    assert not Owner(NOBODY, "another-host", now.started, now.begun).is_gone()


def test_without_a_system_lock_another_machine_is_believed_and_the_file_to_remove_is_named(path, monkeypatch):
    monkeypatch.setattr(folder_lock, "fcntl", None)
    write_lock(path, host="another-host")
    finding = refusal(path)
    assert f"process {NOBODY} on another-host" in finding.found
    assert "remove lock.json" in finding.next_step


def test_without_a_system_lock_an_unreadable_lock_is_not_taken_over(path, monkeypatch):
    monkeypatch.setattr(folder_lock, "fcntl", None)
    path.mkdir()
    (path / "lock.json").write_text("")
    began = time.monotonic()
    assert "remove lock.json" in refusal(path).next_step
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_falls_back_to_the_process_number(path, monkeypatch, number):
    def refuse(descriptor, operation):
        raise OSError(number, "no locks")

    if folder_lock.fcntl is None:
        pytest.skip("this system has no file locks")
    monkeypatch.setattr(folder_lock.fcntl, "flock", refuse)
    write_lock(path)
    with RunFolder(path):
        assert str(os.getpid()) in refusal(path).found
    assert not path.exists()


FORKED = """
import os, sys, time
from pathlib import Path
from manylabel.training.run_folder import RunFolder

with RunFolder(Path(sys.argv[1])) as run:
    run.open({}, fresh=False)
    if not os.fork():
        os.close(1)
        time.sleep(60)
    else:
        print("held", flush=True)
        time.sleep(60)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_outlives_the_training_does_not_keep_its_lock(path):
    command = [sys.executable, "-c", FORKED, path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            holder.kill()
            holder.wait()
            with RunFolder(path) as run:
                assert run.open({}, fresh=False) == "continued"
        finally:
            os.killpg(holder.pid, signal.SIGKILL)


def test_a_place_that_takes_no_folder_is_a_usage_error(tmp_path):
    (tmp_path / "file").write_text("")
    assert refusal(tmp_path / "file").code == "U221"
    assert refusal(tmp_path / "file" / "below").code == "U221"


# ------------------------------------------------------------------------------------------------- the identity


def test_a_run_is_new_then_continued(path):
    with RunFolder(path) as run:
        assert run.open(IDENTITY, fresh=False) == "new"
        save(run, 10)
    with RunFolder(path) as run:
        assert run.open(dict(reversed(IDENTITY.items())), fresh=False) == "continued"
        assert CheckpointStore(run.checkpoints, keep=2).steps() == (10,)


@pytest.mark.parametrize("value", [4, 3.0, "3", None, True])
def test_a_run_of_another_identity_is_refused_with_both_values(path, value):
    with RunFolder(path) as run:
        run.open(IDENTITY, fresh=False)
        save(run, 10)
        before = (path / "run.json").read_bytes()
        with pytest.raises(UsageError) as refused:
            run.open({**IDENTITY, "training.epochs": value}, fresh=False)
        assert CheckpointStore(run.checkpoints, keep=2).steps() == (10,)
    first, second = refused.value.findings
    assert "differs from this one in 1 thing" in first.found
    assert "the same data and settings to go on, or --fresh to discard that run" in first.next_step
    assert second.place == "training.epochs"
    now = "not set" if value is None else json.dumps(value)
    assert second.found == f"{now} now, 3 in that run"
    assert (path / "run.json").read_bytes() == before


def test_fingerprints_that_differ_are_said_in_words(path):
    with RunFolder(path) as run:
        run.open({"train rows": "0123456789abcdef"}, fresh=False)
        with pytest.raises(UsageError) as refused:
            run.open({"train rows": "fedcba9876543210"}, fresh=False)
    _, second = refused.value.findings
    assert (second.place, second.found) == ("train rows", "not the same now as in that run")


def test_at_most_eight_differences_are_listed(path):
    with RunFolder(path) as run:
        run.open({f"setting.{i:02d}": i for i in range(12)}, fresh=False)
        with pytest.raises(UsageError) as refused:
            run.open({"setting.00": 0, "new": "x" * 500}, fresh=False)
    first, *others = refused.value.findings
    assert "in 12 things (4 of them not listed)" in first.found
    assert len(others) == 8
    assert others[0].found == '"' + "x" * 56 + "... now, not set in that run"
    assert (others[1].place, others[1].found) == ("setting.01", "not set now, 1 in that run")


def test_a_disk_that_does_not_take_the_identity_is_a_usage_error(path, monkeypatch):
    def full(target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_folder, "published_file", full)
    with RunFolder(path) as run, pytest.raises(UsageError, match="No space left on device"):
        run.open(IDENTITY, fresh=False)
    assert not path.exists()


def test_fresh_discards_the_former_run(path):
    with RunFolder(path, own_files=("steps.jsonl",)) as run:
        run.open(IDENTITY, fresh=False)
        save(run, 10)
        (path / "steps.jsonl").write_text("")
        assert run.open({"other": 1}, fresh=True) == "new"
        assert sorted(os.listdir(path)) == ["lock.json", "run.json"]
        assert run.open({"other": 1}, fresh=False) == "continued"


def test_a_crash_while_discarding_never_gives_old_checkpoints_to_a_new_run(path, monkeypatch):
    with RunFolder(path) as run:
        run.open(IDENTITY, fresh=False)
        save(run, 10)
        save(run, 20)
        discard = CheckpointStore._discard

        def cut(store, step):
            if step == 10:
                raise KeyboardInterrupt
            discard(store, step)

        with monkeypatch.context() as patch:
            patch.setattr(CheckpointStore, "_discard", cut)
            with pytest.raises(KeyboardInterrupt):
                run.open({"other": 1}, fresh=True)
        with pytest.raises(UsageError):
            run.open({"other": 1}, fresh=False)
        assert run.open(IDENTITY, fresh=False) == "continued"


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format_version": 1}', "\xff", '{"format_version": 1, "identity": 3}']
)
def test_an_identity_that_cannot_be_read_is_refused_with_a_way_out(path, content):
    path.mkdir()
    (path / "run.json").write_text(content, encoding="latin-1")
    with RunFolder(path) as run:
        with pytest.raises(UsageError, match="--fresh to discard that run"):
            run.open(IDENTITY, fresh=False)
        assert run.open(IDENTITY, fresh=True) == "new"


def test_a_run_of_another_format_is_refused(path):
    path.mkdir()
    (path / "run.json").write_text('{"format_version": 2, "identity": {}}')
    with RunFolder(path) as run, pytest.raises(UsageError, match="format version 2"):
        run.open({}, fresh=False)


def test_checkpoints_that_nobody_knows_are_refused_not_mixed_in(path):
    with RunFolder(path) as run:
        save(run, 10)
        with pytest.raises(UsageError, match=r"checkpoints without run\.json"):
            run.open(IDENTITY, fresh=False)
        assert run.open(IDENTITY, fresh=True) == "new"
        assert CheckpointStore(run.checkpoints, keep=1).steps() == ()


@pytest.mark.parametrize("identity", [{"a": float("nan")}, {"a": float("inf")}])
def test_values_without_an_equal_are_refused(path, identity):
    with RunFolder(path) as run, pytest.raises(ValueError, match="a of a run's identity"):
        run.open(identity, fresh=False)


def test_only_plain_values_identify_a_run(path):
    with RunFolder(path) as run, pytest.raises(TypeError, match="a of a run's identity is a list"):
        run.open({"a": [1]}, fresh=False)


def test_the_folder_must_be_held(path):
    run = RunFolder(path)
    with pytest.raises(RuntimeError):
        run.open({}, fresh=False)
    with pytest.raises(RuntimeError):
        run.remove()


# ------------------------------------------------------------------------------------------- files of others


FOREIGN = [
    "notes.txt",
    "checkpoints/notes.txt",
    "checkpoints/step-00000010/notes.txt",
    "checkpoints/step-10/x",
]


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("begun", [True, False])
def test_a_folder_with_files_of_others_is_neither_taken_nor_discarded(path, name, begun):
    with RunFolder(path) as run:
        if begun:
            run.open(IDENTITY, fresh=False)
            save(run, 10)
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("mine")
        before = sorted(str(place) for place in path.rglob("*"))
        for fresh in (True, False)[: 1 if begun else 2]:
            with pytest.raises(UsageError, match="which no training wrote") as refused:
                run.open({"other": 1}, fresh=fresh)
            assert name.removesuffix("/x") in str(refused.value)
        assert sorted(str(place) for place in path.rglob("*")) == before
        if begun:
            assert run.open(IDENTITY, fresh=False) == "continued"
    assert (path / name).read_text() == "mine"


def test_a_file_called_checkpoints_is_foreign(path):
    path.mkdir()
    (path / "checkpoints").write_text("mine")
    with (
        RunFolder(path) as run,
        pytest.raises(UsageError, match="it holds checkpoints, which no training wrote"),
    ):
        run.open({}, fresh=True)


def test_remove_leaves_nothing_of_ours(path):
    with RunFolder(path, own_files=("steps.jsonl",)) as run:
        run.open(IDENTITY, fresh=False)
        save(run, 10)
        (path / "steps.jsonl").write_text("")
        (path / f".writing-host-{NOBODY}-run.json").write_text("")
        run.remove()
    assert not path.exists()


@pytest.mark.parametrize("name", FOREIGN[:3])
def test_remove_leaves_files_of_others(path, name):
    with RunFolder(path) as run:
        run.open(IDENTITY, fresh=False)
        save(run, 10)
        (path / name).write_text("mine")
        run.remove()
    assert (path / name).read_text() == "mine"
    assert not (path / "run.json").exists()
    assert not (path / "lock.json").exists()


def test_what_was_left_half_written_goes_whoever_left_it(path):
    with RunFolder(path) as run:
        run.open(IDENTITY, fresh=False)
        saved = save(run, 10)
        half = saved.with_name(f".writing-step-00000020-another-host-{os.getpid()}")
        half.mkdir()
        (half / "state.json").write_text("{}")
        (path / f".writing-another_host-{NOBODY}-run.json").write_text("")
    with RunFolder(path) as run:
        assert run.open(IDENTITY, fresh=False) == "continued"
    assert sorted(os.listdir(path)) == ["checkpoints", "run.json"]
    assert os.listdir(path / "checkpoints") == ["step-00000010"]
