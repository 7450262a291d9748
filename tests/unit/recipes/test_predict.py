"""A file whose text column has another name than at training: read, and said."""

import json

import pytest

from manylabel.cli.main import main
from manylabel.recipes.empty_texts import count_without_text


def predict(model, source, out, capsys, *options):
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(model), "--input", str(source), "--output", str(out), *options])
    assert not ended.value.code
    shown = capsys.readouterr()
    return " ".join((shown.out + shown.err).split())


def test_a_guessed_text_column_is_named(tiny_model, tmp_path, capsys):
    source = tmp_path / "in.csv"
    source.write_text("id,remark\n1,where is my parcel today please\n2,thanks for the great help\n")
    told = predict(tiny_model, source, tmp_path / "a.csv", capsys)
    assert 'no column "text"' in told
    assert 'read from "remark"' in told
    assert "no column" not in predict(
        tiny_model, source, tmp_path / "b.csv", capsys, "--text-column", "remark"
    )
    source.write_text("id,text\n1,where is my parcel today please\n2,thanks for the great help\n")
    assert "no column" not in predict(tiny_model, source, tmp_path / "c.csv", capsys)


def test_rows_without_a_text_are_counted(tiny_model, tmp_path, capsys):
    source = tmp_path / "in.csv"
    source.write_text('id,text\n1,\n2,"  "\n3,thanks for the great help\n')
    told = predict(tiny_model, source, tmp_path / "a.csv", capsys)
    assert "note: 2 of 3 rows have no text; they get the probabilities of an empty text" in told
    told = predict(tiny_model, source, tmp_path / "b.csv", capsys, "--json", "--quiet")
    assert json.loads(told)["rows_without_text"] == 2
    source.write_text("id,text\n3,thanks for the great help\n")
    assert "no text" not in predict(tiny_model, source, tmp_path / "c.csv", capsys)


def test_of_a_pair_one_text_is_enough():
    assert count_without_text(["", " ", "a"], ["b", "", ""]) == 1
