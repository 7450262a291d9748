"""What scripts/crash_safety.py and scripts/equivalence_table.py show at length, in short."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def run(name, *options):
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    command = [sys.executable, str(SCRIPTS / name), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)


@pytest.mark.slow
def test_killed_trainings_leave_whole_checkpoints_and_go_on_to_the_same_bytes():
    done = run("crash_safety.py", "--kills", "8", "--points", "4")
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["random_kills"]["kills"] == 8
    assert counts["random_kills"]["published"] > 0
    assert counts["random_kills"]["unreadable"] == 0
    assert counts["random_kills"]["steps_lost_at_most"] <= 1
    assert [(row["points"], row["bit_equal"]) for row in counts["kill_points"]] == [(2, 2), (2, 2)]


@pytest.mark.slow
def test_losses_do_not_depend_on_processes_and_micro_batches():
    done = run("equivalence_table.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 8
