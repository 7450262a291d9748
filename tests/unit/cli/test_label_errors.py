"""`manylabel label-errors` as it is typed: output, exit codes, texts only when asked for."""

import csv
import json

import pytest

from manylabel.cli.main import main


@pytest.fixture
def run(capsys, monkeypatch, tmp_path, tiny_encoder):
    """A function (arguments) that runs the command with a tiny model: (exit code, standard output, error)."""
    monkeypatch.chdir(tmp_path)
    fast = (
        f"model.encoder={tiny_encoder}",
        "training.epochs=1",
        "training.precision=fp32",
        "text.max_length=64",
    )
    options = [part for each in fast for part in ("--set", each)]

    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["label-errors", *map(str, arguments), *options])
        told = capsys.readouterr()
        return end.value.code, told.out, told.err

    return call


def test_what_it_prints_and_writes(run, tiny_mails, tmp_path):
    code, out, err = run(tiny_mails, "--folds", 2, "--label-studio", "tasks.json")
    assert code == 0, err
    assert "Fold 2 of 2" in err
    assert "probably wrong" in out
    assert "--corrected EXPORT.json" in out
    with tiny_mails.open(newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    assert not any(text in out + err for text in texts)
    lines = [json.loads(line) for line in (tmp_path / "label-errors.jsonl").read_text().splitlines()]
    assert all(
        set(line) == {"rank", "id", "row", "label", "given", "probability", "score", "reason"}
        for line in lines
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "label-errors.jsonl",
        "tasks.json",
        "tasks.xml",
    ]
    code, out, err = run(tiny_mails, "--corrected", "tasks.json", "--out", "corrected.csv")
    assert code == 0
    assert err.startswith("note: D186 tasks.json: ")  # Nobody has looked at them.
    assert "0 labels changed" in out
    assert (tmp_path / "corrected.csv").read_text().split() == tiny_mails.read_text().split()


def test_json_and_texts(run, tiny_mails):
    code, out, err = run(tiny_mails, "--folds", "2", "--json", "--quiet")
    assert (code, err) == (0, "")
    content = json.loads(out)
    assert content["folds"] == 2
    assert content["label_errors"]
    code, out, _ = run(tiny_mails, "--folds", "2", "--include-texts", "--quiet", "--overwrite")
    first = content["label_errors"][0]
    with tiny_mails.open(newline="") as file:
        text = next(row["text"] for row in csv.DictReader(file) if row["id"] == first["id"])
    assert text[:40] in out


def test_wrong_usage(run, tiny_mails):
    for arguments, code, word in (
        ((tiny_mails, "--corrected", "export.json"), 2, "without --out"),
        (
            (tiny_mails, "--corrected", "export.json", "--out", "o.csv", "--label-studio", "t.json"),
            2,
            "at once",
        ),
        ((tiny_mails, "--corrected", "export.json", "--out", "o.csv"), 1, "D101"),
        ((tiny_mails, "--corrected", "export.json", "--out", "o.jsonl"), 2, "U243"),
        ((tiny_mails, "--folds", "1"), 2, "folds"),
    ):
        result = run(*arguments)
        assert result[0] == code
        assert word in result[2]
