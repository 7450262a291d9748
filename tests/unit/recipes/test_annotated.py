"""Rows without any annotated label are not scored; labels may come in a file of their own."""

import csv
import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from manylabel.config.schema import DataSettings
from manylabel.errors import DataError, UsageError
from manylabel.inference.load import load_model
from manylabel.recipes.evaluate import evaluate_model, joined_with_labels, judge_model, load_annotated
from manylabel.training.observers import SilentObserver

LABELS = ("refund", "delivery", "praise")


class Told(SilentObserver):
    def __init__(self):
        self.lines = []

    def stage(self, text):
        self.lines.append(text)


@pytest.fixture(scope="module")
def model(tiny_model):
    return load_model(tiny_model)


@pytest.fixture
def files(tmp_path, tiny_mails):
    """test.csv of 40 new texts and test_labels.csv in another order, of which 12 rows are all -1 and one has one -1."""
    with tiny_mails.open(newline="") as file:
        mails = list(csv.DictReader(file))[:40]
    rows = [(mail["id"], f"unseen {mail['text']} number{row}", [int(mail[name]) for name in LABELS])
            for row, mail in enumerate(mails)]  # fmt: skip
    for row in range(0, 36, 3):
        rows[row] = (*rows[row][:2], [-1, -1, -1])
    rows[1][2][0] = -1
    with (tmp_path / "test.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "text"), *(row[:2] for row in rows)])
    with (tmp_path / "test_labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", *LABELS), *((row[0], *row[2]) for row in reversed(rows))])
    return tmp_path / "test.csv", tmp_path / "test_labels.csv", rows


def test_the_mean_column_wise_roc_auc_is_scikit_learns_on_the_annotated_cells(model, files):
    texts, labels, rows = files
    told = Told()
    table = joined_with_labels(model, texts, labels, options=DataSettings(), observer=told)
    rows_of_file = load_annotated(model, table, options=DataSettings(), observer=told)
    settings = model.bundle.settings.evaluation.model_copy(update={"resamples": 0})
    figures = judge_model(model, rows_of_file, observer=told, settings=settings).to_json()
    probabilities_NL = model.predictor.probabilities([row[1] for row in rows])
    targets_NL = np.array([row[2] for row in rows])
    expected = np.mean([
        roc_auc_score(targets_N[targets_N >= 0], probabilities_N[targets_N >= 0])
        for targets_N, probabilities_N in zip(targets_NL.T, probabilities_NL.T, strict=True)
    ])  # fmt: skip
    assert figures["mean_column_wise_roc_auc"] == pytest.approx(expected, abs=1e-12)
    assert figures["mean_column_wise_roc_auc"] == figures["macro"]["roc_auc"]
    assert (figures["rows"], figures["rows_in_file"], figures["rows_not_annotated"]) == (28, 40, 12)
    assert "  28 of 40 rows are annotated; the others are not scored" in told.lines


def test_without_such_rows_nothing_is_left_out_or_told(model, tiny_mails):
    told = Told()
    rows_of_file = load_annotated(model, tiny_mails, options=DataSettings(), observer=told)
    assert (len(rows_of_file.corpus), rows_of_file.rows_given) == (120, None)
    settings = model.bundle.settings.evaluation.model_copy(update={"resamples": 0})
    figures = judge_model(model, rows_of_file, observer=told, settings=settings).to_json()
    assert "rows_in_file" not in figures
    assert not any("annotated" in line for line in told.lines)


def test_rows_that_are_all_unannotated_are_refused(model, tmp_path):
    path = tmp_path / "test.csv"
    path.write_text(
        "id,text,refund,delivery,praise\n" + "".join(f"{n},text {n},-1,-1,-1\n" for n in range(9))
    )
    with pytest.raises(DataError) as refused:
        evaluate_model(model, path, options=DataSettings(), observer=SilentObserver())
    (found,) = refused.value.findings
    assert (found.code, found.place) == ("D167", "test.csv")
    assert "none of its 9 rows is annotated" in found.found


def test_labels_in_a_file_of_their_own_that_are_all_unannotated_are_refused_in_its_name(model, tmp_path):
    texts, labels = tmp_path / "test.csv", tmp_path / "test_labels.csv"
    texts.write_text("id,text\n" + "".join(f"{n},text {n}\n" for n in range(9)))
    labels.write_text("id,refund,delivery,praise\n" + "".join(f"{n},-1,-1,-1\n" for n in range(9)))
    with pytest.raises(DataError) as refused:
        joined_with_labels(model, texts, labels, options=DataSettings(), observer=SilentObserver())
    (found,) = refused.value.findings
    assert (found.code, found.place) == ("D167", "test_labels.csv")
    assert "--labels" not in found.next_step


def test_the_labels_cannot_be_the_file_of_the_texts(model, files):
    with pytest.raises(UsageError, match="U312"):
        joined_with_labels(model, files[0], files[0], options=DataSettings(), observer=SilentObserver())


def test_the_command_prints_it_and_gives_it_as_json(tiny_model, files, capsys):
    from manylabel.cli.main import main

    arguments = ["evaluate", str(tiny_model), str(files[0]), "--labels", str(files[1]), "--resamples", "50"]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--quiet", "--by-length"])
    shown = capsys.readouterr()
    assert ended.value.code == 0, shown.err
    assert "mean column-wise ROC-AUC (the macro ROC-AUC): " in shown.out
    assert "28 of 40 rows are annotated" in shown.out
    with pytest.raises(SystemExit):
        main([*arguments, "--json"])
    figures = json.loads(capsys.readouterr().out)
    assert figures["mean_column_wise_roc_auc"] == figures["macro"]["roc_auc"]
    assert figures["rows_not_annotated"] == 12


def test_slices_by_a_column_of_the_joined_files(tiny_model, files, capsys):
    from manylabel.cli.main import main

    texts = files[0]
    with texts.open(newline="") as file:
        rows = list(csv.reader(file))
    with texts.open("w", newline="") as file:
        csv.writer(file).writerows([[*row, "shop" if n else "source"] for n, row in enumerate(rows)])
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(tiny_model), str(texts), "--labels", str(files[1]), "--slice", "source", "--resamples",
              "0", "--json"])  # fmt: skip
    assert ended.value.code == 0
    (part,) = json.loads(capsys.readouterr().out)["slices"]
    assert (part["column"], part["value"], part["rows"]) == ("source", "shop", 28)
