"""Which of several exit codes counts, who says why, and what a process is told by its environment."""

import signal

import pytest

from manylabel.cli.commands.train import without_processes
from manylabel.errors import DataError, Finding, TrainingError, UsageError
from manylabel.recipes import launch as launching
from manylabel.recipes.launch import LAUNCHER, UNSAID, Member, launch, settle

KILLED, ENDED = -signal.SIGKILL, -signal.SIGTERM


@pytest.mark.parametrize("code", [1, 2, 130])
def test_what_the_first_process_said_is_not_said_again(code):
    assert settle({1: 1, 0: code}, {0: code, 1: 1}) == code


@pytest.mark.parametrize(
    ("died", "codes", "said"),
    [
        ({1: KILLED, 0: UNSAID}, {0: UNSAID}, "rank 1 was ended by SIGKILL"),
        ({0: UNSAID, 1: KILLED}, {0: UNSAID}, "rank 1 was ended by SIGKILL"),
        ({0: KILLED, 1: ENDED}, {}, "rank 0 was ended by SIGKILL"),
        ({2: -signal.SIGSEGV, 0: ENDED, 1: ENDED}, {}, "rank 2 was ended by SIGSEGV"),
        ({0: UNSAID, 1: ENDED}, {0: UNSAID, 1: 1}, "rank 1 ended with exit code 1"),
        ({1: 7, 0: ENDED}, {}, "rank 1 ended with exit code 7"),
        ({1: ENDED, 0: UNSAID}, {0: UNSAID}, "rank 1 was ended by SIGTERM"),
        ({1: -100}, {0: 0}, "rank 1 was ended by signal 100"),
    ],
)
def test_otherwise_the_process_that_began_it_is_named(died, codes, said):
    with pytest.raises(TrainingError, match=said) as caught:
        settle(died, codes)
    assert len(caught.value.findings) == 1


def test_no_launcher_inside_a_launcher(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UsageError, match="U232"):
        launch(["-c", ""], num_processes=2)


@pytest.mark.parametrize(
    "given",
    [["--processes", "2"], ["--processes=2"], ["--processes=3", "--processes", "2"]],
)
def test_processes_get_the_arguments_without_the_flag(given):
    assert without_processes(["train", "a.csv", *given, "--out", "m"]) == ["train", "a.csv", "--out", "m"]


def test_a_process_on_its_own_is_no_member(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert Member.from_environment() is None


def test_a_member_knows_its_launcher(monkeypatch, tmp_path):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv(LAUNCHER, raising=False)
    assert Member.from_environment() == Member(1, None, None)
    monkeypatch.setenv(LAUNCHER, f"12:{tmp_path}")
    assert Member.from_environment() == Member(1, tmp_path, 12)


def test_only_the_end_of_another_is_left_to_the_launcher(tmp_path):
    launched, by_torchrun = Member(0, tmp_path, 12), Member(0, None, None)
    peer_ended = TrainingError(Finding("T320", "training", "another process of this training ended"))
    assert launched.unsaid(peer_ended) == UNSAID
    assert launched.unsaid(TrainingError(Finding("T301", "training", "not a number"))) is None
    assert launched.unsaid(DataError(Finding("D101", "a.csv", "empty"))) is None
    assert launched.unsaid(ValueError()) is None
    assert by_torchrun.unsaid(peer_ended) is None


def test_an_exit_code_is_left_for_the_launcher_and_a_failed_process_waits_for_the_first(
    tmp_path, monkeypatch
):
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        Member(0, tmp_path, 12).end(2)

    monkeypatch.setattr(launching.time, "sleep", sleep)
    Member(1, tmp_path, 12).end(1)
    assert len(waited) == 1
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"0": "2", "1": "1"}


@pytest.mark.parametrize(("rank", "code"), [(0, 1), (1, 0)])
def test_the_first_process_and_one_that_is_done_do_not_wait(rank, code, tmp_path, monkeypatch):
    monkeypatch.setattr(launching.time, "sleep", lambda seconds: pytest.fail("waited"))
    Member(rank, tmp_path, 12).end(code)
