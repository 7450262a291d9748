"""From a competition's files to its submission in one script, killed on the way and run again."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow  # every step starts a process that imports torch

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "kaggle.sh"
NAMES = ("toxic", "obscene", "insult")
CUES = {"toxic": ("paid", "charged"), "obscene": ("courier", "parcel"), "insult": ("great", "perfect")}
FILLERS = (
    "please",
    "hello",
    "dear",
    "team",
    "order",
    "number",
    "today",
    "week",
    "month",
    "again",
    "also",
    "any",
)
KILLED_AFTER_SECONDS = 120


def write_rows(path, header, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


@pytest.fixture(scope="module")
def competition(tmp_path_factory):
    """train.csv, test.csv, sample_submission.csv and test_labels.csv; two thirds of the test rows are all -1."""
    folder, choose = tmp_path_factory.mktemp("competition"), random.Random(8)

    def draw(num_rows, prefix):
        for row in range(num_rows):
            carried = [name for name in NAMES if choose.random() < 0.4]
            words = [*choose.choices(FILLERS, k=6), *(cue for name in carried for cue in CUES[name])]
            words += ["".join(choose.choices("abcdefghijklmnopqrstuvwxyz", k=3)) for _ in range(6)]
            choose.shuffle(words)
            yield (
                f"{prefix}{row:04d}",
                " ".join(words) + ' "quoted", and\na new line',
                [int(n in carried) for n in NAMES],
            )

    train, test = list(draw(120, "a")), list(draw(90, "0"))
    write_rows(
        folder / "train.csv", ("id", "comment_text", *NAMES), [(row[0], row[1], *row[2]) for row in train]
    )
    write_rows(folder / "test.csv", ("id", "comment_text"), [row[:2] for row in test])
    shuffled = random.Random(1).sample(test, len(test))
    write_rows(
        folder / "sample_submission.csv", ("id", *NAMES), [(row[0], 0.5, 0.5, 0.5) for row in shuffled]
    )
    labels = [(row[0], *(row[2] if number % 3 == 0 else (-1, -1, -1))) for number, row in enumerate(test)]
    write_rows(folder / "test_labels.csv", ("id", *NAMES), labels)
    return folder


def start(competition, out, encoder):
    """The script in a process group of its own, so that killing it kills what it started."""
    files = (
        "--train",
        "train.csv",
        "--test",
        "test.csv",
        "--sample",
        "sample_submission.csv",
        "--labels",
        "test_labels.csv",
    )
    settings = (
        "training.learning_rate=0.004",
        "training.epochs=4",
        "text.max_length=64",
        "evaluation.resamples=100",
    )
    options = ("--encoder", encoder, "--folds", "2", *(part for each in settings for part in ("--set", each)))
    return subprocess.Popen(
        [str(SCRIPT), *files, "--out", str(out), "--", *map(str, options)],
        cwd=competition,
        env={**os.environ, "MANYLABEL": f"{sys.executable} -m manylabel"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def kill_when(process, is_time):
    ends = time.monotonic() + KILLED_AFTER_SECONDS
    while not is_time():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < ends, "the moment to kill it never came"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.fixture(scope="module")
def finished(competition, tiny_encoder, tmp_path_factory):
    """The folder of a run that was killed once a fold was done, and what the second run said."""
    out = tmp_path_factory.mktemp("kaggle") / "out"
    process = start(competition, out, tiny_encoder)
    kill_when(process, lambda: any((out / "model.crossfit").glob("*.safetensors")))
    assert not (out / "model").exists()
    assert not (out / "submission.csv").exists()
    process = start(competition, out, tiny_encoder)
    told = process.communicate()[0]
    assert process.returncode == 0, told
    return out, told


def test_the_submission_has_the_samples_ids_and_columns_and_ranks_well(finished, competition):
    out, _ = finished
    with (out / "submission.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    with (competition / "sample_submission.csv").open(newline="") as file:
        sample_header, *sample = csv.reader(file)
    assert header == sample_header
    assert [row[0] for row in rows] == [row[0] for row in sample]
    values = np.array([list(map(float, row[1:])) for row in rows])
    assert values.shape == (90, 3)
    assert ((values >= 0) & (values <= 1)).all()
    assert len(np.unique(values)) > 90


def test_finished_folds_were_kept_and_the_figure_is_told(finished):
    out, told = finished
    assert "1/3 model: cross-fitting" in told
    assert "fold 1 of 2: kept in" in told
    assert "30 of 90 rows are annotated" in told
    (line,) = [line for line in told.splitlines() if line.startswith("mean column-wise ROC-AUC")]
    figure = float(line.partition(": ")[2].split()[0])
    assert 0.8 < figure <= 1.0  # The linear member alone sees the cues.
    assert (out / "evaluation.txt").read_text().endswith("30 of 90 rows are annotated\n")


def test_a_third_run_does_nothing_again(finished, competition, tiny_encoder):
    out, _ = finished
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    process = start(competition, out, tiny_encoder)
    told = process.communicate()[0]
    assert process.returncode == 0
    assert told.count("there already") == 3
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before


def test_killed_while_predicting_it_goes_on_with_the_submission(finished, competition, tiny_encoder):
    out, _ = finished
    whole = (out / "submission.csv").read_bytes()
    (out / "submission.csv").unlink()
    process = start(competition, out, tiny_encoder)
    while process.stdout.readline() != "2/3 submission\n":
        assert process.poll() is None
    time.sleep(0.3)  # Python is importing.
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (out / "submission.csv").exists()
    process = start(competition, out, tiny_encoder)
    assert process.communicate() is not None
    assert (out / "submission.csv").read_bytes() == whole


@pytest.mark.parametrize("arguments", [[], ["--train"], ["--nonsense", "x"], ["--train", "a", "--test", "b"]])
def test_wrong_usage_is_told(arguments):
    done = subprocess.run([str(SCRIPT), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--sample sample_submission.csv" in done.stderr


def test_a_missing_file_is_named(tmp_path):
    names = ["--train", "no.csv", "--test", "no.csv", "--sample", "no.csv", "--out", str(tmp_path / "out")]
    done = subprocess.run([str(SCRIPT), *names], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "kaggle.sh: no such file: no.csv\n")
    assert not (tmp_path / "out").exists()
