"""Several processes as one: how they start, work, stop and die together; each case is a small program of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SOURCE = Path(__file__).resolve().parents[2] / "src"
PARENT = """
import sys
from manylabel.errors import ManylabelError
from manylabel.recipes.launch import launch
try:
    code = launch(sys.argv[1:], num_processes=2)
except ManylabelError as error:
    sys.exit("\\n".join(finding.sentence() for finding in error.findings))
except KeyboardInterrupt:
    sys.stderr.write("Interrupted\\n")
    code = 130
sys.exit(code)
"""
CHILD = """
import os, signal, sys, time
from pathlib import Path
from manylabel.recipes.launch import Member

member = Member.from_environment()
member.begin(debug=False)
folder = Path(sys.argv[1])
print("output of rank", member.rank, flush=True)

def note(name):
    (folder / f"{name}{member.rank}").write_text(str(os.getpid()))

def finish(code):
    member.end(code)
    sys.exit(code)
"""
TRAIN_UNTIL_DEATH = """
from manylabel.errors import TrainingError
from manylabel.training.processes import Processes
try:
    with Processes.from_environment() as processes:
        for step in range(1000):
            processes.barrier()
            note("step")
            if step == 3 and member.rank == {rank}:
                {ending}
            time.sleep(0.01)
except TrainingError as error:
    note("peer")
    finish(member.unsaid(error))
"""


class Family:
    """A parent that has two processes run `program`."""

    def __init__(self, folder, program):
        self.folder = folder
        script = folder / "child.py"
        script.write_text(CHILD + program)
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(folder),  # A killed parent leaves its folder.
            "PYTHONPATH": os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")]),
        }
        environment.pop("RANK", None)
        self.began = time.monotonic()
        self.parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, str(script), str(folder), "$$ ${local_rank}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def wait_for(self, *names):
        """Until all these files are there."""
        while not all((self.folder / name).exists() for name in names):
            assert self.parent.poll() is None, self.parent.communicate()
            assert time.monotonic() - self.began < 60
            time.sleep(0.02)

    def is_alive(self, name):
        """Whether the process that wrote the file still runs."""
        try:
            os.kill(int((self.folder / name).read_text()), 0)
        except ProcessLookupError:
            return False
        return True

    def end(self):
        """(exit code, standard output, standard error, seconds from now)."""
        began = time.monotonic()
        output, error = self.parent.communicate(timeout=60)
        return self.parent.returncode, output, error, time.monotonic() - began


@pytest.fixture
def start(tmp_path):
    families = []

    def run(program):
        families.append(Family(tmp_path, program))
        return families[-1]

    yield run
    for family in families:
        with family.parent:
            family.parent.kill()


def test_only_the_first_one_speaks_and_arguments_arrive_as_they_are(start, tmp_path):
    family = start("(folder / f'arguments{member.rank}').write_text(sys.argv[2])\nfinish(0)")
    code, output, error, _ = family.end()
    assert (code, output, error) == (0, "output of rank 0\n", "")
    assert {(tmp_path / f"arguments{rank}").read_text() for rank in (0, 1)} == {"$$ ${local_rank}"}


def test_an_error_of_all_is_told_once_by_the_first(start):
    program = """
if member.rank == 0:
    time.sleep(1)  # The other one fails first.
sys.stderr.write("D101 the data were refused\\n")
finish(1)
"""
    code, _, error, _ = start(program).end()
    assert (code, error) == (1, "D101 the data were refused\n")


KILLED = "os.kill(os.getpid(), signal.SIGKILL)"
FAILED = "processes.__exit__(ValueError, ValueError(), None); finish(1)"


@pytest.mark.parametrize(
    ("rank", "ending", "said"),
    [
        (0, KILLED, "the process of rank 0 was ended by SIGKILL"),
        (1, KILLED, "the process of rank 1 was ended by SIGKILL"),
        (1, FAILED, "the process of rank 1 ended with exit code 1"),
    ],
)
def test_one_that_dies_ends_all_with_one_message(start, rank, ending, said):
    family = start(TRAIN_UNTIL_DEATH.format(rank=rank, ending=ending))
    family.wait_for("step0", "step1")
    code, _, error, seconds = family.end()
    assert code == 1
    assert said in error
    assert error.count("\n") == 1
    assert "Traceback" not in error
    assert seconds < 15
    assert not family.is_alive(f"step{1 - rank}")


STOPPABLE = """
asked = []
signal.signal(signal.SIGINT, lambda number, frame: asked.append(number))
note("ready")
while not asked:
    time.sleep(0.01)
note("asked")
"""


SAVING = """
if member.rank == 0:
    time.sleep(1)
note("saved" if len(asked) == 1 else "hurried")
finish(130)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_wish_to_stop_reaches_all_once_and_leaves_time_to_save(start, name, tmp_path):
    family = start(STOPPABLE + SAVING)
    family.wait_for("ready0", "ready1")
    family.parent.send_signal(getattr(signal, name))
    code, _, error, _ = family.end()
    assert (code, error) == (130, "")
    assert (tmp_path / "saved0").exists()
    assert (tmp_path / "saved1").exists()


def test_processes_that_were_asked_themselves_let_the_first_one_save(start, tmp_path):
    family = start(STOPPABLE + SAVING)
    family.wait_for("ready0", "ready1")
    for name in ("ready0", "ready1"):
        os.kill(int((tmp_path / name).read_text()), signal.SIGINT)
    code, _, error, _ = family.end()
    assert (code, error) == (130, "")
    assert (tmp_path / "saved0").exists()


def test_a_second_wish_ends_all_at_once(start):
    family = start(STOPPABLE + "time.sleep(50)")
    family.wait_for("ready0", "ready1")
    family.parent.send_signal(signal.SIGINT)
    family.wait_for("asked0", "asked1")
    family.parent.send_signal(signal.SIGINT)
    code, _, error, seconds = family.end()
    assert (code, error) == (130, "Interrupted\n")
    assert seconds < 10
    assert not family.is_alive("asked0")
    assert not family.is_alive("asked1")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_no_process_outlives_its_parent(start):
    family = start("note('ready')\ntime.sleep(50)")
    family.wait_for("ready0", "ready1")
    family.parent.kill()
    deadline = time.monotonic() + 10
    while family.is_alive("ready0") or family.is_alive("ready1"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


RUN = [sys.executable, "-m", "manylabel"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *RUN[1:]]


@pytest.fixture
def train(tiny_mails, tiny_encoder, tmp_path):
    """A function that starts a training of two processes on few e-mails; its model goes to tmp_path/model."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        environment.pop(name, None)
    running = []

    def run(*options, start=(*RUN, "train", "--processes", "2"), source=tiny_mails):
        arguments = [*start, source, "--encoder", tiny_encoder, "--out", tmp_path / "model", *options]
        running.append(
            subprocess.Popen(
                [*map(str, arguments)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
        )
        return running[-1]

    yield run
    for process in running:
        with process:
            process.kill()


def settings(**training):
    return [part for name, value in training.items() for part in ("--set", f"training.{name}={value}")]


def wait_for_steps(process):
    """Until the first epoch is over, a few steps; returns the lines before."""
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith("  epoch"):
            return lines
    raise AssertionError(lines)


def children_of(process):
    return [
        int(number) for number in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ]


@pytest.mark.parametrize("start", [(*RUN, "train", "--processes", "2"), (*TORCHRUN, "train")])
def test_two_processes_train_one_model(train, start, tmp_path):
    process = train(*settings(epochs=2), "--json", start=start)
    output, error = process.communicate(timeout=90)
    assert process.returncode == 0, error
    assert set(json.loads(output)["macro"])
    assert error.count("Tokenising") == 1
    assert "on 2 processes" in error
    assert "Traceback" not in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.log.jsonl"]


def test_refused_data_are_told_once(train, tmp_path):
    process = train(source=tmp_path / "absent.csv")
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert error.count("D101") == 1
    assert "rank" not in error


@pytest.mark.parametrize("number", ["0", "257", "two"])
def test_a_wrong_number_of_processes_is_wrong_usage(number, tmp_path):
    done = subprocess.run(
        [*RUN, "train", "a.csv", "--out", str(tmp_path / "model"), "--processes", number],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "--processes" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_process_ends_the_training_with_one_message(train):
    process = train(*settings(epochs=1000, patience=0))
    wait_for_steps(process)
    began = time.monotonic()
    os.kill(children_of(process)[1], signal.SIGKILL)
    output, error = process.communicate(timeout=60)
    messages = [line for line in error.splitlines() if not line.startswith("  ")]
    assert process.returncode == 1
    assert len(messages) == 1, messages
    assert "the process of rank 1 was ended by SIGKILL" in messages[0]
    assert output == ""
    assert time.monotonic() - began < 30


def test_a_stopped_training_goes_on_with_the_same_command(train, tmp_path):
    process = train(*settings(epochs=1000, patience=0))
    wait_for_steps(process)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert error.count("T310") == 1
    assert "Traceback" not in error
    again = train(*settings(epochs=1000, patience=0))
    before = "".join(wait_for_steps(again))
    assert "Going on from step" in before
    again.send_signal(signal.SIGINT)
    again.communicate(timeout=60)
    assert again.returncode == 130
