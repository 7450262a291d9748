import json
import math

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


def write(path, *tables):
    with open_writer(path, path) as writer:
        for table in tables:
            writer.write(table)
    return path


def test_numbers_that_json_lacks_are_null(tmp_path):
    nested = pa.array([{"v": [math.nan, 2.0]}, None], pa.struct([("v", pa.list_(pa.float64()))]))
    table = pa.table({"x": [math.nan, 1.5], "y": [math.inf, -math.inf], "z": nested})
    lines = write(tmp_path / "out.jsonl", table).read_text().splitlines()
    assert [json.loads(line, parse_constant=pytest.fail) for line in lines] == [
        {"x": None, "y": None, "z": {"v": [None, 2.0]}},
        {"x": 1.5, "y": None, "z": None},
    ]


def test_objects_are_json_text_in_cells(tmp_path):
    table = pa.table({
        "object": [{"k": [1, None]}, None],
        "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
        "objects": [[{"k": "ü"}], []],
        "lists": [[["a"], ["b", "c"]], None],
        "fixed": pa.array([[1, 2], [3, 4]], pa.list_(pa.int64(), 2)),
        "gaps": [["a", None], ["b", "c"]],
        "bytes": [b"caf\xe9", b"=1+1"],
    })  # fmt: skip
    cells = read_table(write(tmp_path / "out.csv", table), DataSettings()).to_pydict()
    assert [json.loads(cell) for cell in cells["object"] if cell] == [{"k": [1, None]}]
    assert [json.loads(cell) for cell in cells["map"]] == [[["k", 1]], []]
    assert [json.loads(cell) for cell in cells["objects"]] == [[{"k": "ü"}], []]
    assert [json.loads(cell) for cell in cells["lists"] if cell] == [[["a"], ["b", "c"]]]
    assert cells["fixed"] == ["1|2", "3|4"]
    assert cells["gaps"] == ["a|", "b|c"]
    assert cells["bytes"] == ["caf\\xe9", "'=1+1"]


def test_objects_of_a_json_file_stay_objects(tmp_path):
    rows = [
        {"text": "a", "meta": {"k": [1, {"q": None}]}, "big": 10**30},
        {"text": "b", "meta": None, "big": 7},
    ]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = read_table(source, DataSettings()).append_column("p", pa.array([0.25, 0.75]))
    lines = write(tmp_path / "out.jsonl", table.drop_columns(["text"])).read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"meta": {"k": [1, {"q": None}]}, "big": 10**30, "p": 0.25},
        {"meta": None, "big": 7, "p": 0.75},
    ]
    cells = read_table(write(tmp_path / "out.csv", table), DataSettings())["meta"].to_pylist()
    assert cells == ['{"k": [1, {"q": null}]}', ""]


@pytest.mark.parametrize("name", ["out.csv", "out.tsv.gz", "out.jsonl", "out.jsonl.zst", "out.parquet"])
def test_a_writer_without_tables_closes_and_leaves_no_valid_file(tmp_path, name):
    path = write(tmp_path / name)
    with pytest.raises(DataError):
        read_table(path, DataSettings())
