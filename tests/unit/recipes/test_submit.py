"""A competition's file: what is written, and every refusal."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from manylabel.bundle import files
from manylabel.config.schema import DataSettings
from manylabel.data.chunks import CHUNK_ROWS
from manylabel.errors import BundleError, DataError, UsageError
from manylabel.inference.load import load_model
from manylabel.recipes import submit as module
from manylabel.recipes.submit import check_probabilities, decimal, submit

TESTS = [
    ("0007", "where is my parcel"),
    ("1e5", "thanks, great"),
    ("-x", 'I want a "refund", now'),
    ("b1", ""),
]
SAMPLE = "id,praise,refund,delivery\nb1,0.5,0.5,0.5\n0007,0.5,0.5,0.5\n-x,0.5,0.5,0.5\n1e5,0.5,0.5,0.5\n"


@pytest.fixture(scope="module")
def model(tiny_model):
    return load_model(tiny_model)


@pytest.fixture
def folder(tmp_path):
    """test.csv of four rows and a sample with the ids and the labels in another order."""
    with (tmp_path / "test.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "text"), *TESTS])
    (tmp_path / "sample.csv").write_text(SAMPLE)
    return tmp_path


def run(model, folder, sample="sample.csv", source="test.csv", out="submission.csv", **options):
    return submit(
        model,
        folder / source,
        folder / out,
        sample=sample and folder / sample,
        options=DataSettings(**options),
    )


def refused(model, folder, **files):
    with pytest.raises((DataError, UsageError)) as error:
        run(model, folder, **files)
    assert not (folder / "submission.csv").exists()
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    return [(each.code, each.place, each.found, each.rows) for each in error.value.findings]


def test_ids_columns_and_order_are_those_of_the_sample(model, folder):
    done = run(model, folder)
    assert (done.rows, done.columns, done.truncated) == (4, ("id", "praise", "refund", "delivery"), 0)
    with (folder / "submission.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", "praise", "refund", "delivery"]
    assert [row[0] for row in rows] == ["b1", "0007", "-x", "1e5"]
    texts = dict(TESTS)
    expected = model.predictor.probabilities([texts[row[0]] for row in rows])
    order = [model.bundle.labels.index(name) for name in header[1:]]
    # The figures are read as the very numbers that were predicted (one batch or another: at most the last digits).
    found = np.array([list(map(float, row[1:])) for row in rows])
    assert np.abs(found - expected[:, order]).max() < 1e-6
    assert not any("e" in cell for row in rows for cell in row[1:])
    assert ((found >= 0) & (found <= 1)).all()


def test_without_a_sample_the_rows_of_the_file_and_the_labels_of_the_model(model, folder):
    done = run(model, folder, sample=None)
    lines = (folder / "submission.csv").read_text().splitlines()
    assert done.columns == ("id", *model.bundle.labels)
    assert lines[0] == ",".join(done.columns)
    assert [line.split(",")[0] for line in lines[1:]] == ["0007", "1e5", "-x", "b1"]


def test_more_rows_than_one_chunk(model, tmp_path):
    num_rows = CHUNK_ROWS + 300
    ids = [f"{row:05d}" for row in range(num_rows)]
    (tmp_path / "test.csv").write_text("id,text\n" + "".join(f"{each},please help\n" for each in ids))
    (tmp_path / "sample.csv").write_text(
        "id,refund,delivery,praise\n" + "".join(f"{each},0,0,0\n" for each in reversed(ids))
    )
    heard = []
    submit(
        model,
        tmp_path / "test.csv",
        tmp_path / "out.csv",
        sample=tmp_path / "sample.csv",
        options=DataSettings(),
        on_progress=lambda done, total: heard.append((done, total)),
    )
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in lines[1:]] == ids[::-1]
    assert heard[-1] == (num_rows, num_rows)
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)


def test_every_problem_of_both_files_comes_at_once(model, folder):
    (folder / "sample.csv").write_text(
        "id,refund,Delivery,fury\nb1,0,0,0\nb1,0,0,0\nghost,0,0,0\n,0,0,0\n1e5,0\n"
    )
    with (folder / "test.csv").open("a") as file:
        file.write("b1,again\n0007,and again,too wide\n")
    found = refused(model, folder)
    assert found == [
        ("D107", "sample.csv", "2 columns, but the header has 4", (5,)),
        ("D155", "sample.csv", 'the model has no label "Delivery"', ()),
        ("D155", "sample.csv", 'the model has no label "fury"', ()),
        ("D155", "sample.csv", 'there is no column for the label "delivery"', ()),
        ("D155", "sample.csv", 'there is no column for the label "praise"', ()),
        ("D189", 'sample.csv, column "id"', "the id is empty", (4,)),
        ("D189", 'sample.csv, column "id"', "the id occurs twice", (1, 2)),
        ("D107", "test.csv", "3 columns, but the header has 2", (6,)),
        ("D189", 'test.csv, column "id"', "the id occurs twice", (4, 5)),
        ("D189", "sample.csv", "the id is not in test.csv", (3,)),
        ("D189", "test.csv", "the id is not in sample.csv", (1, 2, 3)),
    ]


def test_a_misspelt_column_is_suggested(model, folder):
    (folder / "sample.csv").write_text(SAMPLE.replace("delivery", "Delivery"))
    with pytest.raises(DataError) as error:
        run(model, folder)
    assert 'did you mean "delivery"?' in error.value.findings[0].next_step


def test_an_id_column_of_another_name_is_refused_unless_it_is_named(model, folder):
    (folder / "test.csv").write_text("Id,text\nb1,x\n0007,x\n-x,x\n1e5,x\n")
    (found,) = refused(model, folder)
    assert found[0] == "D156"
    assert 'there is no column "id", as in the sample' in found[2]
    assert run(model, folder, id_column="Id").columns[0] == "id"


def test_a_file_without_ids_or_rows_is_refused(model, folder):
    (folder / "none.csv").write_text("text\nsome words here\nother words here\n")
    assert refused(model, folder, source="none.csv", sample=None)[0][0] == "D156"
    (folder / "empty.csv").write_text("id,text\n")
    assert refused(model, folder, source="empty.csv", sample=None)[0][0] == "D104"
    (folder / "sample.csv").write_text("id,praise,refund,delivery\n")
    assert refused(model, folder)[0][:2] == ("D104", "sample.csv")


def test_a_sample_that_begins_with_a_label_is_refused(model, folder):
    (folder / "sample.csv").write_text("praise,refund,delivery\n0,0,0\n1,1,1\n")
    codes = {(code, found) for code, _, found, _ in refused(model, folder)}
    assert ("D155", 'the first column, "praise", is a label') in codes


@pytest.mark.parametrize(
    "name", ["submission.tsv", "submission", "absent/submission.csv", "test.csv", "sample.csv"]
)
def test_targets_that_cannot_be_written_are_refused_before_anything_is_read(model, folder, name):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert refused(model, folder, out=name)[0][0] == "U311"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_folder_that_takes_no_files_is_refused_before_anything_is_predicted(model, folder, monkeypatch):
    def refused_by_the_system(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refused_by_the_system)
    monkeypatch.setattr(module, "_predict", None)
    assert refused(model, folder)[0][0] == "U212"


def test_rows_without_a_text_are_counted(model, folder):
    (folder / "test.csv").write_text('id,text\n0007,\n1e5,"  "\n-x,where is my parcel\nb1,thanks\n')
    assert run(model, folder).without_text == 2


def test_a_model_that_gives_no_probability_is_refused(model, folder, monkeypatch):
    with pytest.raises(BundleError) as error:
        check_probabilities(
            np.array([[0.2, 0.5], [np.nan, 1.0], [1.1, 0.0], [0.0, -1e-9]]), ("a", "b"), "test.csv"
        )
    assert [(each.place, each.rows) for each in error.value.findings] == [
        ('test.csv, label "a"', (2, 3)),
        ('test.csv, label "b"', (4,)),
    ]
    predict = model.predictor.predict

    def broken(*arguments, **options):
        found = predict(*arguments, **options)
        return replace(found, probabilities_BL=found.probabilities_BL * np.nan)

    monkeypatch.setattr(model.predictor, "predict", broken)
    with pytest.raises(BundleError, match="B431"):
        run(model, folder)
    assert not (folder / "submission.csv").exists()


def test_what_a_disk_changed_is_found_before_the_file_appears(model, folder, monkeypatch):
    write = module._write

    def damaged(path, form, probabilities_NL):
        write(path, form, probabilities_NL)
        path.write_text(path.read_text().replace("0007", "0008"))

    monkeypatch.setattr(module, "_write", damaged)
    assert refused(model, folder)[0][0] == "D159"


@pytest.mark.parametrize(
    "damage", [lambda text: text[: text.rindex("1e5")], lambda text: text + "zz,0,0,0\n"]
)
def test_lines_that_are_missing_or_too_many_are_found(model, folder, monkeypatch, damage):
    write = module._write

    def damaged(path, form, probabilities_NL):
        write(path, form, probabilities_NL)
        path.write_text(damage(path.read_text()))

    monkeypatch.setattr(module, "_write", damaged)
    assert refused(model, folder)[0][0] == "D159"


@given(st.floats(0.0, 1.0))
@example(5e-324)
@example(0.1 + 0.2)
@example(1.0)
def test_a_figure_is_read_as_the_same_number_and_has_no_exponent(value):
    assert float(decimal(value)) == value
    assert "e" not in decimal(value)


def test_the_command(tiny_model, folder, capsys):
    from manylabel.cli.main import main

    arguments = ["submit", str(tiny_model), str(folder / "test.csv"), "--sample", str(folder / "sample.csv"),
                 "--out", str(folder / "submission.csv")]  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "4 rows written to" in told
    assert "note: 1 of 4 rows has no text; it gets the probabilities of an empty text" in told
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "U214" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--overwrite", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (ended.value.code, told["rows"], told["columns"][0]) == (0, 4, "id")
    assert told["rows_without_text"] == 1
    assert (folder / "submission.csv").stat().st_size > 0
    assert files.MANIFEST not in {path.name for path in folder.iterdir()}
