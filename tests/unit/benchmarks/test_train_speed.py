"""The arithmetic and the choice of texts behind the training benchmark's figures, and one small run of each script."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


def load(name, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module(name)


def texts_of(lengths):
    from manylabel.values import Encodings

    offsets_N1 = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids_T = np.arange(offsets_N1[-1], dtype=np.int32)
    return Encodings(ids_T, np.zeros(len(ids_T), np.uint8), offsets_N1, np.zeros(len(lengths), np.bool_))


@pytest.fixture(scope="module")
def lengths_N():
    """6,400 lengths as skewed as comments are."""
    return np.random.default_rng(3).lognormal(4.0, 1.0, 6400).astype(np.int64).clip(2, 512)


def run(script, *arguments):
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_arithmetic_of_bert_base(monkeypatch):
    """Devlin et al. 2019: 12 layers of width 768 with 3,072 inside; 85.0M weights in layers less biases and norms."""
    machine = load("machine", monkeypatch)
    network = machine.Network(768, 3072, 12, 12)
    assert network.linear_parameters == 12 * (4 * 768 * 768 + 2 * 768 * 3072) == 84_934_656
    one = network.training_flops(np.array([10]))
    scores_and_sum = 2 * (2 * 10 * 10 * 768) * 12
    assert one == 3 * (2 * 84_934_656 * 10 + scores_and_sum)
    assert network.training_flops(np.array([10, 10, 10])) == 3 * one


def test_expected_longest_of_two_lengths(monkeypatch):
    """One text of 100 among 99 of 10: a batch of 32 misses it with probability 0.99 ** 32."""
    sample = load("train_sample", monkeypatch)
    lengths = np.array([100] + [10] * 99)
    expected = 10 + 90 * (1 - 0.99**32)
    assert sample.expected_longest(lengths, seed=1, draws=40_000) == pytest.approx(expected, rel=0.03)


def test_sample_is_representative(monkeypatch, lengths_N):
    module = load("train_sample", monkeypatch)
    targets_NL = np.arange(6400)[:, None]
    sample = module.choose_sample(texts_of(lengths_N), targets_NL, num_grouped=8, num_random=2, seed=1)
    grouped, random = sample.lengths_N[sample.grouped], sample.lengths_N[sample.random]
    assert grouped.shape == (8, 32)
    assert grouped.mean() == pytest.approx(lengths_N.mean(), rel=0.01)
    assert (grouped.astype(float) ** 2).mean() == pytest.approx(
        (lengths_N.astype(float) ** 2).mean(), rel=0.02
    )
    # Batches of similar length waste little; random ones as much as is expected of them.
    assert grouped.max(axis=1).mean() < 1.15 * grouped.mean()
    assert random.mean() == pytest.approx(lengths_N.mean(), rel=0.02)
    expected = module.expected_longest(lengths_N, seed=9)
    assert random.max(axis=1).mean() == pytest.approx(expected, rel=0.03)
    # Texts and labels stay together: the token ids count on over all texts.
    begins = np.concatenate([[0], np.cumsum(lengths_N)])[:-1]
    first_ids = sample.encodings.ids_T[sample.encodings.offsets_N1[:-1]]
    assert (first_ids == begins[sample.targets_NL[:, 0]]).all()


def test_one_batch_of_every_part(monkeypatch):
    module = load("train_sample", monkeypatch)
    lengths_nB = np.repeat(np.arange(1, 101)[:, None], 32, axis=1)
    picked = module.representative(lengths_nB, 10, seed=2)
    assert (picked // 10 == np.arange(10)).all()
    with pytest.raises(ValueError, match="101 batches of 100"):
        module.representative(lengths_nB, 101, seed=2)


def test_texts_are_cut_but_keep_their_last_token(monkeypatch):
    module = load("train_curves", monkeypatch)
    cut = module.shorten(texts_of([5, 2, 4]), 3)
    assert cut.lengths_N.tolist() == [3, 2, 3]
    assert cut.ids_T.tolist() == [0, 1, 4, 5, 6, 7, 8, 10]


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("aten::mm", "matrix products"),
        ("aten::bmm", "attention"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", "attention"),
        ("aten::gelu_backward", "gelu"),
        ("aten::native_layer_norm_backward", "layernorm"),
        ("aten::_fused_adamw_", "optimizer"),
        ("aten::embedding_dense_backward", "embedding"),
        ("aten::copy_", "casts, copies, gathers"),
        ("aten::view", "rest"),
    ],
)
def test_kind_of_an_operator(monkeypatch, operator, kind):
    assert load("train_profile", monkeypatch).kind_of(operator) == kind


def test_a_batch_is_split_until_it_fits(monkeypatch):
    rows = load("train_rows", monkeypatch)
    network = load("machine", monkeypatch).Network(768, 3072, 12, 12)
    defaults = next(row for row in rows.all_rows("bf16") if row.name == "trainer-defaults")
    # 12 layers x (76 bytes x 768 + 12 bytes x 12 heads x 512 scores) x 16,384 tokens: 26.0 GB.
    assert rows.parts_of_a_batch(defaults, network, 512, 26.1e9) == 1
    assert rows.parts_of_a_batch(defaults, network, 512, 25.9e9) == 2
    assert rows.parts_of_a_batch(defaults, network, 128, 5e9) == 1
    assert rows.parts_of_a_batch(defaults, network, 512, 0.0) == 32


def test_rows_take_turns_with_ours_as_the_memory_allows(monkeypatch):
    speed, rows = load("train_speed", monkeypatch), load("train_rows", monkeypatch)
    names = [[row.name for row in heat] for heat in speed._heats(list(rows.all_rows("bf16")))]
    fast = ["trainer-tuned", "trainer-tuned-eager", "ours", "ours-fp32"]
    assert names == [fast, ["trainer-defaults"], ["max-length"]]


def test_a_peer_that_died_is_left_out(monkeypatch, capsys):
    speed = load("train_speed", monkeypatch)
    ours, peer = (SimpleNamespace(row=SimpleNamespace(name=name)) for name in ("ours", "max-length"))
    running = [ours, peer]
    with speed._told("max-length", running):
        raise speed.RowEndedError("max-length ended with status -9")
    assert "left out" in capsys.readouterr().out
    assert running == [ours]
    with pytest.raises(SystemExit, match="status -9"), speed._told("ours", running):
        raise speed.RowEndedError("ours ended with status -9")


@pytest.mark.slow
def test_loss_curve_equals_that_of_transformers(monkeypatch, tmp_path, lengths_N):
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    curves, rows, module = (
        load(name, monkeypatch) for name in ("train_curves", "train_rows", "train_sample")
    )
    choose = np.random.default_rng(4)
    encodings = texts_of(lengths_N)
    encodings.ids_T[:] = choose.integers(1000, 30_000, len(encodings.ids_T))
    targets_NL = (choose.random((6400, 6)) < 0.3).astype(np.int8)
    sample = module.choose_sample(encodings, targets_NL, num_grouped=2, num_random=1, seed=1)
    rows.prepare(tmp_path, "tiny", sample)
    task = curves.CurveTask("fp32", limit=1e-4, batch_size=8, cap=32, steps=10, rate=1e-3)
    compared = curves.compare_curves(tmp_path, sample, task)
    assert compared["steps"] == len(compared["transformers"]) == 10
    assert compared["ours"][-1] < compared["ours"][0]
    assert compared["largest_relative_difference"] < 1e-4


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.encoder
def test_small_comparison(data_folder, tmp_path):
    pytest.importorskip("accelerate")
    small = "--encoder=tiny --lengths=goemotions --rounds=2 --batches=2 --slow-batches=1 --no-curves"
    rows = "--rows=ours,trainer-tuned,trainer-defaults"
    run("train_speed.py", "--data", str(data_folder), *small.split(), rows, "--out", str(tmp_path))
    [path] = tmp_path.glob("*.json")
    [table] = json.loads(path.read_text())["tables"]
    ours, tuned, defaults = table["rows"]
    # Two rounds in turn with the tuned row, two with the defaults.
    assert [ours["rounds"], ours["steps_per_round"]] == [4, 2]
    assert [tuned["rounds"], tuned["steps_per_round"]] == [2, 2]
    assert [defaults["rounds"], defaults["steps_per_round"]] == [2, 1]
    assert ours["ours_is_times_as_fast"] == 1.0
    slowest, fastest = ours["slowest_and_fastest_round"]
    for peer in (tuned, defaults):
        ratio = peer["ours_is_times_as_fast"] * peer["texts_per_second"]
        assert slowest * 0.999 <= ratio <= fastest * 1.001
    assert defaults["computed_tokens_per_text"] > 1.3 * defaults["tokens_per_text"]
    assert min(row["peak_memory_gb"] for row in table["rows"]) > 0.1


@pytest.mark.slow
def test_small_job(tmp_path):
    pytest.importorskip("accelerate")
    run("article_job.py", "--tiny", "--out", str(tmp_path))
    [path] = tmp_path.glob("*.json")
    result = json.loads(path.read_text())
    # 200 texts in batches of 8, twice.
    assert result["steps"] == result["steps_of_the_job"] == 50
    assert result["tokens_per_second"] == pytest.approx(result["tokens"] / result["seconds"])
    assert [bool(peer["seconds_for_the_job"] > 0) for peer in result["peers"]] == [True, True]
