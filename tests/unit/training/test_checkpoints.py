"""What is published is whole, what is damaged is never used, and one good checkpoint is always there."""

import errno
import json
import math
import os
import platform
import random
import shutil
import subprocess
import sys
import threading

import pytest
import torch

from manylabel.errors import TrainingError, UsageError
from manylabel.training import checkpoint_files, checkpoints
from manylabel.training.checkpoints import (
    BackgroundWriter,
    Checkpoint,
    CheckpointStore,
    check_space,
    required_bytes,
)

pytestmark = pytest.mark.slow  # trains or scores with real models throughout

NOBODY = 999_999_999
"""No process has this number: Linux ends at 4,194,304."""
FILES = ("state.safetensors", "state.json", "manifest.json")


def checkpoint(step, *, size=500):
    generator = torch.Generator().manual_seed(step)
    tensors = {"weights": torch.randn(size, generator=generator), "step": torch.tensor(step)}
    return Checkpoint(step, tensors, {"step": step, "best": {"score": step / 7, "step": None}})


def assert_same(found, expected):
    assert (found.step, found.facts) == (expected.step, expected.facts)
    assert found.tensors.keys() == expected.tensors.keys()
    for name, tensor in expected.tensors.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert found.tensors[name].shape == tensor.shape
        assert bytes_of(found.tensors[name]) == bytes_of(tensor)


def bytes_of(tensor):
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "checkpoints", keep=2)


@pytest.fixture
def two(store):
    """A store with the checkpoints of steps 10 and 20."""
    store.save(checkpoint(10))
    store.save(checkpoint(20))
    return store


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


# ------------------------------------------------------------------------------------------- the way there and back


def test_every_number_format_and_shape_comes_back_bit_by_bit(store):
    tensors = {
        "nan with a payload": torch.tensor([0x7FC00123, 0x7F800000, -1], dtype=torch.int32).view(
            torch.float32
        ),
        "scalar": torch.tensor(2.5, dtype=torch.bfloat16),
        "empty": torch.empty(0, 3, dtype=torch.float64),
        "generator": torch.get_rng_state(),
        "counts": torch.tensor([[1, -(2**62)], [2**62, 0]]),
        "flags": torch.tensor([True, False, True]),
        "half": torch.randn(7).half(),
        "brain": torch.randn(3, 5).bfloat16(),
        "small": torch.arange(-3, 4, dtype=torch.int8),
        "short": torch.arange(5, dtype=torch.int16),
        "with gradient": torch.randn(4, requires_grad=True),
        "größe/∞": torch.randn(1),
    }
    saved = Checkpoint(3, tensors, {})
    store.save(saved)
    found = store.newest()
    assert found.damaged == ()
    assert_same(found.checkpoint, Checkpoint(3, {n: t.detach() for n, t in tensors.items()}, {}))


def test_the_tensors_are_a_file_that_safetensors_itself_reads(two, folder):
    from safetensors import safe_open

    with safe_open(folder / "step-00000020" / "state.safetensors", "pt") as file:
        assert sorted(file.keys()) == ["step", "weights"]
        assert torch.equal(file.get_tensor("weights"), checkpoint(20).tensors["weights"])


def test_loaded_tensors_do_not_depend_on_the_file(two, folder):
    found = two.newest().checkpoint
    path = folder / "step-00000020" / "state.safetensors"
    path.write_bytes(bytes(path.stat().st_size))
    assert_same(found, checkpoint(20))


def test_facts_come_back_as_they_were(store):
    facts = {
        "nothing": None, "flag": True, "one": 1, "one as a float": 1.0, "big": 2**128 + 1, "tenth": 0.1,
        "infinite": [math.inf, -math.inf], "text": "ä\ud800\n\"", "nested": {"a": [{"b": []}]},
    }  # fmt: skip
    store.save(Checkpoint(1, {}, {**facts, "nan": math.nan}))
    found = dict(store.newest().checkpoint.facts)
    assert math.isnan(found.pop("nan"))
    assert repr(found) == repr(dict(sorted(facts.items())))


@pytest.mark.parametrize(
    "facts", [{"a": (1, 2)}, {"a": {1: "b"}}, {"a": [torch.tensor(1)]}, {"a": b"bytes"}, {"a": {2}}, {1: 2}]
)
def test_facts_that_json_would_change_are_refused(facts):
    with pytest.raises(ValueError, match="facts"):
        Checkpoint(1, {}, facts)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(3, 4).T,
        torch.empty(2, device="meta"),
        torch.eye(3).to_sparse(),
        torch.zeros(2, dtype=torch.cfloat),
    ],
)
def test_tensors_that_cannot_be_written_are_refused_by_name(tensor):
    with pytest.raises(ValueError, match="tensor momentum of a checkpoint"):
        Checkpoint(1, {"momentum": tensor}, {})


def test_nothing_saved_is_nothing_found(store, folder):
    found = store.newest()
    assert (found.checkpoint, found.damaged, store.steps()) == (None, (), ())
    assert not folder.exists()


# ----------------------------------------------------------------------------------------- damage, file by file


def truncate(content):
    return content[: len(content) // 2]


def drop_last_byte(content):
    return content[:-1]


def zero_the_tail(content):
    kept = len(content) * 3 // 4
    return content[:kept] + bytes(len(content) - kept)


def flip_bit(position):
    def flip(content):
        index = int(position * (len(content) - 1))
        return content[:index] + bytes([content[index] ^ (1 << index % 8)]) + content[index + 1 :]

    flip.__name__ = f"flip_bit_at_{position}"
    return flip


def empty(content):
    return b""


def append(content):
    return content + b"\n"


DAMAGES = [
    truncate,
    drop_last_byte,
    zero_the_tail,
    *map(flip_bit, (0.0, 0.03, 0.2, 0.5, 0.77, 1.0)),
    empty,
    append,
]


def assert_falls_back(store, file):
    """Neither a store that knew the folder before nor a new one uses step 20."""
    found = store.newest()
    assert_same(found.checkpoint, checkpoint(10))
    (warning,) = found.damaged
    assert warning.severity == "warning"
    assert warning.place.endswith(os.path.join("step-00000020", file))
    assert warning.found.endswith("; falling back to step 10")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_changed_file_is_found_and_the_older_checkpoint_is_used(two, folder, file, damage):
    path = folder / "step-00000020" / file
    content = path.read_bytes()
    path.write_bytes(damage(content))
    assert path.read_bytes() != content
    assert_falls_back(two, file)


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_found(two, folder, file):
    (folder / "step-00000020" / file).unlink()
    assert_falls_back(two, file)
    assert "missing" in two.newest().damaged[0].found


@pytest.mark.parametrize("file", FILES)
def test_a_file_of_another_step_is_found(two, folder, file):
    """The files have equal sizes: only what is in them differs."""
    two_states = [folder / step / file for step in ("step-00000010", "step-00000020")]
    first, second = (path.read_bytes() for path in two_states)
    assert len(first) == len(second) or file == "state.json"
    two_states[1].write_bytes(first)
    assert_falls_back(two, "manifest.json" if file == "manifest.json" else file)


def test_two_folders_that_changed_places_are_both_found(two, folder):
    first, second, aside = folder / "step-00000010", folder / "step-00000020", folder / "aside"
    first.rename(aside)
    second.rename(first)
    aside.rename(second)
    found = two.newest()
    assert found.checkpoint is None
    assert [warning.found for warning in found.damaged] == [
        "it belongs to step 10, not to step 20; no whole checkpoint is left, so training begins anew",
        "it belongs to step 20, not to step 10; no whole checkpoint is left, so training begins anew",
    ]


def test_every_bit_of_a_manifest_counts(two, folder):
    path = folder / "step-00000020" / "manifest.json"
    content = path.read_bytes()
    for index in range(len(content)):
        for bit in range(8):
            path.write_bytes(content[:index] + bytes([content[index] ^ (1 << bit)]) + content[index + 1 :])
            with pytest.raises(checkpoint_files.DamagedError):
                checkpoint_files.verify_files(path.parent, 20)


def test_a_manifest_that_was_edited_with_care_is_still_of_another_format_or_kind(two, folder):
    path = folder / "step-00000020" / "manifest.json"
    content = json.loads(path.read_bytes())
    del content["checksum"]
    for change, words in [
        ({"format_version": 2}, "format version 2 instead of 1"),
        ({"files": {}}, "not the manifest of a checkpoint"),
        ({"files": {"../../x": content["files"]["state.json"]}}, "not the manifest of a checkpoint"),
        ({"step": "20"}, "not the manifest of a checkpoint"),
    ]:
        path.write_bytes(checkpoint_files._to_bytes({**content, **change}))
        assert words in two.newest().damaged[0].found


def test_verified_content_that_is_no_tensor_file_is_damaged_too(two, folder):
    """Hashes that fit prove what was written, not that it makes sense."""
    place = folder / "step-00000020"
    entries = json.loads((place / "manifest.json").read_bytes())["files"]
    (place / "state.safetensors").unlink()
    entries["state.safetensors"] = checkpoint_files._write(
        place / "state.safetensors", [b"no tensors"]
    ).model_dump()
    content = {"format_version": 1, "step": 20, "files": entries}
    (place / "manifest.json").write_bytes(checkpoint_files._to_bytes(content))
    assert_falls_back(two, "state.safetensors")


def test_an_empty_folder_and_a_folder_in_place_of_a_file_are_damaged(two, folder):
    shutil.rmtree(folder / "step-00000020")
    (folder / "step-00000020" / "manifest.json").mkdir(parents=True)
    (folder / "step-00000030").mkdir()
    found = two.newest()
    assert_same(found.checkpoint, checkpoint(10))
    assert len(found.damaged) == 2


# ------------------------------------------------------------------------------- which checkpoints stay


def test_the_newest_stay_and_nothing_else_is_left(store, folder):
    for step in (1, 5, 9, 12):
        store.save(checkpoint(step))
    assert store.steps() == (9, 12)
    assert sorted(os.listdir(folder)) == ["step-00000009", "step-00000012"]


def test_steps_are_ordered_by_number_beyond_eight_digits(store):
    for step in (99_999_999, 100_000_000):
        store.save(checkpoint(step))
    assert store.steps() == (99_999_999, 100_000_000)
    assert store.newest().checkpoint.step == 100_000_000


@pytest.mark.parametrize("keep", [1, 2])
@pytest.mark.parametrize("next_step", [15, 20, 30])
def test_a_damaged_checkpoint_never_costs_a_good_one_its_place(tmp_path, keep, next_step):
    folder = tmp_path / "checkpoints"
    for step in (10, 20):
        CheckpointStore(folder, keep=2).save(checkpoint(step))
    (folder / "step-00000020" / "state.json").unlink()
    store = CheckpointStore(folder, keep=keep)
    assert store.newest().checkpoint.step == 10
    store.save(checkpoint(next_step))
    found = store.newest()
    assert_same(found.checkpoint, checkpoint(next_step))
    assert found.damaged == ()
    assert store.steps() == ((10, next_step) if keep == 2 else (next_step,))


def test_later_steps_than_the_one_saved_were_given_up(two):
    """Or the run would go back to them at the next start."""
    two.save(checkpoint(15))
    assert two.steps() == (10, 15)
    assert_same(two.newest().checkpoint, checkpoint(15))


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_checkpoint_of_the_same_step_is_replaced(two, folder, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(checkpoints, "exchange", lambda first, second: False)
    other = Checkpoint(20, {"weights": torch.ones(3)}, {"second": True})
    two.save(other)
    assert_same(two.newest().checkpoint, other)
    assert sorted(os.listdir(folder)) == ["step-00000010", "step-00000020"]


class CutError(Exception):
    """Stands for a process that ends here: nothing of ours handles it."""


OPERATIONS = {
    "write": (checkpoint_files, "_write"),
    "sync": (checkpoint_files, "sync"),
    "publish": (checkpoints.CheckpointStore, "_publish"),
    "sync of the parent": (checkpoints, "sync"),
    "retire": (checkpoints.CheckpointStore, "_retire"),
    "discard": (checkpoints.CheckpointStore, "_discard"),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("keep", [1, 2])
def test_whatever_is_cut_off_one_whole_checkpoint_is_there(folder, monkeypatch, operation, keep):
    store = CheckpointStore(folder, keep=keep)
    for step in (10, 20)[-keep:]:
        store.save(checkpoint(step))
    before = store.steps()

    def cut(*arguments):
        raise CutError

    with monkeypatch.context() as patch:
        patch.setattr(*OPERATIONS[operation], cut)
        with pytest.raises(CutError):
            store.save(checkpoint(30))
    published = operation in {"sync of the parent", "retire", "discard"}
    assert store.steps() == ((*before, 30) if published else before)
    found = CheckpointStore(folder, keep=keep).newest()
    assert found.damaged == ()
    assert_same(found.checkpoint, checkpoint(30 if published else 20))


def test_a_cut_between_the_two_renames_of_a_replacement_is_repaired_at_the_next_start(two, folder):
    former = folder / "step-00000020"
    former.rename(folder / f".replaced-step-00000020-{platform.node()}-{NOBODY}")
    assert_same(CheckpointStore(folder, keep=2).newest().checkpoint, checkpoint(20))


def test_a_deletion_cut_short_is_never_seen_as_a_checkpoint(store, folder, monkeypatch):
    for step in (10, 20):
        store.save(checkpoint(step))
    seen = []

    def look(path, **options):
        seen.append(CheckpointStore(folder, keep=2).newest())
        return unlink(path, **options)

    unlink = checkpoints.Path.unlink
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Path, "unlink", look)
        store.save(checkpoint(30))
    assert len(seen) >= 3
    assert all(found.damaged == () and found.checkpoint is not None for found in seen)


# ------------------------------------------------------------------------------------ leftovers and foreign files


def leave(folder, kind, host, pid):
    place = folder / f".{kind}-step-00000099-{host}-{pid}"
    place.mkdir(parents=True)
    (place / "state.json").write_text("{}")
    return place


def test_leftovers_of_dead_processes_of_this_machine_go_at_the_start(folder):
    gone = [leave(folder, kind, platform.node(), NOBODY) for kind in ("writing", "removing")]
    alive = leave(folder, "writing", platform.node(), os.getppid())
    elsewhere = leave(folder, "writing", "another-host", NOBODY)
    store = CheckpointStore(folder, keep=1)
    assert [place.exists() for place in gone] == [False, False]
    assert alive.exists()
    assert elsewhere.exists()
    assert store.steps() == ()
    store.remove_leftovers(of_everyone=True)
    assert os.listdir(folder) == []


def test_files_of_others_are_named_and_never_removed(two, folder):
    (folder / "notes.txt").write_text("mine")
    (folder / "step-00000010" / "notes.txt").write_text("mine")
    leftover = leave(folder, "writing", platform.node(), NOBODY)
    (leftover / "notes.txt").write_text("mine")
    names = ("notes.txt", "step-00000010/notes.txt", f"{leftover.name}/notes.txt")
    assert set(two.foreign_names()) == set(names)
    for step in (30, 40, 50):
        two.save(checkpoint(step))
    two.clear()
    assert [(folder / name).read_text() for name in names] == ["mine"] * 3


def test_clear_leaves_nothing_of_ours(two, folder):
    leave(folder, "removing", "another-host", NOBODY)
    two.clear()
    assert not folder.exists()
    assert two.newest().checkpoint is None


# ------------------------------------------------------------------------------------------------ no room


def test_an_error_of_the_disk_is_told_with_both_figures_and_leaves_the_former_checkpoint(
    two, folder, monkeypatch
):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_files.os, "fsync", full)
        patch.setattr(
            checkpoints.shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(9_999, 9_000, 1_234)
        )
        with pytest.raises(TrainingError) as failed:
            two.save(checkpoint(30))
    (finding,) = failed.value.findings
    needed = required_bytes(checkpoint(30).tensors)
    assert f"{needed:,} bytes needed, 1,234 free" in finding.found
    assert "step 30 could not be written (No space left on device)" in finding.found
    assert finding.found.endswith("the checkpoint of step 20 is intact")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert sorted(os.listdir(folder)) == ["step-00000010", "step-00000020"]


def test_the_checkpoint_called_intact_was_verified(two, folder, monkeypatch):
    (folder / "step-00000020" / "state.json").unlink()
    monkeypatch.setattr(checkpoint_files, "_write", lambda *arguments: os.listdir("/no/such/folder"))
    with pytest.raises(TrainingError, match="the checkpoint of step 10 is intact"):
        two.save(checkpoint(30))
    (folder / "step-00000010" / "state.json").unlink()
    with pytest.raises(TrainingError, match="there is no earlier checkpoint"):
        two.save(checkpoint(30))


def test_a_folder_that_cannot_be_made_is_a_training_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="could not be written"):
        CheckpointStore(tmp_path / "file" / "checkpoints", keep=1).save(checkpoint(1))


def test_a_real_full_disk_keeps_the_former_checkpoint(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run(
            [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("mounting a small disk is not permitted")
    try:
        store = CheckpointStore(disk / "checkpoints", keep=1)
        store.save(checkpoint(1, size=150_000))
        with pytest.raises(TrainingError, match="No space left on device") as failed:
            store.save(checkpoint(2, size=150_000))
        assert "the checkpoint of step 1 is intact" in str(failed.value)
        assert os.listdir(disk / "checkpoints") == ["step-00000001"]
        assert_same(store.newest().checkpoint, checkpoint(1, size=150_000))
        with pytest.raises(UsageError):
            check_space(disk / "checkpoints", required_bytes(checkpoint(2, size=150_000).tensors))
        store.save(checkpoint(3, size=20_000))
        assert store.steps() == (3,)
    finally:
        subprocess.run(["umount", disk], check=True)


LIMITED = """
import resource, sys
from pathlib import Path
import torch
from manylabel.errors import TrainingError
from manylabel.training.checkpoints import Checkpoint, CheckpointStore

store = CheckpointStore(Path(sys.argv[1]), keep=1)
store.save(Checkpoint(1, {"w": torch.zeros(1000)}, {}))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    store.save(Checkpoint(2, {"w": torch.zeros(100_000)}, {}))
except TrainingError as error:
    print(error)
"""


def test_a_limit_on_the_size_of_files_is_no_different(folder):
    run = subprocess.run([sys.executable, "-c", LIMITED, folder], capture_output=True, text=True, check=True)
    assert "step 2 could not be written (File too large)" in run.stdout
    assert "the checkpoint of step 1 is intact" in run.stdout
    assert os.listdir(folder) == ["step-00000001"]


def test_required_bytes_are_those_on_disk_and_a_little_more(two, folder):
    written = sum(path.stat().st_size for path in (folder / "step-00000020").iterdir())
    assert written <= required_bytes(checkpoint(20).tensors) <= written + (1 << 20)


def test_room_is_checked_before_the_folder_exists(tmp_path):
    place = tmp_path / "not" / "yet"
    check_space(place, 1)
    with pytest.raises(UsageError, match=rf"checkpoints need {10**18:,} bytes and [\d,]+ are free"):
        check_space(place, 10**18)
    assert not place.parent.exists()


# ------------------------------------------------------------------------------------------------- killed


KILLED = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
from manylabel.training.checkpoints import Checkpoint, CheckpointStore

folder, draw = Path(sys.argv[1]), random.Random(5)
tensors = {str(i): torch.full((1 << 16,), float(i)) for i in range(4)}
published = unreadable = halves = last = 0
for kill in range(15):
    child = os.fork()
    if not child:
        store, step = CheckpointStore(folder, keep=2), last
        while True:
            step += 1
            store.save(Checkpoint(step, tensors, {"step": step}))
    while max(CheckpointStore(folder, keep=2).steps(), default=0) == last:
        time.sleep(0.002)
    time.sleep(draw.uniform(0.0, 0.1))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    halves += any(name.startswith(".") for name in os.listdir(folder))
    found = CheckpointStore(folder, keep=2).newest()
    intact = found.checkpoint is not None and found.checkpoint.facts == {"step": found.checkpoint.step}
    unreadable += len(found.damaged) + (not intact)
    published += found.checkpoint.step - last
    last = found.checkpoint.step
print(json.dumps([published, unreadable, halves, sorted(os.listdir(folder))]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_process_never_leaves_an_unreadable_checkpoint(folder):
    run = subprocess.run([sys.executable, "-c", KILLED, folder], capture_output=True, text=True, check=True)
    published, unreadable, halves, left = json.loads(run.stdout)
    assert unreadable == 0
    assert published >= 15
    assert halves >= 3, "the kills did not hit the writing"
    assert all(name.startswith("step-") for name in left)


# ------------------------------------------------------------------------------------------- in the background


class GatedStore:
    """Saves when told, and notes how many saves run at once."""

    def __init__(self):
        self.gate, self.running, self.most, self.saved = threading.Event(), 0, 0, []
        self.error = None

    def save(self, checkpoint):
        self.running += 1
        self.most = max(self.most, self.running)
        assert self.gate.wait(10)
        self.running -= 1
        if self.error:
            raise self.error
        self.saved.append(checkpoint.step)
        return checkpoint.step


def test_the_writer_works_beside_the_caller_one_at_a_time():
    store = GatedStore()
    writer = BackgroundWriter(store)
    assert writer.wait() is None
    writer.submit(checkpoint(1))
    assert writer.is_busy
    threading.Timer(0.05, store.gate.set).start()
    writer.submit(checkpoint(2))
    assert store.saved[0] == 1
    assert writer.wait() == 2
    writer.close()
    assert (store.saved, store.most, writer.is_busy) == ([1, 2], 1, False)


@pytest.mark.parametrize("call", ["submit", "wait", "close"])
def test_a_failure_in_the_thread_is_raised_once_by_the_next_call(call):
    store = GatedStore()
    store.gate.set()
    store.error = TrainingError()
    writer = BackgroundWriter(store)
    writer.submit(checkpoint(1))
    with pytest.raises(TrainingError) as failed:
        getattr(writer, call)(*[checkpoint(2)] * (call == "submit"))
    assert failed.value is store.error
    store.error = None
    writer.wait()
    writer.submit(checkpoint(3))
    writer.close()
    assert store.saved == [3]


def test_the_writer_saves_what_the_store_finds(two):
    writer = BackgroundWriter(two)
    writer.submit(checkpoint(30))
    assert writer.wait().name == "step-00000030"
    assert_same(two.newest().checkpoint, checkpoint(30))


ENDING = """
import sys
from pathlib import Path
import torch
from manylabel.training.checkpoints import BackgroundWriter, Checkpoint, CheckpointStore

store = CheckpointStore(Path(sys.argv[1]), keep=1)
store.save(Checkpoint(1, {"w": torch.zeros(10)}, {}))
BackgroundWriter(store).submit(Checkpoint(2, {"w": torch.zeros(1 << 27)}, {}))
"""


def test_a_process_that_ends_while_writing_leaves_only_whole_checkpoints(folder):
    """512 MB take seconds; the end of the process does not wait for them."""
    subprocess.run([sys.executable, "-c", ENDING, folder], check=True, capture_output=True)
    store = CheckpointStore(folder, keep=1)
    found = store.newest()
    assert (found.checkpoint.step, found.damaged) == (1, ())
    assert os.listdir(folder) == ["step-00000001"]


def test_random_orders_of_saving_damaging_and_restarting_never_lose_the_newest_good_one(folder):
    """Against a model: the good steps still there are those saved, less those damaged, retired or given up."""
    draw = random.Random(11)
    store, step, good = CheckpointStore(folder, keep=3), 0, {}
    for _ in range(60):
        action = draw.choice(["save", "save", "damage", "restart"])
        if action == "save":
            step += draw.randint(1, 3)
            store.save(checkpoint(step, size=8))
            good = {s: None for s in sorted({s for s in good if s < step} | {step})[-3:]}
        elif action == "damage" and len(good) > 1:
            victim = max(good)
            (folder / f"step-{victim:08d}" / draw.choice(FILES)).unlink()
            del good[victim]
            action = "restart"
        if action == "restart" and good:
            store = CheckpointStore(folder, keep=3)
            found = store.newest()
            assert_same(found.checkpoint, checkpoint(max(good), size=8))
            step = found.checkpoint.step
