"""What may be replaced, and what a save leaves when it fails, is killed, or races with another."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from manylabel.bundle import files
from manylabel.bundle.exchange import exchange
from manylabel.bundle.files import check_target, published_file, published_folder, require_writable
from manylabel.bundle.manifest import read_manifest, verify_files
from manylabel.errors import BundleError, UsageError

HOST = files._host()
NOBODY = 999_999_999
"""No process has this number: Linux ends at 4,194,304."""


def write_model(folder, content="old"):
    """The least that is known as a model: a manifest of ours and the files it lists."""
    folder.mkdir(exist_ok=True)
    (folder / "weights").write_text(content)
    manifest = {"checksum": "", "format_version": 1, "labels": ["a"], "files": {"weights": {}}}
    (folder / files.MANIFEST).write_text(json.dumps(manifest))
    return folder


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def refusal(target, *, overwrite):
    with pytest.raises(UsageError) as refused:
        check_target(target, overwrite)
    return refused.value.findings[0]


def save(target, *, overwrite=False):
    with published_folder(target, overwrite=overwrite) as folder:
        write_model(folder, "new")


MODEL = ["model", "model/manifest.json", "model/weights"]


# ------------------------------------------------------------------------------------ what may be replaced


def test_a_new_name_is_free(tmp_path):
    check_target(tmp_path / "new", False)
    check_target(tmp_path / "no" / "such" / "parent", False)


def test_what_a_crash_left_beside_a_saved_model_is_named(tmp_path):
    write_model(tmp_path / "model")
    assert ".run" not in refusal(tmp_path / "model", overwrite=False).next_step
    (tmp_path / "model.run").mkdir()
    step = refusal(tmp_path / "model", overwrite=False).next_step
    assert str(tmp_path / "model.run") in step
    assert "manylabel verify" in step


def test_a_model_or_an_empty_folder_is_replaced_only_when_told(tmp_path):
    model, empty = write_model(tmp_path / "model"), tmp_path / "empty"
    empty.mkdir()
    for target in (model, empty):
        finding = refusal(target, overwrite=False)
        assert finding.code == "U201"
        assert finding.next_step.endswith("or add --overwrite")
        check_target(target, True)
        save(target, overwrite=True)
        assert (target / "weights").read_text() == "new"
    assert names(tmp_path) == ["empty", "empty/manifest.json", "empty/weights", *MODEL]


def of_a_project(folder):
    folder.mkdir()
    (folder / "thesis.md").write_text("years of work")


def of_a_web_extension(folder):
    folder.mkdir()
    (folder / "manifest.json").write_text('{"manifest_version": 3, "files": {}}')


def of_a_model_and_notes(folder):
    write_model(folder)
    (folder / "notes.md").write_text("mine")


def of_a_model_and_a_folder(folder):
    write_model(folder)
    (folder / "weights").unlink()
    (folder / "weights").mkdir()
    (folder / "weights" / "deep").write_text("mine")


def of_broken_json(folder):
    folder.mkdir()
    (folder / "manifest.json").write_text("{")


def a_file(path):
    path.write_text("mine")


@pytest.mark.parametrize(
    "make",
    [of_a_project, of_a_web_extension, of_a_model_and_notes, of_a_model_and_a_folder, of_broken_json, a_file],
)
def test_anything_else_is_never_replaced(tmp_path, make):
    target = tmp_path / "[target]"
    make(target)
    before = {
        name: (tmp_path / name).is_file() and (tmp_path / name).read_bytes() for name in names(tmp_path)
    }
    finding = refusal(target, overwrite=True)
    assert finding.code == "U207"
    assert "choose another --out" in finding.next_step
    assert "or add --overwrite" not in refusal(target, overwrite=False).next_step
    for overwrite in (True, False):
        with pytest.raises(UsageError):
            save(target, overwrite=overwrite)
    after = {name: (tmp_path / name).is_file() and (tmp_path / name).read_bytes() for name in names(tmp_path)}
    assert after == before


def test_what_the_folder_holds_is_named(tmp_path):
    write_model(tmp_path / "model")
    for name in "edcba":
        (tmp_path / "model" / name).write_text("mine")
    assert (
        "a, b, c and 2 more beside the files of the model"
        in refusal(tmp_path / "model", overwrite=True).found
    )


def test_what_appears_while_the_files_are_written_stays(tmp_path):
    target = tmp_path / "model"

    def save_slowly(make, *, overwrite):
        with published_folder(target, overwrite=overwrite) as folder:
            write_model(folder, "new")
            make(target)

    with pytest.raises(UsageError, match="U201"):
        save_slowly(of_a_project, overwrite=False)
    assert names(tmp_path) == ["model", "model/thesis.md"]
    (target / "thesis.md").unlink()
    write_model(target)
    with pytest.raises(UsageError, match="U207"):
        save_slowly(lambda folder: (folder / "notes.md").write_text("mine"), overwrite=True)
    assert names(tmp_path) == ["model", "model/manifest.json", "model/notes.md", "model/weights"]
    assert (target / "weights").read_text() == "old"


def test_a_link_is_followed_and_stays(tmp_path):
    model = write_model(tmp_path / "model")
    link = tmp_path / "link"
    link.symlink_to(model)
    save(link, overwrite=True)
    assert link.is_symlink()
    assert (model / "weights").read_text() == "new"
    assert names(tmp_path)[0] == "link"


# ------------------------------------------------------------------------------------ one step, or two


def test_names_are_swapped_in_one_step(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").write_text("b")
    if not exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this system cannot swap names")
    assert (tmp_path / "a").read_text() == "b"
    assert not exchange(tmp_path / "a", tmp_path / "absent")
    assert names(tmp_path) == ["a", "b"]


@pytest.mark.parametrize("swaps", [True, False])
def test_a_model_is_replaced_with_and_without_that_step(tmp_path, monkeypatch, swaps):
    if not swaps:
        monkeypatch.setattr(files, "exchange", lambda first, second: False)
    save(write_model(tmp_path / "model"), overwrite=True)
    assert names(tmp_path) == MODEL
    assert (tmp_path / "model" / "weights").read_text() == "new"


def test_the_name_exists_at_every_moment_of_a_replacement(tmp_path):
    """A reader in another process looks at the manifest all the time while the model is replaced 200 times."""
    target = write_model(tmp_path / "model")
    (tmp_path / "other").mkdir()
    if not exchange(target, tmp_path / "other"):
        pytest.skip("this system cannot swap names")
    exchange(target, tmp_path / "other")
    program = (
        "import sys, pathlib\n"
        "path, absent = pathlib.Path(sys.argv[1]), 0\n"
        "print('ready', flush=True)\n"
        "while not pathlib.Path(sys.argv[2]).exists():\n"
        "    absent += not path.exists()\n"
        "print(absent)\n"
    )
    end = tmp_path / "end"
    watcher = subprocess.Popen(
        [sys.executable, "-c", program, target, end], stdout=subprocess.PIPE, text=True
    )
    assert watcher.stdout.readline() == "ready\n"
    for _ in range(200):
        save(target, overwrite=True)
    end.touch()
    assert watcher.communicate(timeout=60)[0] == "0\n"


# ------------------------------------------------------------------------------------ failures and leftovers


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failed_save_leaves_the_old_model(tmp_path, error):
    target = write_model(tmp_path / "model")

    def fail():
        with published_folder(target, overwrite=True) as folder:
            (folder / "weights").write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert names(tmp_path) == MODEL
    assert (target / "weights").read_text() == "old"


@pytest.mark.parametrize("name", ["model", "model[1]"])
def test_leftovers_of_a_dead_process_are_removed(tmp_path, name):
    for leftover in (f".{name}.writing-{HOST}-{NOBODY}", f".{name}.writing-{HOST}-{NOBODY - 1}"):
        (tmp_path / leftover / "deep").mkdir(parents=True)
    write_model(tmp_path / f".{name}.replaced-{HOST}-{NOBODY}")
    write_model(tmp_path / name)
    save(tmp_path / name, overwrite=True)
    assert names(tmp_path) == [name, f"{name}/manifest.json", f"{name}/weights"]


def test_leftovers_of_other_hosts_and_running_processes_stay(tmp_path):
    foreign = [
        f".model.writing-{HOST}-{os.getppid()}",
        f".model.writing-another{HOST}-{NOBODY}",
        f".model.writing-{NOBODY}",
        f".models.writing-{HOST}-{NOBODY}",
    ]
    for name in foreign:
        (tmp_path / name).mkdir()
    save(tmp_path / "model")
    assert names(tmp_path) == sorted([*foreign, *MODEL])


def test_a_model_caught_between_two_renames_is_named_and_comes_back(tmp_path):
    former = write_model(tmp_path / f".model.replaced-{HOST}-{NOBODY}")
    with pytest.raises(BundleError, match=former.name):
        read_manifest(tmp_path / "model")
    assert former.name in refusal(tmp_path / "model", overwrite=False).found
    check_target(tmp_path / "model", True)
    with pytest.raises(KeyboardInterrupt), published_folder(tmp_path / "model", overwrite=True):
        raise KeyboardInterrupt
    assert (tmp_path / "model" / "weights").read_text() == "old"
    assert names(tmp_path) == MODEL


def test_a_former_model_goes_only_as_far_as_it_is_ours(tmp_path):
    former = write_model(tmp_path / f".model.replaced-{HOST}-{NOBODY}")
    (former / "notes.md").write_text("mine")
    save(write_model(tmp_path / "model"), overwrite=True)
    assert names(former) == ["manifest.json", "notes.md"]


def test_a_failed_file_leaves_the_old_one(tmp_path):
    target = tmp_path / "out.csv"
    target.write_text("old")

    def write():
        with published_file(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_left_by_a_dead_process_is_removed(tmp_path):
    (tmp_path / f".writing-{HOST}-{NOBODY}-out.csv").write_text("half")
    stay = [
        f".writing-{HOST}-{os.getppid()}-out.csv",
        f".writing-{HOST}-{NOBODY}-an-out.csv",
        ".writing-out.csv",
    ]
    for name in stay:
        (tmp_path / name).write_text("other")
    with published_file(tmp_path / "out.csv") as temporary:
        assert temporary.suffix == ".csv"
        temporary.write_text("whole")
    assert names(tmp_path) == sorted([*stay, "out.csv"])


# ------------------------------------------------------------------------------------ killed

SLOW_SAVE = """
import sys, time
from pathlib import Path
from manylabel.bundle.files import published_folder
swaps, target = sys.argv[1] == "True", Path(sys.argv[2])
if not swaps:
    import manylabel.bundle.files as files
    files.exchange = lambda first, second: False
whole = {f"part-{index}": "new" * 1000 for index in range(20)}
manifest = '{"checksum": "", "format_version": 1, "labels": [], "files": {%s}}'
listed = ", ".join(f'"{name}": {{}}' for name in whole)
print("begins", flush=True)
while True:
    with published_folder(target, overwrite=True) as folder:
        for name, content in whole.items():
            (folder / name).write_text(content)
            time.sleep(0.0005)
        (folder / "manifest.json").write_text(manifest % listed)
"""


def is_whole(target):
    """A model that stood there before, or all of one that the killed process saved."""
    content = {path.name: path.read_text() for path in target.iterdir()}
    manifest = json.loads(content.pop("manifest.json"))
    if set(content) != set(manifest["files"]):
        return False
    return list(content) == ["weights"] or set(content.values()) == {"new" * 1000}


@pytest.mark.parametrize("swaps", [True, False])
@pytest.mark.parametrize("exists", [True, False])
def test_killing_a_save_leaves_the_old_model_or_a_whole_one(tmp_path, swaps, exists):
    """10 processes that save all the time are killed, each a few milliseconds later than the one before."""
    target = tmp_path / "model"
    for moment in range(10):
        if exists and not target.exists():
            write_model(target)
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW_SAVE, str(swaps), target], stdout=subprocess.PIPE, text=True
        )
        process.stdout.readline()
        time.sleep(0.0045 * moment)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        if swaps and exists:
            assert target.exists(), moment
        if target.exists():
            assert is_whole(target), moment
        else:
            former = files.replaced_leftovers(target)
            assert all(is_whole(folder) for folder in former)
        save(target, overwrite=True)
        assert names(tmp_path) == MODEL, moment
        if not exists:
            files._remove_model(target)


def test_a_place_that_takes_no_files_is_refused_before_any_work(tmp_path):
    with pytest.raises(UsageError, match="nothing can be written"):
        require_writable(Path("/proc/model"))
    require_writable(tmp_path / "new" / "model")
    assert list((tmp_path / "new").iterdir()) == []


# ------------------------------------------------------------------------------------- what an error calls it


def test_errors_of_a_file_have_the_users_name(tmp_path):
    target = tmp_path / "out.csv"
    with pytest.raises(FileNotFoundError) as refused, published_file(target) as temporary:
        temporary.read_bytes()
    assert refused.value.filename == str(target)
    with pytest.raises(OSError, match="No space left") as full, published_file(target):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert full.value.filename == str(target)


def test_errors_of_a_file_in_a_folder_have_the_users_name(tmp_path):
    target = tmp_path / "model"
    with pytest.raises(FileNotFoundError) as refused, published_folder(target, overwrite=False) as folder:
        (folder / "deep" / "weights").write_text("new")
    assert refused.value.filename == str(target / "deep" / "weights")
    assert names(tmp_path) == []


def test_errors_about_other_files_keep_their_name(tmp_path):
    other = str(tmp_path / "in.csv")
    with pytest.raises(FileNotFoundError) as refused, published_file(tmp_path / "out.csv"):
        Path(other).read_bytes()
    assert refused.value.filename == other
    with pytest.raises(OSError, match="reading") as failed, published_file(tmp_path / "out.csv"):
        raise OSError(errno.EIO, "reading failed")
    assert failed.value.filename is None


def test_a_rename_onto_a_folder_is_told_with_the_users_name(tmp_path):
    target = tmp_path / "out.csv"
    (target / "held").mkdir(parents=True)
    with pytest.raises(OSError, match="irectory") as refused, published_file(target) as temporary:
        temporary.write_text("rows")
    assert (refused.value.filename, refused.value.filename2) == (str(target), None)
    assert ".writing-" not in str(refused.value)


def test_a_model_that_is_a_file_is_called_a_file(tmp_path):
    path = tmp_path / "model.csv"
    path.write_text("text\n")
    for place, found in ((path, "it is a file, not a folder"), (tmp_path / "absent", "no such folder")):
        with pytest.raises(BundleError) as refused:
            read_manifest(place)
        assert (refused.value.findings[0].code, refused.value.findings[0].found) == ("B401", found)


def refusals(place):
    with pytest.raises(BundleError) as refused:
        read_manifest(place)
    (found,) = refused.value.findings
    assert found.code == "B401"
    return found.found, found.next_step


def test_what_is_no_model_is_told_with_what_it_is(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert refusals(empty)[0] == "the folder is empty"
    inner = tmp_path / "runs" / "first"
    inner.mkdir(parents=True)
    (inner / files.MANIFEST).write_text("{}")
    assert refusals(tmp_path / "runs")[1] == f"name one, for example {inner}"
    (inner / "model.safetensors").write_text("")
    assert refusals(inner / "model.safetensors") == (
        "it is a file, not a folder",
        f"name the folder that it lies in: {inner}",
    )
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    (encoder / files.CONFIG).write_text("{}")
    assert f"--encoder {encoder}" in refusals(encoder)[1]


def test_a_model_without_its_manifest_is_to_be_copied_again(tiny_model, tmp_path):
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    (copy / files.MANIFEST).unlink()
    found, step = refusals(copy)
    assert "manifest.json is missing" in found
    assert "copy the model again" in step


def test_an_emptied_model_is_one_finding(tiny_model, tmp_path):
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    manifest = read_manifest(copy)
    for path in copy.iterdir():
        if path.name != files.MANIFEST:
            path.unlink()
    with pytest.raises(BundleError) as refused:
        verify_files(copy, manifest)
    (found,) = refused.value.findings
    assert (found.code, found.place) == ("B403", str(copy))
    assert found.found.startswith(f"all {len(manifest.files)} files of the model are missing")
