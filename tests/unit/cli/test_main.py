"""How the process ends: exit codes, closed pipes, full disks, Ctrl-C; without torch."""

import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.slow  # each test starts processes that import torch

RUN = [sys.executable, "-m", "manylabel"]
COMMAND = " ".join(RUN)


def in_bash(line):
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"], capture_output=True, text=True, check=False
    )


def many_labels(path, num_labels=5000):
    """A file whose report is far longer than a pipe holds (64 KiB)."""
    rows = [",".join(["text", *(f"label number {index}" for index in range(num_labels))])]
    rows += [
        ",".join([f"text {row}", *(str((row + index) % 2) for index in range(num_labels))])
        for row in range(40)
    ]
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize("options", ["", "--json"])
def test_a_reader_that_goes_away_is_no_error(tmp_path, options):
    path = many_labels(tmp_path / "wide.csv")  # Its labels alone, printed once, are more than a pipe holds.
    done = in_bash(f"{COMMAND} check {path} {options} | head -1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


@pytest.mark.parametrize("arguments", ["settings", "settings --json", "--help", "settings --help"])
def test_short_outputs_into_a_closed_pipe_are_no_error(arguments):
    done = in_bash(f"{COMMAND} {arguments} | true")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "code"), [("check absent.csv", 1), ("nonsense", 2), ("check --nonsense", 2)]
)
def test_errors_keep_their_code_when_nobody_reads_them(line, code):
    assert in_bash(f"{COMMAND} {line} 2>&1 >/dev/null | true").returncode == code
    assert in_bash(f"{COMMAND} {line} 2>/dev/full").returncode == code


def test_a_full_disk_is_said():
    done = in_bash(f"{COMMAND} settings > /dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith("S001 ")
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.encoder
def test_a_terminal_without_a_letter_is_no_reason_to_fail(tmp_path):
    path = tmp_path / "mails.csv"
    path.write_text("text,größe\n" + "\n".join(f"text {row},{row % 2}" for row in range(40)) + "\n")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*RUN, "check", path], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "gr\\xf6\\xdfe" in done.stdout


def test_what_could_rewrite_a_terminal_does_not_reach_it(tmp_path):
    names = "text,a\x1b]0;owned\x07,b\u202ec,d\x9b2J\n"
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text(names + "\n".join(f"text {row},{row % 2},{row % 3 % 2},0" for row in range(40)) + "\n")
    bad.write_text(names + "\n".join(f"text {row},x,{row % 2},1" for row in range(40)) + "\n")
    for line in (f"check {good}", f"check {bad}", f"check {good} --json"):
        done = in_bash(f"{COMMAND} {line}")
        written = done.stdout + done.stderr
        assert written
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(written), line


def test_ctrl_c_while_reading_is_said(tmp_path):
    """The file is large enough that reading it takes seconds."""
    path = tmp_path / "long.csv"
    path.write_text("text,a,b\n" + "".join(f"some text number {row},{row % 2},1\n" for row in range(400_000)))
    process = subprocess.Popen(
        [*RUN, "check", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
    )  # fmt: skip
    deadline = time.monotonic() + 60
    opened = f"/proc/{process.pid}/fd"
    while time.monotonic() < deadline and not any(
        os.path.realpath(os.path.join(opened, number)) == str(path) for number in os.listdir(opened)
    ):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors == "Interrupted; nothing unfinished was left behind.\n"
    assert out == ""


@pytest.mark.parametrize(
    "command",
    ["evaluate model mails.csv", "predict model --input mails.csv --output out.csv", "check mails.csv"],
)
def test_a_setting_out_of_range_is_wrong_usage(command):
    done = in_bash(f"{COMMAND} {command} --label-separator abcd")
    assert done.returncode == 2
    assert "length at most 3" in done.stderr


@pytest.mark.encoder
def test_flags_are_taken_as_they_are_typed(tmp_path):
    path = tmp_path / "mails.csv"
    rows = "\n".join(f"text {row},😀😂,{row % 2}" for row in range(40))
    path.write_text(f"😀 'it',tags,[x\n{rows}\n")
    done = subprocess.run(
        [*RUN, "check", path, "--text-column", "😀 'it'", "--label-columns", "[x"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "😀 'it'" in done.stdout


def project(folder):
    folder.mkdir()
    (folder / "thesis.md").write_text("years of work")
    return folder


@pytest.mark.parametrize("command", ["train mails.csv --overwrite --out", "demo --data mails.csv --out"])
def test_a_users_folder_is_never_replaced(tmp_path, command):
    (tmp_path / "mails.csv").write_text("text,a\nx,1\n")
    folder = project(tmp_path / "project")
    for out in ("project", ".", "./project/", "mails.csv"):
        done = in_bash(f"cd {tmp_path} && {COMMAND} {command} {out}")
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("U207 ")
    assert (folder / "thesis.md").read_text() == "years of work"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["mails.csv", "project", "thesis.md"]


def test_an_existing_folder_is_refused_before_anything_heavy_is_loaded(tmp_path):
    project(tmp_path / "project")
    began = time.monotonic()
    done = in_bash(f"{COMMAND} train mails.csv --out {tmp_path / 'project'}")
    assert done.returncode == 2
    assert done.stderr.startswith("U201 ")
    assert time.monotonic() - began < 2.0


def test_help_answers_within_three_tenths_of_a_second():
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([*RUN, "--help"], capture_output=True, check=True)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.3
