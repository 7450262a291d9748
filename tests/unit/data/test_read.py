import io
import random
import tempfile
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manylabel.config.schema import DataSettings
from manylabel.data.formats import format_of_name
from manylabel.data.read import open_table, read_rows, read_table
from manylabel.errors import DataError


def test_a_stream_has_its_columns_at_once_and_can_be_read_twice(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,text\n" + "".join(f"{row},text {row}\n" for row in range(20_000)), encoding="utf-8")
    stream = open_table(path, DataSettings())
    assert stream.column_names == ("id", "text")
    assert stream.source == "a.csv"
    sizes = [batch.num_rows for batch in stream]
    assert sizes == [8192, 8192, 20_000 - 2 * 8192]
    ids = [value for batch in stream for value in batch.column(0).to_pylist()]
    assert ids == [str(row) for row in range(20_000)]


def test_long_texts_make_short_chunks_and_memory_stays_bounded(tmp_path):
    path = tmp_path / "a.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write("text\n")
        for _ in range(60):
            file.write("x" * 1_000_000 + "\n")
    stream = open_table(path, DataSettings())
    tracemalloc.start()
    sizes = [batch.num_rows for batch in stream]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(sizes) == 60
    assert max(sizes) <= 17
    assert peak < 60_000_000


def test_json_types_are_kept_and_late_keys_are_columns(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [
        '{"text": "a", "n": 1, "x": 1, "ok": true, "tags": [], "ids": [1], "meta": {"k": [1]}, "big": 1}',
        '{"text": "b", "n": 2, "x": 2.5, "ok": null, "tags": ["t"], "ids": [], "big": 99999999999999999999}',
        '{"text": "c", "late": "here"}',
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    table = read_table(path, DataSettings())
    assert table.to_pydict() == {
        "text": ["a", "b", "c"],
        "n": [1, 2, None],
        "x": [1.0, 2.5, None],
        "ok": [True, None, None],
        "tags": [[], ["t"], None],
        "ids": [[1], [], None],
        "meta": ['{"k": [1]}', None, None],
        "big": ["1", "99999999999999999999", None],
        "late": [None, None, "here"],
    }


def test_parquet_rows_with_invalid_text_are_reported(tmp_path):
    raw = pa.array([b"good", b"caf\xe9", b"fine"], pa.binary())
    text = pa.StringArray.from_buffers(3, raw.buffers()[1], raw.buffers()[2])
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": text}), sink)
    path = tmp_path / "a.parquet"
    path.write_bytes(sink.getvalue())
    rows = read_rows(path, DataSettings())
    assert rows.table["text"].to_pylist() == ["good", "fine"]
    assert rows.rows_N.tolist() == [1, 3]
    assert [(finding.code, finding.rows) for finding in rows.findings] == [("D106", (2,))]


def test_whole_numbers_among_fractions_are_exact_or_reported(tmp_path):
    """2**60 and 10**20 are floats; 2**53 + 1 lies between two."""
    path = tmp_path / "a.jsonl"
    numbers = [0.5, 2**60, 10**20, 2**53 + 1, 10**400, 3]
    path.write_text("".join(f'{{"text": "t", "x": {number}}}\n' for number in numbers))
    rows = read_rows(path, DataSettings())
    assert rows.table["x"].to_pylist() == [0.5, float(2**60), 1e20, 3.0]
    assert [(finding.code, finding.rows) for finding in rows.findings] == [("D115", (4, 5))]
    assert "as text" in rows.findings[0].next_step


def test_parquet_rows_come_in_chunks_by_size(tmp_path):
    """100 texts of 1 MB: one text written once, so the file's own sizes say nothing of their length."""
    path = tmp_path / "a.parquet"
    texts = pa.array([1] * 100 + [0] * 9_000).dictionary_encode()
    values = pa.DictionaryArray.from_arrays(texts.indices, pa.array(["x" * 1_000_000, "y"]))
    pq.write_table(pa.table({"text": values}), path)
    stream = open_table(path, DataSettings())
    sizes = [(batch.num_rows, batch.nbytes) for batch in stream]
    assert sum(rows for rows, _ in sizes) == 9_100
    assert max(size for _, size in sizes) <= 17 << 20
    assert max(rows for rows, _ in sizes) > 1_000
    together = pa.Table.from_batches(list(stream))
    assert together["text"].to_pylist()[98:102] == ["x" * 1_000_000] * 2 + ["y"] * 2


def test_parquet_row_numbers_go_on_over_chunks(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"text": [f"{row} " + "z" * 5_000 for row in range(10_000)]}), path, row_group_size=3_000
    )
    rows = read_rows(path, DataSettings())
    assert rows.rows_N.tolist() == list(range(1, 10_001))
    assert [text.split()[0] for text in rows.table["text"].to_pylist()] == [str(row) for row in range(10_000)]


@pytest.mark.parametrize("name", ["a.parquet.gz", "a.parquet.zst"])
def test_compressed_parquet_is_unpacked_to_a_file_that_is_gone_afterwards(tmp_path, name, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    sink = io.BytesIO()
    text = [f"{random.Random(row).getrandbits(128):032x}" * 30 for row in range(20_000)]
    pq.write_table(pa.table({"text": text}), sink, compression="none", use_dictionary=False)
    kind = "gzip" if name.endswith("gz") else "zstd"
    with pa.CompressedOutputStream(str(tmp_path / name), kind) as stream:
        stream.write(sink.getvalue())
    tracemalloc.start()
    assert open_table(tmp_path / name, DataSettings()).check() == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(sink.getvalue()) / 4
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "kind", "compression"),
    [
        ("a.CSV", "csv", None),
        ("a.tsv.gz", "tsv", "gzip"),
        ("a.b.ndjson.zst", "jsonl", "zstd"),
        ("x.parquet", "parquet", None),
    ],
)
def test_a_name_says_the_format(tmp_path, name, kind, compression):
    file_format = format_of_name(tmp_path / name)
    assert (file_format.kind, file_format.compression) == (kind, compression)


@pytest.mark.data
@pytest.mark.parametrize(("name", "count"), [("train", 43_410), ("dev", 5_426), ("test", 5_427)])
def test_goemotions_has_its_published_row_counts(data_folder, name, count):
    """The files quote a text that holds a quote, as `csv` does: written back, they are the same bytes."""
    import csv

    path = data_folder / "goemotions" / f"{name}.tsv"
    table = read_table(path, DataSettings(header=False))
    assert table.shape == (count, 3)
    back = io.StringIO(newline="")
    csv.writer(back, delimiter="\t", lineterminator="\n").writerows(
        zip(*table.to_pydict().values(), strict=True)
    )
    assert back.getvalue().encode() == path.read_bytes()


@pytest.mark.data
def test_jigsaw_is_read_whole(data_folder):
    table = read_table(data_folder / "jigsaw" / "validation.csv", DataSettings())
    assert table.num_rows == 10_000
    assert table["threat"].to_pylist().count("1") == 33
    assert table["identity_hate"].to_pylist().count("1") == 84


def test_a_folder_without_a_name_of_its_own_is_named(tmp_path, monkeypatch):
    folder = tmp_path / "my data"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for path, name in ((Path("."), "my data"), (Path("/"), "/"), (folder, "my data")):
        with pytest.raises(DataError, match=f"D102 {name}: is a folder"):
            open_table(path, DataSettings())
