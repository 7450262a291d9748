"""Malformed files: for each the right table, or an error that names file, row, column and next step.

Expected outcomes were written by hand from the bytes. `rows_in` counts the data rows a person sees in the
file; every one of them must come out or be reported.
"""
# ruff: noqa: E501 - one case a line reads best

from __future__ import annotations

import gzip
import io
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manylabel.config.schema import DataSettings
from manylabel.data.corpus import load_corpus
from manylabel.data.read import open_table, read_rows, read_table
from manylabel.errors import DataError

HEAD = b"id,text,spam\n"
GOOD = b"1,hello there,0\n2,good bye,1\n"


@dataclass(frozen=True)
class Outcome:
    """Rows of the first text column that come out, and (code, rows) of every finding."""

    texts: tuple[str, ...] = ()
    findings: tuple[tuple[str, tuple[int, ...]], ...] = ()
    mentions: tuple[str, ...] = ()
    rows_in: int | None = None


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def parquet(**columns) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def ok(*texts: str) -> Outcome:
    return Outcome(texts, rows_in=len(texts))


def bad(code: str, *rows: int, texts: tuple[str, ...] = (), mentions: tuple[str, ...] = ()) -> Outcome:
    return Outcome(texts, ((code, rows),), mentions, len(texts) + len(rows))


BOTH = ("hello there", "good bye")
ZIP_START = b"PK\x03\x04" + b"\x00" * 60
LARGE = b"x" * 1_000_000

CASES = {
    # columns
    "unquoted_comma.csv": (HEAD + b"1,hello, you,0\n2,good bye,1\n", bad("D107", 1, texts=BOTH[1:], mentions=("4 columns", "has 3"))),
    "row_too_long.csv": (HEAD + GOOD + b"3,x,1,\n", bad("D107", 3, texts=BOTH)),
    "row_too_short.csv": (HEAD + b"1,hello there\n2,good bye,1\n", bad("D107", 1, texts=BOTH[1:], mentions=("2 columns",))),
    "two_bad_rows.csv": (HEAD + b"1,a,0,0\n2,good bye,1\n3,b,1,0\n", bad("D107", 1, 3, texts=BOTH[1:])),
    "header_too_short.csv": (b"id,text\n" + GOOD, bad("D107", 1, 2, mentions=("header has 2",))),
    "trailing_separator.csv": (HEAD + b"1,hello there,0,\n2,good bye,1\n", bad("D107", 1, texts=BOTH[1:])),
    "duplicate_columns.csv": (b"id,text,text\n" + GOOD, bad("D109", mentions=('"text"', "rename"))),
    "duplicate_after_trim.csv": (b"id,text, text\n" + GOOD, bad("D109")),
    "unnamed_index.csv": (b",text,spam\n" + GOOD, ok(*BOTH)),
    # separators
    "semicolon.csv": (b"id;text;spam\n1;hello, there;0\n2;good, bye;1\n", ok("hello, there", "good, bye")),
    "tabs.csv": (b"id\ttext\tspam\n1\thello there\t0\n2\tgood bye\t1\n", ok(*BOTH)),
    "pipes.csv": (b"id|text|spam\n1|hello there|0\n2|good bye|1\n", ok(*BOTH)),
    "commas.tsv": (HEAD + GOOD, ok(*BOTH)),
    "no_separator.tsv": (b"text\nhello, there\ngood bye\n", ok("hello, there", "good bye")),
    "wrong_separator_row.csv": (HEAD + GOOD + b"3;late;1\n", bad("D107", 3, texts=BOTH)),
    # line ends
    "carriage_returns.csv": ((HEAD + GOOD).replace(b"\n", b"\r"), ok(*BOTH)),
    "windows_ends.csv": ((HEAD + GOOD).replace(b"\n", b"\r\n"), ok(*BOTH)),
    "mixed_ends.csv": (b"id,text,spam\r\n1,hello there,0\n2,good bye,1\r", ok(*BOTH)),
    "no_last_newline.csv": ((HEAD + GOOD)[:-1], ok(*BOTH)),
    "blank_lines.csv": (b"\n" + HEAD + b"\n1,hello there,0\n\n\n2,good bye,1\n\n", ok(*BOTH)),
    "blank_lines_are_texts.csv": (b"text\nhello there\n\ngood bye\n", ok("hello there", "", "good bye")),
    # quotes
    "text_after_quote.csv": (HEAD + b'1,"hello" there,0\n2,good bye,1\n', bad("D108", 1, texts=BOTH[1:], mentions=("closing quote",))),
    "merging_quote.csv": (HEAD + b'1,"a,0\n2,b"x,0\n3,good bye,1\n', bad("D108", 1, texts=BOTH[1:], mentions=("lines 2 to 3",))),
    "unclosed_quote.csv": (HEAD + b'1,hello there,0\n2,"open,1\n3,lost,1\n', bad("D108", 2, texts=BOTH[:1], mentions=("lines 3 to 4", "never closed"))),
    "quote_inside.csv": (HEAD + b'1,5" pipe,0\n2,good bye,1\n', ok('5" pipe', "good bye")),
    "newline_in_quotes.csv": (HEAD + b'1,"hello\nthere",0\n2,good bye,1\n', ok("hello\nthere", "good bye")),
    "unclosed_header.csv": (b'id,"text,spam\n' + GOOD, bad("D108", mentions=("header",))),
    "stray_quotes.tsv": (b'id\ttext\tspam\n1\t"hello" there\t0\n2\t"good\t1\n', ok('"hello" there', '"good')),
    "proper_quotes.tsv": (b'id\ttext\tspam\n1\t"he said ""hi"""\t0\n2\t"a\nb"\t1\n', ok('he said "hi"', "a\nb")),
    "enclosed_by_author.tsv": (b'id\ttext\tspam\n1\t"hello"\t0\n2\tso "good"\t1\n', ok('"hello"', 'so "good"')),
    # values that other readers change
    "not_available.csv": (HEAD + b"001,NA,0\n002,null,1\n003,None,0\n004,nan,0\n", ok("NA", "null", "None", "nan")),
    "nul_in_text.csv": (HEAD + b"1,a\0b,0\n2,good bye,1\n", ok("a\0b", "good bye")),
    "long_cell.csv": (HEAD + b"1," + LARGE + b",0\n2,good bye,1\n", ok(LARGE.decode(), "good bye")),
    # encodings
    "bom.csv": (b"\xef\xbb\xbf" + HEAD + GOOD, ok(*BOTH)),
    "bom_in_the_middle.csv": (HEAD + b"1,\xef\xbb\xbfhello,0\n2,good bye,1\n", ok("\ufeffhello", "good bye")),
    "latin1.csv": (HEAD + b"1,caf\xe9,0\n2,good bye,1\n", bad("D106", 1, texts=BOTH[1:], mentions=('column "text"', "--encoding cp1252"))),
    "latin1_header.csv": (b"id,text,caf\xe9\n" + GOOD, bad("D106", mentions=("header", "--encoding"))),
    "cut_character.csv": (HEAD + b"1,hello \xe2\x82,0\n2,good bye,1\n", bad("D106", 1, texts=BOTH[1:])),
    "utf16.csv": ((HEAD + GOOD).decode().encode("utf-16"), bad("D106", mentions=("--encoding utf-16",))),
    "utf16_without_bom.csv": ((HEAD + GOOD).decode().encode("utf-16-le"), bad("D106", mentions=("--encoding utf-16-le",))),
    "utf32.csv": ((HEAD + GOOD).decode().encode("utf-32"), bad("D106", mentions=("--encoding utf-32",))),
    # nothing there, or something else
    "empty.csv": (b"", bad("D104", mentions=("empty",))),
    "only_newlines.csv": (b"\n\n\n", bad("D104")),
    "header_only.csv": (HEAD, ok()),
    "workbook.csv": (ZIP_START, bad("D103", mentions=("Excel", "CSV UTF-8"))),
    "gzip_by_another_name.csv": (gzip.compress(HEAD + GOOD), bad("D103", mentions=("add .gz",))),
    "sheet.xlsx": (ZIP_START, bad("D103", mentions=(".xlsx", "CSV UTF-8"))),
    "data.json": (b"[]", bad("D103", mentions=(".jsonl",))),
    "no_suffix": (HEAD + GOOD, bad("D103", mentions=(".csv",))),
    # compression
    "good.csv.gz": (gzip.compress(HEAD + GOOD), ok(*BOTH)),
    "good.csv.zst": (zstd(HEAD + GOOD), ok(*BOTH)),
    "truncated.csv.gz": (gzip.compress(HEAD + GOOD)[:-9], bad("D105", mentions=("too early",))),
    "truncated.csv.zst": (zstd(HEAD + GOOD * 5000)[:-5], bad("D105", mentions=("too early",))),
    "flipped.csv.gz": (gzip.compress(HEAD + GOOD)[:-8] + b"\0" * 8, bad("D105", mentions=("damaged",))),
    "not_gzip.csv.gz": (HEAD + GOOD, bad("D105")),
    "not_zstd.csv.zst": (HEAD + GOOD, bad("D105")),
    "empty_inside.csv.gz": (gzip.compress(b""), bad("D104")),
    # JSON lines
    "good.jsonl": (b'{"text": "hello there"}\n\n{"text": "good bye"}', ok(*BOTH)),
    "bad_line.jsonl": (b'{"text": "hello there"}\n{"text": "x"\n{"text": "good bye"}\n', bad("D111", 2, texts=BOTH)),
    "nan.jsonl": (b'{"text": "hello there", "a": 1.5}\n{"text": "x", "a": NaN}\n', bad("D112", 2, texts=BOTH[:1])),
    "infinite.jsonl": (b'{"text": "hello there", "a": 1.5}\n{"text": "x", "a": 1e999}\n', bad("D112", 2, texts=BOTH[:1])),
    "array.jsonl": (b'[{"text": "x"}, {"text": "y"}]\n', bad("D111", 1, mentions=("array", "one object a line"))),
    "pretty.jsonl": (b'{\n "text": "x"\n}\n', Outcome((), (("D111", (1,)), ("D111", (2,)), ("D111", (3,))), ("without line breaks",), 3)),
    "duplicate_key.jsonl": (b'{"text": "hello there"}\n{"text": "x", "text": "y"}\n', bad("D114", 2, texts=BOTH[:1])),
    "surrogate.jsonl": (b'{"text": "hello there"}\n{"text": "\\ud83d"}\n', bad("D113", 2, texts=BOTH[:1])),
    "emoji_escape.jsonl": (b'{"text": "\\ud83d\\ude00"}\n', ok("😀")),
    "mixed_types.jsonl": (b'{"text": "hello there"}\n{"text": 5}\n{"text": "good bye"}\n', bad("D115", 2, texts=BOTH, mentions=('column "text"', "integer"))),
    "nested.jsonl": (b'{"text": "hello there"}\n{"text": {"a": 1}}\n{"text": "good bye"}\n', bad("D115", 2, texts=BOTH, mentions=("object",))),
    "latin1.jsonl": (b'{"text": "hello there"}\n{"text": "caf\xe9"}\n', bad("D106", 2, texts=BOTH[:1], mentions=("--encoding",))),
    "deep.jsonl": (b'{"text": "hello there"}\n' + b"[" * 200_000 + b"\n", bad("D111", 2, texts=BOTH[:1])),
    "bom.jsonl": (b'\xef\xbb\xbf{"text": "hello there"}\n', ok("hello there")),
    "long_number.jsonl": (b'{"text": "hello there"}\n{"text": ' + b"9" * 5000 + b"}\n", bad("D111", 2, texts=BOTH[:1])),
    # Parquet
    "good.parquet": (parquet(text=list(BOTH)), ok(*BOTH)),
    "good.parquet.gz": (gzip.compress(parquet(text=list(BOTH))), ok(*BOTH)),
    "truncated.parquet": (parquet(text=list(BOTH))[:-20], bad("D116")),
    "text.parquet": (HEAD + GOOD, bad("D116")),
    "category.parquet": (parquet(text=pa.array(list(BOTH)).dictionary_encode()), ok(*BOTH)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_right_table_or_a_precise_error(tmp_path, name):
    content, expected = CASES[name]
    path = tmp_path / name
    path.write_bytes(content)
    texts, findings = read(path)
    assert texts == expected.texts
    assert [(finding.code, finding.rows) for finding in findings] == list(expected.findings)
    for finding in findings:
        assert name in finding.place
        assert finding.next_step
        assert finding.severity == "error"
    message = "\n".join(finding.sentence() for finding in findings)
    for mention in expected.mentions:
        assert mention in message
    reported = sum(len(finding.rows) for finding in findings)
    assert len(texts) + reported == (expected.rows_in or 0)


@pytest.mark.parametrize("name", CASES)
def test_reading_in_chunks_and_as_a_whole_agree(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(CASES[name][0])
    _, findings = read(path)
    if findings:
        with pytest.raises(DataError) as whole:
            read_table(path, DataSettings())
        assert list(whole.value.findings) == findings
        with pytest.raises(DataError) as chunks:
            list(open_table(path, DataSettings()))
        assert list(chunks.value.findings) == findings
    else:
        stream = open_table(path, DataSettings())
        assert (
            sum(batch.num_rows for batch in stream) == stream.check() == len(read_table(path, DataSettings()))
        )


def read(path: Path):
    """Texts of the good rows and all findings, whether or not the file could be opened."""
    try:
        rows = read_rows(path, DataSettings())
    except DataError as error:
        return (), list(error.findings)
    texts = rows.table["text"].to_pylist() if "text" in rows.table.column_names else []
    assert len(rows.rows_N) == rows.table.num_rows
    return tuple(texts), list(rows.findings)


def test_there_are_more_than_forty():
    assert len(CASES) > 40


LABEL_CASES = {
    "two.csv": (HEAD + b"1,a,0\n2,b,2\n3,c,1\n", "D152", (2,), '"2"'),
    "fraction.csv": (HEAD + b"1,a,0\n2,b,0.7\n3,c,1\n", "D152", (2,), '"0.7"'),
    "yes.csv": (HEAD + b"1,a,0\n2,b,1\n3,c,yes\n", "D152", (3,), '"yes"'),
    "empty_cell.csv": (HEAD + b"1,a,0\n2,b,\n3,c,1\n", "D152", (2,), "empty"),
    "duplicate_id.csv": (HEAD + b"1,a,0\n1,b,1\n3,c,1\n", "D143", (1, 2), "id"),
    "empty_id.csv": (HEAD + b"1,a,0\n,b,1\n3,c,1\n", "D143", (2,), "empty"),
    "null_text.jsonl": (b'{"text": null, "spam": 1}\n{"text": "a", "spam": 0}\n', "D140", (1,), "missing"),
    "missing_key.jsonl": (b'{"spam": 1}\n{"text": "a", "spam": 0}\n', "D140", (1,), "missing"),
    "missing_label.jsonl": (b'{"text": "b"}\n{"text": "a", "spam": 0}\n', "D152", (1,), "empty"),
    "null_list.jsonl": (
        b'{"text": "b", "labels": null}\n{"text": "a", "labels": ["x"]}\n',
        "D153",
        (1,),
        "[]",
    ),
    "nan.parquet": (parquet(text=["a", "b", "c"], spam=[0.0, float("nan"), 1.0]), "D152", (2,), "nan"),
    "no_rows.csv": (HEAD, "D104", (), "no data rows"),
    "no_labels.csv": (b"id,text\n1,hello\n2,you\n", "D124", (), "--label-columns"),
    "no_text.parquet": (parquet(a=[1.5, 2.5], b=[0, 1]), "D123", (), "--text-column"),
}


@pytest.mark.parametrize("name", LABEL_CASES)
def test_wrong_labels_ids_and_texts_are_errors_with_rows(tmp_path, name):
    content, code, rows, mention = LABEL_CASES[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        load_corpus(path, DataSettings())
    (finding,) = error.value.findings
    assert (finding.code, finding.rows) == (code, rows)
    assert mention in finding.sentence()
    assert finding.next_step


def test_all_problems_of_a_file_come_at_once(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_bytes(HEAD + b"1,a,0\n2,b,c,d\n3,e,2\n3,f,1\n5,caf\xe9,0\n")
    with pytest.raises(DataError) as error:
        load_corpus(path, DataSettings())
    found = {(finding.code, finding.rows) for finding in error.value.findings}
    assert found == {("D107", (2,)), ("D106", (5,)), ("D143", (3, 4)), ("D152", (3,))}


def test_a_missing_file_a_folder_and_a_misspelt_name(tmp_path):
    (tmp_path / "mails.csv").write_bytes(HEAD + GOOD)
    (tmp_path / "new" / "folder").mkdir(parents=True)
    for path, code, mention in [
        (tmp_path / "mials.csv", "D101", "mails.csv"),
        (tmp_path / "absent" / "x.csv", "D101", 'no folder ".*absent".*check the path'),
        (tmp_path / "new" / "fodler" / "x.csv", "D101", 'no folder ".*fodler".*did you mean "folder"'),
        (tmp_path, "D102", "folder"),
    ]:
        with pytest.raises(DataError, match=mention) as error:
            read_table(path, DataSettings())
        assert error.value.findings[0].code == code


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1", "cp1252", "shift_jis"])
def test_a_given_encoding_is_used(tmp_path, encoding):
    text = "日本" if encoding == "shift_jis" else "café"
    path = tmp_path / "a.csv"
    path.write_bytes(f"text,spam\n{text},0\n".encode(encoding))
    assert read_table(path, DataSettings(encoding=encoding))["text"].to_pylist() == [text]


def test_an_unknown_encoding_and_bytes_it_lacks(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(HEAD + b"1,a\x81b,0\n")
    for encoding in ("klingon", "rot13", "hex"):
        with pytest.raises(DataError, match="encoding given is not known"):
            read_table(path, DataSettings(encoding=encoding))
    with pytest.raises(DataError, match=r"row 1: bytes that are not CP1252.*latin-1"):
        read_table(path, DataSettings(encoding="cp1252"))
    path.write_bytes("text,spam\nab,0\n".encode("utf-16")[:-1])
    with pytest.raises(DataError, match="D106"):
        read_table(path, DataSettings(encoding="utf-16"))


def test_without_header_all_lines_are_rows(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(GOOD + b"3,x\n")
    rows = read_rows(path, DataSettings(header=False))
    assert rows.table.column_names == ["column_1", "column_2", "column_3"]
    assert rows.table["column_2"].to_pylist() == list(BOTH)
    assert [(finding.code, finding.rows) for finding in rows.findings] == [("D107", (3,))]
