"""The commands as a user types them: outputs, exit codes, messages; on the tiny encoder."""

import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.slow  # each test starts processes that import torch

RUN = [sys.executable, "-m", "manylabel"]
TRAIN_SETTINGS = ["--set", "training.learning_rate=0.001", "--set", "text.max_length=64", "--quiet"]


def manylabel(*arguments, **options):
    return subprocess.run(
        [*RUN, *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )


def test_help_lists_the_commands_and_exit_codes():
    done = manylabel("--help")
    assert done.returncode == 0
    shown = " ".join(done.stdout.split())
    for word in ("check", "train", "evaluate", "predict", "verify", "settings", "130 interrupted"):
        assert word in shown


@pytest.mark.parametrize("command", ["check", "train", "evaluate", "predict"])
def test_every_command_that_reads_a_file_has_the_file_flags(command):
    done = manylabel(command, "--help", env={**os.environ, "COLUMNS": "200"})
    for flag in (
        "--text-column",
        "--pair-column",
        "--id-column",
        "--group-column",
        "--label-columns",
        "--labels-column",
        "--label-separator",
        "--label-names",
        "--no-header",
        "--encoding",
        "--quiet",
        "--debug",
    ):
        assert flag in done.stdout, flag


def test_version():
    assert manylabel("--version").stdout.strip() == "manylabel 0.1.0"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["nonsense"], 2),
        (["check"], 2),
        (["check", "absent.csv"], 1),
        (["train", "absent.csv"], 2),
        (["train", "absent.csv", "--out", "model"], 1),
        (["predict", "absent", "text"], 1),
        (["verify", "absent"], 1),
        (["check", "absent.csv", "--set", "training.epoch=3"], 2),
        (["check", "absent.csv", "--set", "training.epochs=-3"], 2),
    ],
)
def test_exit_codes_and_no_traceback(arguments, code, tmp_path):
    done = manylabel(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()


def test_debug_shows_the_traceback(tmp_path):
    assert "Traceback" in manylabel("verify", "absent", "--debug", cwd=tmp_path).stderr


def test_a_misspelt_setting_is_suggested(tiny_mails):
    done = manylabel("check", tiny_mails, "--set", "training.epoch=3")
    assert "training.epochs" in done.stderr


@pytest.mark.encoder
def test_check_as_json(tiny_mails):
    done = manylabel("check", tiny_mails, "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert report["rows"] == 120
    assert report["labels"]["refund"]["positives"] == 50
    assert report["usable"] is True


def test_check_shows_every_problem_at_once(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("text,a,b\nfine one,0,1\ntwo,2,1\nthree,0,yes\nfour,0,1\n" * 4)
    done = manylabel("check", path)
    assert done.returncode == 1
    assert '"a"' in done.stdout
    assert '"b"' in done.stdout
    assert "row" in done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_mails, tiny_encoder):
    out = tmp_path_factory.mktemp("cli") / "model"
    done = manylabel("train", tiny_mails, "--out", out, "--encoder", tiny_encoder, *TRAIN_SETTINGS, "--json")
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout)


def test_train_prints_the_figures_and_leaves_a_log(trained):
    out, figures = trained
    assert set(figures["labels"]) == {"refund", "delivery", "praise"}
    assert figures["baseline"]["macro"]["roc_auc"] is not None
    events = [json.loads(line) for line in (out.parent / "model.log.jsonl").read_text().splitlines()]
    assert {event["event"] for event in events} == {"session", "stage", "step", "validation"}


def test_evaluate_as_json_is_only_json(trained, tiny_mails):
    out, _ = trained
    done = manylabel("evaluate", out, tiny_mails, "--json")
    figures = json.loads(done.stdout)
    assert done.returncode == 0
    assert {
        "labels",
        "macro",
        "micro",
        "accuracy",
        "subset_accuracy",
        "hamming_loss",
        "lrap",
        "rows",
        "baseline",
    } <= set(figures)
    assert set(figures["labels"]["refund"]) == {
        "support",
        "roc_auc",
        "brier",
        "log_loss",
        "ece",
        "average_precision",
        "precision",
        "recall",
        "f1",
        "threshold",
    }
    assert figures["excluded_from_macro"] == {"roc_auc": 0, "average_precision": 0, "f1": 0}
    assert figures["unjudged_thresholds"] == {}
    # The file is the one the model was trained on: its training and validation rows are recognised.
    assert figures["rows_seen_in_training"] >= 90
    assert figures["without_seen_rows"]["rows"] == figures["rows"] - figures["rows_seen_in_training"]


def test_evaluate_and_verify_as_text(trained, tiny_mails):
    out, _ = trained
    assert "TF-IDF baseline" in manylabel("evaluate", out, tiny_mails).stdout
    assert "files intact" in manylabel("verify", out).stdout


def test_predict_texts(trained):
    out, _ = trained
    done = manylabel("predict", out, "my parcel is late [red]", "thanks")
    assert done.returncode == 0
    assert "[red]" in done.stdout
    assert done.stdout.count("threshold") == 2


def test_predict_keeps_columns_and_neutralises_formulas(trained, tmp_path):
    out, _ = trained
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    with source.open("w", newline="") as file:
        csv.writer(file).writerows(
            [["number", "text", "refund"], ["-5", "=HYPERLINK(1)", "1"], ["007", "@late parcel", "0"]]
        )
    done = manylabel("predict", out, "--input", source, "--output", target, "--text-column", "text")
    assert done.returncode == 0, done.stderr
    with target.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["number", "text", "refund", "p_refund", "p_delivery", "p_praise", "labels"]
    assert [row["number"] for row in rows] == ["-5", "007"]
    assert [row["text"] for row in rows] == ["'=HYPERLINK(1)", "'@late parcel"]
    without = manylabel(
        "predict",
        out,
        "--input",
        source,
        "--output",
        target,
        "--text-column",
        "text",
        "--no-text",
        "--overwrite",
    )
    assert without.returncode == 0
    assert "HYPERLINK" not in target.read_text()


@pytest.mark.parametrize("name", ["out.txt", "out", "out.csv.zip"])
def test_an_output_of_unknown_kind_is_wrong_usage(trained, tiny_mails, tmp_path, name):
    done = manylabel("predict", trained[0], "--input", tiny_mails, "--output", tmp_path / name)
    assert done.returncode == 2
    assert ".parquet" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_bad_row_is_reported_and_nothing_is_written(trained, tmp_path):
    out, _ = trained
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("id,text\n1,fine\n2,one,too,many\n3,fine\n")
    done = manylabel("predict", out, "--input", source, "--output", target)
    assert done.returncode == 1
    assert "row 2" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv"]


def test_an_existing_model_is_replaced_only_when_told(trained, tiny_mails, tiny_encoder, tmp_path):
    out = shutil.copytree(trained[0], tmp_path / "model")
    before = (out / "manifest.json").read_bytes()
    arguments = ["--out", out, "--encoder", tiny_encoder, *TRAIN_SETTINGS, "--set", "training.seed=5"]
    done = manylabel("train", tiny_mails, *arguments)
    assert done.returncode == 2
    assert "--overwrite" in done.stderr
    assert (out / "manifest.json").read_bytes() == before
    done = manylabel("train", tiny_mails, *arguments, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert (out / "manifest.json").read_bytes() != before
    assert manylabel("verify", out).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.log.jsonl"]


def test_no_text_of_the_data_is_in_the_log_or_the_model(tmp_path, tiny_encoder, tiny_mails):
    canary = "xylocanary"
    path, out = tmp_path / "mails.csv", tmp_path / "model"
    path.write_text(
        tiny_mails.read_text().replace("\nmail-", f"\nmail-{canary[:0]}").replace(" the ", f" {canary} ")
    )
    done = manylabel("train", path, "--out", out, "--encoder", tiny_encoder, *TRAIN_SETTINGS)
    assert done.returncode == 0, done.stderr
    assert canary in path.read_text()
    for written in [*out.iterdir(), tmp_path / "model.log.jsonl"]:
        assert canary.encode() not in written.read_bytes(), written.name
    assert canary not in done.stdout + done.stderr


def start_long_training(tiny_mails, tiny_encoder, out, more_than=0):
    arguments = [
        "train",
        tiny_mails,
        "--out",
        out,
        "--encoder",
        tiny_encoder,
        "--set",
        "training.epochs=1000",
    ]
    settings = ["--set", "training.patience=0", "--set", "text.max_length=64", "--quiet"]
    process = subprocess.Popen([*RUN, *map(str, arguments), *settings], stderr=subprocess.PIPE, text=True)
    log = out.with_name(out.name + ".log.jsonl")
    deadline = time.monotonic() + 60
    sign = f'"step": {more_than + 1},'
    while time.monotonic() < deadline and not (log.exists() and sign in log.read_text()):
        time.sleep(0.1)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_training_goes_on_with_the_same_command(tiny_mails, tiny_encoder, tmp_path, number):
    out, run = tmp_path / "model", tmp_path / "model.run"
    process = start_long_training(tiny_mails, tiny_encoder, out)
    began = time.monotonic()
    process.send_signal(number)
    assert process.wait(timeout=60) == 130
    assert time.monotonic() - began < 10
    errors = process.stderr.read()
    process.stderr.close()
    assert "saving its state; once more" in errors
    assert "T310" in errors
    assert "the same command goes on" in errors
    assert "Traceback" not in errors
    assert not out.exists()
    assert (run / "checkpoints").is_dir()
    stopped_at = int(errors.partition("stopped at step ")[2].partition(";")[0].replace(",", ""))

    again = start_long_training(tiny_mails, tiny_encoder, out, more_than=stopped_at)
    other = manylabel("train", tiny_mails, "--out", out, "--encoder", tiny_encoder)
    assert other.returncode == 2
    assert f"process {again.pid}" in other.stderr
    again.kill()
    again.communicate(timeout=60)

    changed = manylabel("train", tiny_mails, "--out", out, "--encoder", tiny_encoder, *TRAIN_SETTINGS)
    assert changed.returncode == 2
    assert "training.epochs" in changed.stderr
    assert "--fresh" in changed.stderr
    fresh = manylabel(
        "train", tiny_mails, "--out", out, "--encoder", tiny_encoder, "--fresh", *TRAIN_SETTINGS
    )
    assert fresh.returncode == 0, fresh.stderr
    assert manylabel("verify", out).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.log.jsonl"]


def test_killing_leaves_no_half_model(tiny_mails, tiny_encoder, tmp_path):
    out = tmp_path / "model"
    process = start_long_training(tiny_mails, tiny_encoder, out)
    process.kill()
    process.communicate(timeout=60)
    assert not out.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_the_first_step_ends_at_once(tiny_mails, tiny_encoder, tmp_path, number):
    out = tmp_path / "model"
    arguments = ["train", tiny_mails, "--out", out, "--encoder", tiny_encoder]
    process = subprocess.Popen(
        [*RUN, *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        # Under nohup a process is born with SIGHUP ignored, and then it should stay so.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
    )
    assert process.stderr.readline() == "Reading and checking the data\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.endswith("Interrupted; nothing unfinished was left behind.\n")
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_a_log_on_a_full_disk_does_not_end_the_run(tiny_mails, tiny_encoder, tmp_path):
    out = tmp_path / "model"
    (tmp_path / "model.log.jsonl").symlink_to("/dev/full")
    arguments = ["--encoder", tiny_encoder, *TRAIN_SETTINGS, "--set", "training.epochs=1"]
    done = manylabel("train", tiny_mails, "--out", out, *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("cannot be written") == 1
    assert out.is_dir()


def test_a_reader_of_the_progress_that_goes_away_does_not_end_the_run(tiny_mails, tiny_encoder, tmp_path):
    out = tmp_path / "model"
    arguments = [*RUN, "train", tiny_mails, "--out", out, "--encoder", tiny_encoder]
    settings = ["--set", "training.epochs=1", "--set", "text.max_length=64"]
    line = shlex.join(map(str, [*arguments, *settings]))
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line} 2>&1 >/dev/null | head -1"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Reading and checking the data\n"
    assert manylabel("verify", out).returncode == 0


def test_jsonl_in_and_jsonl_out(trained, tiny_mails, tmp_path):
    """The same e-mails as JSON lines are checked, evaluated and predicted like the CSV."""
    out, _ = trained
    with tiny_mails.open(newline="") as file:
        mails = list(csv.DictReader(file))
    labels = ("refund", "delivery", "praise")
    source, target = tmp_path / "mails.jsonl", tmp_path / "out.jsonl"
    with source.open("w") as file:
        for mail in mails:
            carried = [label for label in labels if mail[label] == "1"]
            file.write(json.dumps({"id": mail["id"], "text": mail["text"], "tags": carried}) + "\n")
    checked = json.loads(manylabel("check", source, "--json").stdout)
    assert (checked["rows"], checked["labels"]["refund"]["positives"]) == (120, 50)
    of_csv = json.loads(manylabel("evaluate", out, tiny_mails, "--json").stdout)
    of_json_lines = json.loads(manylabel("evaluate", out, source, "--labels-column", "tags", "--json").stdout)
    assert of_json_lines["macro"] == of_csv["macro"]
    done = manylabel("predict", out, "--input", source, "--output", target)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row["id"] for row in rows] == [mail["id"] for mail in mails]
    one = json.loads(manylabel("predict", out, mails[0]["text"], "--json").stdout)["predictions"][0]
    assert rows[0]["labels"] == one["labels"]
    for label, probability in one["probabilities"].items():
        assert abs(rows[0][f"p_{label}"] - probability) < 1e-6


PREDICT_ONE = """
import sys
from manylabel.cli.main import main
sys.argv = ["manylabel", "predict", sys.argv[1], "my parcel is late"]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
print(*sorted(sys.modules))
"""


def test_one_text_loads_nothing_it_does_not_need(trained):
    """What a single prediction waits for is imports: 0.3 to 3 s each for these."""
    out, _ = trained
    done = subprocess.run(
        [sys.executable, "-c", PREDICT_ONE, str(out)], capture_output=True, text=True, check=True
    )
    loaded = done.stdout.splitlines()[-1].split()
    assert "torch" in loaded
    others = {"transformers", "pandas", "sklearn", "torch._dynamo", "sympy", "captum", "manylabel.training"}
    assert others.isdisjoint(loaded)


def test_export_refuses_what_transformers_cannot_represent(tiny_model, tiny_cls_model, tmp_path):
    refused = manylabel("export", tiny_model, "--out", tmp_path / "mean")
    assert refused.returncode == 2
    assert "--set model.head=cls" in refused.stderr
    assert manylabel("export", tiny_cls_model, "--out", tmp_path / "cls").returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["cls"]


def test_export_replaces_nothing(tiny_cls_model, tmp_path):
    model = shutil.copytree(tiny_cls_model, tmp_path / "model")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(model)
    for out, code in (("empty", "U201"), ("model", "U210"), ("link", "U210"), ("model/plain", "U210")):
        refused = manylabel("export", model, "--out", tmp_path / out)
        assert refused.returncode == 2
        assert refused.stderr.startswith(f"{code} ")
        assert "--overwrite" not in refused.stderr
    assert manylabel("export", model, "--out", tmp_path / "new", "--overwrite").returncode == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "link", "model"]
    assert manylabel("verify", model).returncode == 0


def test_settings_are_listed():
    shown = manylabel("settings").stdout
    assert "training.epochs = 4  (whole number, at least 1, at most 1000)\n    Passes over" in shown
    assert json.loads(manylabel("settings", "--json").stdout)["type"] == "object"
