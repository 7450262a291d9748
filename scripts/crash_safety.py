"""Kill trainings and see what is left: every published checkpoint whole, every run that goes on equal to the bit.

    python scripts/crash_safety.py                       # 200 kills at random moments, 20 kill points, 1 and 2 threads
    python scripts/crash_safety.py --kills 20 --points 4

The runs are real ones (`train_model`, fp32, a checkpoint every step) on a network of two small layers, started by
forking a process that has done nothing but import. The last line is a JSON object with the counts; the exit code is 1
when anything was lost.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from manylabel.bundle.manifest import read_manifest
from manylabel.bundle.manifest import verify_files as verify_files_of_model
from manylabel.config.load import load_settings
from manylabel.digest import sha256_of
from manylabel.errors import BundleError
from manylabel.modeling.encoder import PackedEncoder
from manylabel.modeling.shape import from_config
from manylabel.modeling.weights.names import encoder_table, to_theirs
from manylabel.recipes.train import Job, train_model
from manylabel.training.checkpoint_files import DamagedError, verify_files
from manylabel.training.checkpoints import CheckpointStore
from manylabel.training.observers import SilentObserver, Step

WORDS = (
    "refund",
    "parcel",
    "late",
    "broken",
    "invoice",
    "login",
    "cancel",
    "thanks",
    "question",
    "slow",
    "door",
    "please",
)
LABELS = ("refund", "parcel", "thanks")
NUM_ROWS, NUM_EPOCHS, BATCH_SIZE = 160, 6, 8
TRAINING_SHARE = 0.85
SETTINGS = (
    f"training.epochs={NUM_EPOCHS}",
    f"training.batch_size={BATCH_SIZE}",
    "training.patience=0",
    "training.precision=fp32",
    "training.token_budget=96",
    "text.max_length=32",
    "split.test_fraction=0",
    "split.calibration_fraction=0",
    f"split.validation_fraction={1 - TRAINING_SHARE:.2f}",
    "checkpoints.steps=1",
)
LONGEST_LIFE_SECONDS = 1.2


@dataclass(frozen=True)
class Place:
    """Where all of it happens."""

    folder: Path

    @property
    def out(self) -> Path:
        """The model."""
        return self.folder / "model"

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.folder / "model.run"

    def clear(self) -> None:
        """Remove model and run."""
        shutil.rmtree(self.out, ignore_errors=True)
        shutil.rmtree(self.run, ignore_errors=True)


class Executioner(SilentObserver):
    """Tells the parent of the first step, and kills this process after step `last`."""

    def __init__(self, pipe: int, last: int | None) -> None:
        """Write to `pipe`."""
        self._pipe, self._last, self._told = pipe, last, False

    def step(self, step: Step) -> None:
        """A step was made."""
        if not self._told:
            os.write(self._pipe, step.step.to_bytes(8, "little"))
            self._told = True
        if step.step == self._last:
            os.kill(os.getpid(), signal.SIGKILL)


def prepare(folder: Path) -> None:
    """A CSV and an encoder of two layers of width 32."""
    choose = random.Random(1)
    with (folder / "data.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", *LABELS])
        for row in range(NUM_ROWS):
            words = choose.choices(WORDS, k=choose.randint(3, 25))
            writer.writerow([row, " ".join([*words, str(row)]), *(int(label in words) for label in LABELS)])
    encoder = folder / "encoder"
    encoder.mkdir()
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *WORDS,
        *"0123456789",
        *(f"##{d}" for d in range(10)),
    ]
    (encoder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    config = {
        "model_type": "bert", "vocab_size": len(vocabulary), "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "intermediate_size": 64, "hidden_act": "gelu", "max_position_embeddings": 64,
        "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0,
    }  # fmt: skip
    (encoder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    network = PackedEncoder(from_config(config))
    network.initialise(torch.Generator().manual_seed(1))
    state = {f"encoder.{name}": tensor for name, tensor in network.state_dict().items()}
    save_file(to_theirs(state, encoder_table("bert", 2)), encoder / "model.safetensors")


def start(place: Place, *, threads: int, last: int | None = None) -> tuple[int, int]:
    """Fork a training that goes on from what is in the run folder; its process id and the pipe of its first step."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    code = 1
    try:
        os.close(reading)
        torch.set_num_threads(threads)
        encoder = json.dumps(str(place.folder / "encoder"))
        settings = load_settings(None, [f"model.encoder={encoder}", *SETTINGS])
        job = Job(place.folder / "data.csv", place.out)
        train_model(job, settings=settings, observer=Executioner(writing, last))
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(code)


def first_step(pipe: int) -> int | None:
    """The first step the child makes; None when it ended without one."""
    said = os.read(pipe, 8)
    return int.from_bytes(said, "little") if said else None


def ended(child: int, pipe: int) -> int:
    """Wait for the child; its exit status, -9 when killed."""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(pipe)
    return status


def damaged_checkpoints(place: Place) -> tuple[int, list[str]]:
    """How many checkpoints are published, and what is wrong with those that are not whole."""
    checkpoints = place.run / "checkpoints"
    steps = CheckpointStore(checkpoints, keep=2).steps() if checkpoints.exists() else ()
    problems = []
    for step in steps:
        try:
            verify_files(checkpoints / f"step-{step:08d}", step)
        except DamagedError as error:
            problems.append(str(error))
    return len(steps), problems


def all_whole(model: Path) -> bool:
    """Whether a published model is whole."""
    try:
        verify_files_of_model(model, read_manifest(model))
    except BundleError:
        return False
    return True


def kill_at_random(place: Place, kills: int, tell: Callable[[str], None]) -> dict[str, int]:
    """Start, kill after a random time, look, go on; what was counted."""
    choose = random.Random(2)
    counts = {
        "kills": 0,
        "published": 0,
        "unreadable": 0,
        "finished": 0,
        "failed": 0,
        "steps_lost_at_most": 0,
    }
    reached = 0
    while counts["kills"] < kills:
        child, pipe = start(place, threads=1 + counts["kills"] % 2)
        began_at = first_step(pipe)
        if began_at is not None:
            counts["steps_lost_at_most"] = max(counts["steps_lost_at_most"], reached + 1 - began_at)
        time.sleep(choose.uniform(0, LONGEST_LIFE_SECONDS))
        os.kill(child, signal.SIGKILL)
        status = ended(child, pipe)
        if status == -signal.SIGKILL:
            counts["kills"] += 1
        else:
            # A kill between the rename of the model and the removal of the run: the next start refuses and says so.
            is_model = place.out.exists() and all_whole(place.out)
            counts["finished" if status == 0 or is_model else "failed"] += 1
            place.clear()
        published, problems = damaged_checkpoints(place)
        reached = (
            max(CheckpointStore(place.run / "checkpoints", keep=2).steps(), default=0) if published else 0
        )
        counts["published"] += published
        counts["unreadable"] += len(problems)
        if counts["kills"] % 20 == 0:
            tell(f"  {counts}")
    place.clear()
    return counts


def kill_points(place: Place, points: int, threads: int) -> dict[str, int]:
    """Runs killed after a given step and gone on with, against one that was never stopped."""
    choose = random.Random(threads)
    num_steps = NUM_EPOCHS * -(-int(NUM_ROWS * TRAINING_SHARE) // BATCH_SIZE)
    expected = finish(place, threads)
    equal = 0
    for _ in range(points):
        child, pipe = start(place, threads=threads, last=choose.randint(1, num_steps - 1))
        assert ended(child, pipe) == -signal.SIGKILL
        equal += finish(place, threads) == expected
    return {"threads": threads, "points": points, "bit_equal": equal}


def finish(place: Place, threads: int) -> dict[str, str]:
    """Train to the end; the hashes of the model's files."""
    child, pipe = start(place, threads=threads)
    status = ended(child, pipe)
    if status:
        raise SystemExit(f"a training ended with status {status}")
    hashes = {path.name: sha256_of(path) for path in sorted(place.out.iterdir())}
    place.clear()
    return hashes


def main() -> None:
    """Run both and print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument(
        "--points", type=int, default=20, help="kill points, half with one thread, half with two"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        prepare_in_child(place.folder)
        points = [
            kill_points(place, arguments.points - arguments.points // 2, 1),
            kill_points(place, arguments.points // 2, 2),
        ]
        for row in points:
            print(f"killed after a random step and gone on with: {row}", flush=True)
        kills = kill_at_random(place, arguments.kills, lambda line: print(line, flush=True))
    print(json.dumps({"random_kills": kills, "kill_points": points}))
    whole = not kills["unreadable"] and not kills["failed"]
    sys.exit(0 if whole and all(row["bit_equal"] == row["points"] for row in points) else 1)


def prepare_in_child(folder: Path) -> None:
    """Make the files in a child, so that this process never starts the threads a fork would lose."""
    child = os.fork()
    if not child:
        code = 1
        try:
            prepare(folder)
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


if __name__ == "__main__":
    main()
