"""The search for label errors from file to files, through Label Studio and back; nothing half-written."""

import csv
import json

import numpy as np
import pytest

from manylabel.cli.main import main
from manylabel.config.load import load_settings
from manylabel.config.schema import DataSettings
from manylabel.data.corpus import load_corpus
from manylabel.data.read import read_table
from manylabel.errors import DataError, TrainingStopped, UsageError
from manylabel.recipes.label_errors import ErrorSearch, correct_labels, search_label_errors
from manylabel.training.observers import SilentObserver

LABELS = ("refund", "delivery", "praise")


@pytest.fixture(scope="module")
def settings(tiny_encoder):
    values = {
        "model.encoder": str(tiny_encoder),
        "training.epochs": 4,
        "training.batch_size": 4,
        "training.learning_rate": 0.003,
        "training.precision": "fp32",
        "text.max_length": 64,
    }
    return load_settings(None, [f"{name}={value}" for name, value in values.items()])


@pytest.fixture(scope="module")
def searched(tiny_mails, settings, tmp_path_factory):
    """Mails with wrong labels and a contradictory copy: (folder, file, rows that were right, report)."""
    folder = tmp_path_factory.mktemp("errors")
    with tiny_mails.open(newline="") as file:
        right = list(csv.DictReader(file))
    right.append({**right[3], "id": "copy", "refund": str(1 - int(right[3]["refund"]))})
    wrong = [dict(row) for row in right]
    for row in range(0, 120, 10):
        label = LABELS[row // 10 % 3]
        wrong[row][label] = str(1 - int(wrong[row][label]))
    source = folder / "mails.csv"
    with source.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(wrong[0]))
        writer.writeheader()
        writer.writerows(wrong)
    search = ErrorSearch(source, folder / "errors.csv", 2, folder / "tasks.json", include_texts=True)
    report = search_label_errors(search, settings=settings, observer=SilentObserver())
    return folder, source, right, report


def test_the_report_names_ids_and_rows_and_no_text(searched):
    _, source, _, report = searched
    content = report.to_json()
    corpus = load_corpus(source, DataSettings()).corpus
    assert content["rows"] == 121
    assert content["label_errors"]
    for each in content["label_errors"]:
        row = corpus.ids.index(each["id"])
        assert each["row"] == corpus.rows_N[row]
        assert each["given"] == corpus.targets_NL[row, corpus.labels.names.index(each["label"])]
    assert [each["rank"] for each in content["label_errors"]] == list(
        range(1, len(content["label_errors"]) + 1)
    )
    assert content["contradictions"] == [{"ids": ["mail-3", "copy"], "rows": [4, 121], "labels": ["refund"]}]
    assert not any(text in json.dumps(content) for text in corpus.texts)


def test_the_table_holds_all_of_it(searched):
    folder, _, right, report = searched
    rows = read_table(folder / "errors.csv", DataSettings()).to_pylist()
    assert len(rows) == len(report.errors.suspected) + 2
    assert [row["reason"] for row in rows[-2:]] == ["contradictory copies"] * 2
    assert {row["id"] for row in rows[-2:]} == {"mail-3", "copy"}
    texts = {row["id"]: row["text"] for row in right}
    assert all(row["text"] == texts[row["id"]] for row in rows)
    assert sorted(path.name for path in folder.iterdir()) == [
        "errors.csv",
        "mails.csv",
        "tasks.json",
        "tasks.xml",
    ]


def test_to_label_studio_and_back(searched, tmp_path):
    """Somebody answers every task rightly; the file then has the right labels in those rows, and else its own."""
    folder, source, right, _ = searched
    by_id = {row["id"]: row for row in right}
    export = json.loads((folder / "tasks.json").read_text())
    for number, task in enumerate(export):
        answer = [label for label in LABELS if by_id[task["data"]["id"]][label] == "1"]
        result = [{"type": "choices", "from_name": "labels", "to_name": "text", "value": {"choices": answer}}]
        task["id"] = number + 100
        task["annotations"].append({"updated_at": "2026-01-01T00:00:00Z", "result": result if answer else []})
    (tmp_path / "export.json").write_text(json.dumps(export))
    out = tmp_path / "corrected.csv"
    done = correct_labels(
        source, tmp_path / "export.json", out, options=DataSettings(), observer=SilentObserver()
    )
    seen = {task["data"]["id"] for task in export}
    assert {"mail-3", "copy"} <= seen
    before, after = (load_corpus(path, DataSettings()).corpus for path in (source, out))
    assert before.texts == after.texts
    assert before.ids == after.ids
    changed = 0
    for row, identity in enumerate(after.ids):
        answered = [int(by_id[identity][label]) for label in after.labels.names]
        expected = answered if identity in seen else before.targets_NL[row].tolist()
        assert after.targets_NL[row].tolist() == expected
        changed += int((after.targets_NL[row] != before.targets_NL[row]).sum())
    assert changed > 0
    assert (done.rows_seen, done.cells_changed, done.tasks_skipped) == (len(seen), changed, 0)


def test_tasks_that_nobody_completed_change_nothing_and_are_counted(searched, tmp_path, capsys):
    folder, source, _, _ = searched
    out, export = tmp_path / "corrected.csv", folder / "tasks.json"
    with pytest.raises(SystemExit) as ended:
        main(["label-errors", str(source), "--corrected", str(export), "--out", str(out)])
    assert ended.value.code == 0
    tasks = len(json.loads(export.read_text()))
    told = " ".join(capsys.readouterr().out.split())
    assert f"0 rows with an answer, 0 labels changed, {tasks} tasks skipped (nobody completed them)" in told
    assert load_corpus(out, DataSettings()).corpus.targets_NL.tolist() == (
        load_corpus(source, DataSettings()).corpus.targets_NL.tolist()
    )


def test_predictions_are_the_labels_above_the_threshold(searched):
    folder, _, _, report = searched
    for task in json.loads((folder / "tasks.json").read_text()):
        row = report.corpus.ids.index(task["data"]["id"])
        names = report.corpus.labels.names
        likely = [
            name for name, value in zip(names, report.probabilities_NL[row], strict=True) if value >= 0.5
        ]
        of_file, prediction = task["predictions"]
        given = {name for region in of_file["result"] for name in region["value"]["choices"]}
        assert given == {
            name for name, value in zip(names, report.corpus.targets_NL[row], strict=True) if value == 1
        }
        chosen = [name for region in prediction["result"] for name in region["value"]["choices"]]
        assert chosen == likely
        assert 0 <= prediction["score"] <= 1
        assert "given" in task["data"]["suspected"] or "another copy" in task["data"]["suspected"]


def test_an_interrupted_search_goes_on_to_the_same_table(searched, settings, tmp_path):
    folder, source, _, _ = searched
    search = ErrorSearch(source, tmp_path / "errors.csv", 2, include_texts=True)

    def should_stop():
        return (search.work_folder / "fold-1.safetensors").exists()

    with pytest.raises(TrainingStopped):
        search_label_errors(search, settings=settings, observer=SilentObserver(), should_stop=should_stop)
    assert [path.name for path in tmp_path.iterdir()] == ["errors.csv.folds"]
    search_label_errors(search, settings=settings, observer=SilentObserver())
    assert (tmp_path / "errors.csv").read_bytes() == (folder / "errors.csv").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["errors.csv"]


@pytest.mark.parametrize(
    ("out", "tasks", "code"),
    [
        ("errors.txt", None, "D103"),
        ("absent/errors.csv", None, "U209"),
        ("mails.csv", None, "U204"),
        ("errors.csv", "tasks.xml", "U342"),
        ("errors.csv", "absent/tasks.json", "U209"),
    ],
)
def test_outputs_that_cannot_be_written_are_refused_first(tiny_mails, settings, tmp_path, out, tasks, code):
    source = tmp_path / "mails.csv"
    source.write_bytes(tiny_mails.read_bytes())
    search = ErrorSearch(source, tmp_path / out, 2, tmp_path / tasks if tasks else None)
    with pytest.raises(UsageError) as caught:
        search_label_errors(search, settings=settings, observer=SilentObserver())
    assert caught.value.findings[0].code == code
    assert [path.name for path in tmp_path.iterdir()] == ["mails.csv"]


def test_a_wrong_export_leaves_no_file(tiny_mails, tmp_path):
    export = tmp_path / "export.json"
    export.write_text('[{"data": {"id": "nobody"}, "annotations": [{"result": []}]}]')
    with pytest.raises(DataError, match="D183"):
        correct_labels(
            tiny_mails, export, tmp_path / "out.csv", options=DataSettings(), observer=SilentObserver()
        )
    assert [path.name for path in tmp_path.iterdir()] == ["export.json"]


def test_the_same_search_gives_the_same_probabilities(searched, settings, tmp_path):
    _, source, _, report = searched
    again = search_label_errors(
        ErrorSearch(source, tmp_path / "e.jsonl", 2), settings=settings, observer=SilentObserver()
    )
    assert np.array_equal(again.probabilities_NL, report.probabilities_NL)
    assert again.errors == report.errors
