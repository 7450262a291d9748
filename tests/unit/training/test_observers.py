"""An observer tells what happens and can never end a run."""

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from manylabel.terminal import Terminal, printable, printable_lines
from manylabel.training.observers import ConsoleObserver, JsonLinesLog, Step, Validated


def step(number=1):
    return Step(
        step=number, num_steps=20, epoch=0, loss=0.5, gradient_norm=1.0, rate=1e-4,
        num_texts=8, num_tokens=80, seconds=0.1,
    )  # fmt: skip


def observe(observer):
    observer.stage("begin")
    for number in range(1, 4):
        observer.step(step(number))
    observer.validated(Validated(3, 0.2, 0.5, True))
    observer.stage("end")


def test_the_log_begins_with_the_first_step(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text("of an older run\n")
    with JsonLinesLog(path) as log:
        log.stage("begin")
    assert path.read_text() == "of an older run\n"
    with JsonLinesLog(path) as log:
        observe(log)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event"] for line in lines] == [
        "session",
        "stage",
        "step",
        "step",
        "step",
        "validation",
        "stage",
    ]
    assert abs(datetime.fromisoformat(lines[0]["began"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert lines[2]["epoch"] == 1


@pytest.mark.parametrize("place", ["/dev/full", "absent/folder/log.jsonl"])
def test_a_log_that_cannot_be_written_is_said_once(place, tmp_path, monkeypatch, capsys):
    if place.startswith("/dev") and not os.path.exists(place):
        pytest.skip("no /dev/full")
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    with JsonLinesLog(Path(place)) as log:
        observe(log)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"the log {place} cannot be written" in said


class Gone:
    """A stream whose other end is closed."""

    encoding = "utf-8"

    def __init__(self, error, is_a_terminal):
        self.error, self.is_a_terminal, self.num_tries = error, is_a_terminal, 0

    def write(self, text):
        self.num_tries += 1
        raise self.error

    def flush(self):
        raise self.error

    def isatty(self):
        return self.is_a_terminal


@pytest.mark.parametrize("is_a_terminal", [True, False])
@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), BrokenPipeError(32, "Broken pipe")])
def test_a_terminal_that_is_gone_is_tried_once(error, is_a_terminal):
    stream = Gone(error, is_a_terminal)
    console = Terminal(stderr=True)
    console.file = stream
    observe(ConsoleObserver(console))
    assert stream.num_tries == 1


def test_a_closed_pipe_ends_neither_the_run_nor_its_standard_output():
    program = (
        "import os, sys\n"
        "reads, writes = os.pipe()\n"
        "os.dup2(writes, 2); os.close(writes); os.close(reads)\n"
        "from manylabel.training.observers import ConsoleObserver\n"
        "observer = ConsoleObserver()\n"
        "observer.stage('one'); observer.stage('two')\n"
        "print('went on')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=False)
    assert done.stdout == "went on\n"


def test_stages_reach_the_terminal_inert():
    console = Console(record=True, width=200, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file:
        ConsoleObserver(console).stage("labels a\x1b]0;title\x07, b\u202ec")
        assert console.export_text() == "labels a\ufffd]0;title\ufffd, b\ufffdc\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ä 😀 日本", "plain ä 😀 日本"),
        ("no-break\u00a0and\u3000wide spaces", "no-break\u00a0and\u3000wide spaces"),
        ("👩\u200d🚀 می\u200cخواهم", "👩\u200d🚀 می\u200cخواهم"),
        ("\x1b[2J\x9b2J\x07\r\n\t\0\x7f", "\ufffd[2J\ufffd2J" + "\ufffd" * 6),
        ("\u202e\u2066\u2069\u200f\u2028\ud800\ufeff", "\ufffd" * 7),
    ],
)
def test_printable_keeps_words_and_nothing_that_moves_the_cursor(text, shown):
    assert printable(text) == shown


def test_printable_lines_keep_our_own_line_ends():
    assert printable_lines("one\ntwo\x1b\n") == "one\ntwo\ufffd\n"


def test_a_terminal_takes_words_as_they_are(capsys):
    Terminal().print("[red] :smile: \x1b[31m")
    assert capsys.readouterr().out == "[red] :smile: \ufffd[31m\n"


def test_a_run_that_goes_on_shows_the_loss_of_its_first_step():
    console = Terminal()
    console.file = io.StringIO()
    observer = ConsoleObserver(console)
    observer.step(step(19))
    observer.step(step(20))
    assert "loss 0.5000  800 tokens/s" in console.file.getvalue()


def test_a_validation_is_logged_where_no_step_was_left(tmp_path):
    """A run stopped after its last step goes on with the validation."""
    path = tmp_path / "log.jsonl"
    path.write_text('{"event": "step"}\n')
    with JsonLinesLog(path) as log:
        log.stage("goes on")
        log.validated(Validated(20, 1.0, 0.5, True))
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == [
        "step",
        "session",
        "stage",
        "validation",
    ]


def test_what_is_shown_is_the_mean_of_the_steps_seen():
    """Where a run goes on, the first step seen counts no more than the next ones."""
    shown = io.StringIO()
    observer = ConsoleObserver(Console(file=shown, width=200))
    for number, loss, seconds in ((18, 0.9, 1.0), (19, 0.1, 0.1), (20, 0.2, 0.1)):
        made = replace(step(number), loss=loss, seconds=seconds)
        observer.step(made)
    last = shown.getvalue().splitlines()[-1]
    assert "loss 0.4000" in last
    assert "200 tokens/s" in last
