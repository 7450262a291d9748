"""What processes do together equals what one does alone; three processes run one program through all of it."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from manylabel.errors import UsageError
from manylabel.training.processes import Processes

SOURCE = Path(__file__).resolve().parents[3] / "src"
PLACE = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
PROGRAM = """
import json, os, sys
import numpy as np
import torch
from manylabel.errors import TrainingError
from manylabel.training.processes import Processes

with Processes.from_environment() as processes:
    rank = processes.rank
    whole = processes.sum_(torch.tensor([1.0, 0.1]) * (rank + 1))
    half = processes.sum_(torch.tensor([1.0, 0.1]) * (rank + 1), dtype=torch.bfloat16)
    indices = processes.share_rows(5)
    values = np.stack([indices + 0.5, np.where(indices == 3, np.nan, -np.inf)], axis=1)
    rows = processes.gather_rows(values, 5, indices)
    nothing = processes.gather_rows(np.zeros((len(processes.share_rows(1)), 2)) + 7, 1, processes.share_rows(1))
    result = {
        "place": [rank, processes.size, processes.is_main],
        "whole": whole.tolist(),
        "half": [half.tolist(), str(half.dtype)],
        "float": processes.sum_float(2.0**40 + rank),
        "any": [processes.any(rank == 1), processes.any(False)],
        "rows": [repr(rows.tolist()), str(rows.dtype)],
        "nothing": nothing.tolist(),
    }
    processes.barrier()
    if rank == 2:
        print(json.dumps(result), flush=True)
        os._exit(9)
    try:
        while True:
            processes.barrier()
    except TrainingError as error:
        result["end"] = [error.findings[0].code, error.findings[0].found]
print(json.dumps(result))
"""


@pytest.fixture
def alone(monkeypatch):
    for name in PLACE:
        monkeypatch.delenv(name, raising=False)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def three():
    """What each of three processes reported."""
    common = {
        **os.environ,
        "WORLD_SIZE": "3",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")]),
    }
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(3)
    ]
    ended = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0, 0, 9], [error for _, error in ended]
    return [json.loads(output) for output, _ in ended]


@pytest.mark.slow
def test_each_process_knows_its_place(three):
    assert [one["place"] for one in three] == [[0, 3, True], [1, 3, False], [2, 3, False]]


@pytest.mark.slow
def test_sums_are_those_of_all_and_bit_equal(three):
    parts = [torch.tensor([1.0, 0.1]) * rank for rank in (1, 2, 3)]
    for one in three:
        assert one["whole"] == three[0]["whole"]
        torch.testing.assert_close(torch.tensor(one["whole"]), sum(parts), rtol=1e-6, atol=0)
        # 2^40 + 1 is no float32.
        assert one["float"] == 3 * 2**40 + 3
        assert one["any"] == [True, False]


@pytest.mark.slow
def test_a_compressed_sum_has_the_precision_of_its_format_and_keeps_the_type(three):
    for one in three:
        values, dtype = one["half"]
        assert dtype == "torch.float32"
        assert values == three[0]["half"][0]
        assert values[0] == 6.0
        # bf16 has 8 significant bits: half a unit in the last place for each rounding of 0.1, 0.2, 0.3 and two sums.
        assert values[1] == pytest.approx(0.6, rel=5 * 2**-9)
        assert values[1] != pytest.approx(0.6, rel=1e-7)


@pytest.mark.slow
def test_gathered_rows_are_in_place_on_every_process(three):
    expected = np.array([[index + 0.5, np.nan if index == 3 else -np.inf] for index in range(5)], np.float32)
    for one in three:
        assert one["rows"] == [repr(expected.tolist()), "float32"]
        # Two of the three had no row to bring.
        assert one["nothing"] == [[7.0, 7.0]]


@pytest.mark.slow
def test_a_dead_process_is_a_training_error_of_the_others(three):
    for one in three[:2]:
        assert one["end"] == ["T320", "another process of this training ended"]


def test_alone_nothing_travels(alone):
    with Processes.from_environment() as processes:
        assert (processes.rank, processes.size, processes.is_main) == (0, 1, True)
        tensor = torch.tensor([0.1, 0.2])
        assert processes.sum_(tensor, dtype=torch.bfloat16) is tensor
        assert tensor.tolist() == torch.tensor([0.1, 0.2]).tolist()
        assert processes.sum_float(0.1) == 0.1
        assert [processes.any(True), processes.any(False)] == [True, False]
        indices = processes.share_rows(4)
        values = np.arange(8.0).reshape(4, 2)
        np.testing.assert_array_equal(processes.gather_rows(values, 4, indices), values.astype(np.float32))
        assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(("num_rows", "size"), [(0, 3), (2, 3), (10, 3), (7, 1)])
def test_rows_are_shared_out_completely_and_evenly(num_rows, size):
    shares = [Processes(rank, size, torch.device("cpu")).share_rows(num_rows) for rank in range(size)]
    assert sorted(np.concatenate(shares).tolist()) == list(range(num_rows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(("name", "value"), [("WORLD_SIZE", None), ("LOCAL_RANK", "first"), ("RANK", "-1")])
def test_an_incomplete_environment_is_refused_by_name(alone, monkeypatch, name, value):
    for known in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.setenv(known, "1")
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"U230 environment variable {name}"):
        Processes.from_environment()


def test_one_process_of_torchrun_is_alone(alone, monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert Processes.from_environment().size == 1
    assert not torch.distributed.is_initialized()


def test_more_processes_than_gpus_are_refused_by_all_alike(alone, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in {"RANK": "0", "WORLD_SIZE": "3", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=r"U231.*3 on a machine with 2 GPUs"):
        Processes.from_environment()
