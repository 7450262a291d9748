"""The file again with other labels: only the cells of changed labels differ, in every format and layout."""

import csv
import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manylabel.config.schema import DataSettings
from manylabel.data.corpus import load_corpus
from manylabel.data.corrected import require_correctable, write_corrected
from manylabel.errors import UsageError

TEXTS = ["plain", "=1+1, a formula", "-dash", 'quotes " and\nlines', "  blanks  ", "", "ä 日本", "@x"]


def correct(source, target, change, **options):
    """Flip the cells `change` [(row, label)] of `source`; the corpus before and after."""
    options = DataSettings(**options)
    loaded = load_corpus(source, options)
    targets_NL = loaded.corpus.targets_NL.copy()
    for row, label in change:
        column = loaded.corpus.labels.names.index(label)
        targets_NL[row, column] = 1 - (targets_NL[row, column] == 1)
    require_correctable(source, target, loaded.layout)
    write_corrected(
        source,
        target,
        target,
        corpus=loaded.corpus,
        layout=loaded.layout,
        options=options,
        targets_NL=targets_NL,
    )
    after = load_corpus(target, options)
    assert after.layout == loaded.layout
    assert after.corpus.texts == loaded.corpus.texts
    assert after.corpus.ids == loaded.corpus.ids
    assert np.array_equal(after.corpus.targets_NL, targets_NL)
    return loaded.corpus, after.corpus


def test_a_csv_keeps_every_other_byte(tmp_path):
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    rows = [["id", "text", "refund", "late"]]
    rows += [[f"m{row}", text, str(row % 2), str(-(row % 3 > 1))] for row, text in enumerate(TEXTS)]

    def written(path):
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter=";", lineterminator="\n").writerows(rows)
        return path

    correct(written(source), target, [(0, "refund"), (2, "late"), (1, "refund")])
    rows[1][2], rows[3][3], rows[2][2] = "1", "1", "0"
    assert target.read_bytes() == written(source).read_bytes()


def test_a_tsv_of_positions_without_header(tmp_path):
    source, target = tmp_path / "in.tsv", tmp_path / "out.tsv"
    names = tmp_path / "names.txt"
    names.write_text("joy\nfear\nanger\n")
    source.write_text('one "quoted\t2\ta\n two \t0,2\tb\nthree\t1\tc\nfour\t02\td\n')
    options = {
        "header": False, "text_column": "column_1", "labels_column": "column_2", "label_separator": ",",
        "label_names": str(names), "id_column": "column_3",
    }  # fmt: skip
    correct(source, target, [(0, "joy"), (1, "joy"), (2, "fear"), (3, "fear")], **options)
    assert target.read_text() == 'one "quoted\t2,0\ta\n two \t2\tb\nthree\t\tc\nfour\t2,1\td\n'


def test_separated_names_keep_their_order_and_blanks(tmp_path):
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("text,labels\na b,late | refund\nc d,refund\ne f,praise\ng h,\n")
    correct(source, target, [(0, "praise"), (1, "refund"), (3, "late")], label_separator="|")
    assert target.read_text().splitlines()[1:] == [
        "a b,late| refund| praise",
        "c d,",
        "e f,praise",
        "g h,late",
    ]


@pytest.mark.parametrize("spelling", [("true", "false"), ("1.0", "0.0"), ("TRUE", "0")])
def test_cells_are_spelled_as_the_column_does(tmp_path, spelling):
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    yes, no = spelling
    source.write_text(f"text,refund,late\na b c,{yes},1\nd e f,{no},0\ng h i,{no},0\nj k l,{yes},1\n")
    correct(source, target, [(1, "refund")])
    assert target.read_text().splitlines()[2] == f"d e f,{yes},0"


def test_compressed_and_in_another_encoding(tmp_path):
    source, target = tmp_path / "in.csv.gz", tmp_path / "out.csv.gz"
    content = "text,refund,late\nschön,1,0\nfür,0,1\n"
    source.write_bytes(gzip.compress(content.encode("utf-16")))
    correct(source, target, [(1, "refund")], encoding="utf-16")
    assert gzip.decompress(target.read_bytes()).decode("utf-16") == content.replace("für,0", "für,1")


def test_json_lines_keep_types_and_nested_values(tmp_path):
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [
        {"text": f"-text {row}", "refund": row % 2, "late": bool(row % 3), "meta": {"a": [1, None]}, "n": 1.5}
        for row in range(6)
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    correct(source, target, [(0, "refund"), (1, "late")], label_columns=("refund", "late"))
    rows[0]["refund"], rows[1]["late"] = 1, False
    assert [json.loads(line) for line in target.read_text().splitlines()] == rows


def test_parquet_keeps_its_types(tmp_path):
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    table = pa.table(
        {
            "text": ["a b", "c d", "e f"],
            "x": pa.array([1, 0, 0], pa.int8()),
            "y": pa.array([1.0, 0.0, -1.0], pa.float32()),
        }
    )
    pq.write_table(table, source)
    correct(source, target, [(1, "x"), (2, "y")])
    after = pq.read_table(target)
    assert after["x"].to_pylist() == [1, 1, 0]
    assert after["y"].to_pylist() == [1.0, 0.0, 1.0]
    assert after["text"].to_pylist() == table["text"].to_pylist()


def test_lists_and_other_formats_are_refused(tmp_path):
    lists, table = tmp_path / "lists.jsonl", tmp_path / "in.csv"
    lists.write_text('{"text": "a b", "labels": ["x"]}\n{"text": "c d", "labels": ["y"]}\n')
    table.write_text("text,x,y\na b,1,0\nc d,0,1\n")
    with pytest.raises(UsageError, match=r"U242 .*lists"):
        require_correctable(lists, tmp_path / "out.jsonl", load_corpus(lists, DataSettings()).layout)
    with pytest.raises(UsageError, match=r"U243 .*ends in \.csv"):
        require_correctable(table, tmp_path / "out.jsonl", load_corpus(table, DataSettings()).layout)
