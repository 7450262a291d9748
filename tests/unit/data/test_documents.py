"""Documents from plain text and tables; what is held out and what the test files take away."""

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manylabel.config.schema import DataSettings
from manylabel.data.documents import hold_out, read_documents, seen_in
from manylabel.errors import DataError

OPTIONS = DataSettings()


def test_blank_lines_separate_documents_of_plain_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\ufefffirst line\nsecond line\n\n \n\nthird\r\n", encoding="utf-8")
    found = read_documents([path], OPTIONS)
    assert found.texts == ("first line\nsecond line", "third")
    assert [(s.name, s.num_documents, s.num_empty, s.column) for s in found.sources] == [
        ("a.txt", 2, 0, None)
    ]
    assert read_documents([path], OPTIONS, one_a_line=True).texts == ("first line", "second line", "third")


def test_tables_give_their_text_column_and_no_label_is_read(tmp_path):
    (tmp_path / "a.csv").write_text('text,toxic\n"one, two",perhaps\n"",\nthree,1\n')
    (tmp_path / "b.jsonl").write_text('{"text": "four", "labels": 7}\n{"text": null}\n')
    pq.write_table(pa.table({"text": ["five", None]}), tmp_path / "c.parquet")
    with gzip.open(tmp_path / "d.txt.gz", "wt") as file:
        file.write("six\n")
    found = read_documents(
        [tmp_path / name for name in ("a.csv", "b.jsonl", "c.parquet", "d.txt.gz")], OPTIONS
    )
    assert found.texts == ("one, two", "three", "four", "five", "six")
    assert [source.num_empty for source in found.sources] == [1, 1, 1, 0]


def test_the_text_column_can_be_named(tmp_path):
    (tmp_path / "a.csv").write_text("subject,body\nhello there you,x\n")
    assert read_documents([tmp_path / "a.csv"], DataSettings(text_column="body")).texts == ("x",)
    with pytest.raises(DataError, match="D121"):
        read_documents([tmp_path / "a.csv"], DataSettings(text_column="bodi"))


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.txt", b"\n \n", "D168"),
        ("a.txt", b"fine\n\xff\xfe broken\n", "D106"),
        ("a.csv", b"text,number\n,1\n,2\n", "D168"),
        ("a.docx", b"x", "D103"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, name, content, code):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=code):
        read_documents([tmp_path / name], OPTIONS)
    with pytest.raises(DataError, match="D101"):
        read_documents([tmp_path / "missing.txt"], OPTIONS)


def documents_of(tmp_path, texts):
    (tmp_path / "many.txt").write_text("\n\n".join(texts), encoding="utf-8")
    return read_documents([tmp_path / "many.txt"], OPTIONS)


def test_copies_are_held_out_together(tmp_path):
    documents = documents_of(tmp_path, [f"text number {i % 50}" + "!" * (i // 50) for i in range(100)] * 2)
    held = hold_out(documents, fraction=0.2, seed=1)
    assert np.array_equal(held[:100], held[100:])
    assert 15 <= held[:100].sum() <= 25
    assert np.array_equal(held, hold_out(documents, fraction=0.2, seed=1))
    assert not np.array_equal(held, hold_out(documents, fraction=0.2, seed=2))


def test_something_is_held_out_and_something_is_not(tmp_path):
    documents = documents_of(tmp_path, ["one", "two"])
    assert hold_out(documents, fraction=0.01, seed=1).sum() == 1
    assert hold_out(documents, fraction=0.89, seed=1).sum() == 1
    with pytest.raises(DataError, match="D169"):
        hold_out(documents_of(tmp_path, ["one", "ONE"]), fraction=0.5, seed=1)


def test_texts_of_the_test_files_are_found(tmp_path):
    sentence = "please send my money back because the parcel came late and the box was broken"
    documents = documents_of(tmp_path, [sentence, sentence.upper(), sentence + " again", "something else"])
    found = seen_in([sentence], documents, similarity=0.65)
    assert found.counts() == {"exact": 1, "normalised": 1, "near": 1}
    assert found.seen_N.tolist() == [True, True, True, False]
