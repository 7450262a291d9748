"""What `check` reports is what training refuses."""

import json

import pytest

from manylabel.cli.main import main
from manylabel.config.load import load_settings
from manylabel.errors import DataError
from manylabel.modeling.weights import locate
from manylabel.recipes.check import check_file, max_length_findings

VOCABULARY = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nlate\nparcel\n"
CONFIG = {
    "model_type": "bert",
    "vocab_size": 7,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
}


@pytest.fixture
def encoder(tmp_path):
    """A folder with what check reads of an encoder: config.json and vocab.txt."""
    folder = tmp_path / "encoder"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "vocab.txt").write_text(VOCABULARY)
    return folder


@pytest.fixture
def mails(tmp_path):
    path = tmp_path / "mails.csv"
    path.write_text("text,late,who\n" + "".join(f"late parcel {row},{row % 2},one\n" for row in range(40)))
    return path


def report_of(path, encoder, *overrides):
    return check_file(
        path, load_settings(None, [f"model.encoder={encoder}", "text.max_length=32", *overrides])
    )


def errors(report):
    return [finding for finding in report.findings if finding.severity == "error"]


def test_a_good_file_is_usable_with_lengths(mails, encoder):
    report = report_of(mails, encoder, "data.label_columns=late")
    assert report.usable
    assert report.summary.lengths.longest == 5
    assert report.source == "mails.csv"


def test_a_text_too_long_to_be_counted_whole_is_said(mails, encoder, capsys):
    with mails.open("a") as file:
        file.write("late " * 20_000 + ",0,one\n")
    report = report_of(mails, encoder, "data.label_columns=late")
    assert report.summary.lengths.counted_in_part == 1
    assert report.to_json()["lengths"]["counted_in_part"] == 1
    settings = ["--set", f"model.encoder={encoder}", "--set", "text.max_length=32"]
    with pytest.raises(SystemExit):
        main(["check", str(mails), "--label-columns", "late", *settings])
    told = " ".join(capsys.readouterr().out.split())
    assert f"longest at least {report.summary.lengths.longest:,};" in told
    assert "1 text counted in part" in told


def test_all_findings_come_at_once_when_the_columns_cannot_be_told(tmp_path, encoder):
    path = tmp_path / "a.csv"
    path.write_text("id,words\n1,hello\n2,you,there\n3,all\n")
    with pytest.raises(DataError) as error:
        report_of(path, encoder)
    assert [(finding.code, finding.rows) for finding in error.value.findings] == [
        ("D107", (2,)),
        ("D124", ()),
    ]


def test_labels_with_the_same_fault_share_a_line(tmp_path, encoder, capsys):
    names = [f"label{number}" for number in range(14)]
    path = tmp_path / "a.csv"
    rows = [f"late parcel {row},{row % 2}" + ",0" * 14 for row in range(40)]
    path.write_text("\n".join([",".join(["text", "late", *names]), *rows]) + "\n")
    with pytest.raises(SystemExit):
        main(["check", str(path), "--set", f"model.encoder={encoder}", "--set", "text.max_length=32"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "D163" in line]
    listed = ", ".join(f'"{name}"' for name in names[:10])
    assert line.startswith(f"warning: D163 a.csv, each of the labels {listed} and 4 more: no row carries it")


def test_a_file_without_rows_is_named(tmp_path, encoder):
    path = tmp_path / "a.csv"
    path.write_text("text,late\n")
    with pytest.raises(DataError, match="D104"):
        report_of(path, encoder)


@pytest.mark.parametrize(
    ("changes", "possible"),
    [
        ({}, 32),
        ({"model_type": "roberta", "pad_token_id": 1}, 30),
        ({"model_type": "distilbert"}, 32),
        ({"model_type": "mpnet", "pad_token_id": 1}, 30),
    ],
)
def test_a_length_above_the_positions_is_an_error(mails, encoder, changes, possible):
    (encoder / "config.json").write_text(json.dumps(CONFIG | changes))
    allowed = report_of(mails, encoder, "data.label_columns=late", f"text.max_length={possible}")
    assert allowed.usable
    report = report_of(mails, encoder, "data.label_columns=late", f"text.max_length={possible + 1}")
    (finding,) = errors(report)
    assert finding.code == "U202"
    assert f"text.max_length={possible}" in finding.next_step
    assert report.summary.lengths is not None


def test_lengths_up_to_the_positions_are_allowed():
    assert max_length_findings(32, 32) == []


def test_an_encoder_that_is_not_there_is_an_error(mails, tmp_path):
    report = report_of(mails, tmp_path / "absent", "data.label_columns=late")
    (finding,) = errors(report)
    assert finding.code == "E141"
    assert not report.usable
    assert report.summary.rows == 40


def test_a_missing_default_encoder_names_the_command(mails, monkeypatch):
    monkeypatch.setattr(locate, "DEFAULT_PACKAGE", "a_package_that_is_not_there")
    (finding,) = errors(report_of(mails, "default", "data.label_columns=late"))
    assert "pip install" in finding.next_step


def test_an_encoder_that_cannot_be_used_is_an_error(mails, encoder):
    (encoder / "config.json").write_text(json.dumps(CONFIG | {"hidden_act": "silu"}))
    (finding,) = errors(report_of(mails, encoder, "data.label_columns=late"))
    assert finding.code == "E104"


@pytest.mark.parametrize(
    ("overrides", "code"),
    [
        (["split.validation_fraction=0.5", "split.test_fraction=0.5"], "C211"),
        (["data.group_column=who"], "D171"),
    ],
)
def test_an_impossible_split_is_an_error(mails, encoder, overrides, code):
    report = report_of(mails, encoder, "data.label_columns=late", *overrides)
    assert [finding.code for finding in errors(report)] == [code]
