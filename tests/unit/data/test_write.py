import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manylabel.config.schema import DataSettings
from manylabel.data.read import read_table
from manylabel.data.write import FORMULA_STARTS, inert, open_writer
from manylabel.errors import DataError


@pytest.mark.parametrize(
    "cell", ["=1+1", "+cmd", "-cmd|x", "@sum", "\tx", "\rx", "\nx", "  =1", "＝1", "\0x", "-"]
)
def test_what_a_spreadsheet_runs_is_made_text(cell):
    assert inert(cell) == "'" + cell


@pytest.mark.parametrize("cell", ["", "plain", "-5", "+3.5", "-1,5", "-1e-7", "a=b", "1-2", "'=x"])
def test_everything_else_stays(cell):
    assert inert(cell) == cell


@given(st.text())
def test_applying_it_twice_changes_nothing_more(cell):
    once = inert(cell)
    assert inert(once) == once
    assert not once.startswith(FORMULA_STARTS) or once == cell


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv.zst", ".jsonl", ".jsonl.gz", ".parquet"])
def test_what_is_written_is_read_again(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    table = pa.table({"text": ['a "quoted", text', "plain", ""], "p": [0.1, 1 / 3, 1e-9]})
    with open_writer(path, path) as writer:
        writer.write(table)
        writer.write(table)
    again = read_table(path, DataSettings())
    assert again["text"].to_pylist() == table["text"].to_pylist() * 2
    assert [float(value) for value in again["p"].to_pylist()] == table["p"].to_pylist() * 2


def test_lists_are_joined_in_csv_and_kept_in_json(tmp_path):
    table = pa.table({"labels": [["a", "b"], []]})
    for name in ("out.csv", "out.jsonl"):
        with open_writer(tmp_path / name, tmp_path / name) as writer:
            writer.write(table)
    assert (tmp_path / "out.csv").read_text().splitlines()[1:] == ['"a|b"', '""']
    assert [
        json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()
    ] == table.to_pylist()


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(DataError, match="file type"), open_writer(tmp_path / "x", tmp_path / "out.xlsx"):
        pass
