"""Tasks out and corrected labels back; every problem of an export at once."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest

from manylabel.data.label_studio import Task, labeling_interface, read_corrections, tasks_of
from manylabel.errors import DataError
from manylabel.values import Corpus, LabelSet

NAMES = ("refund", "late & <slow>", 'say "no"')


def corpus_of(targets, pairs=None):
    targets = np.asarray(targets, dtype=np.int8)
    ids = tuple(f"id-{row}" for row in range(len(targets)))
    texts = tuple(f"text {row}" for row in range(len(targets)))
    rows_N = np.arange(1, len(targets) + 1)
    return Corpus("mails.csv", texts, LabelSet(NAMES), targets, ids, rows_N, pairs=pairs)


@pytest.fixture
def corpus():
    return corpus_of([[1, 0, 0], [0, 0, 0], [0, 1, 1], [-1, 1, -1]])


def task(identity, *answers, **data):
    """A task as Label Studio exports it; an answer is (labels, fields of the annotation)."""
    annotations = [{"result": [choices(*labels)] if labels else [], **fields} for labels, fields in answers]
    return {"id": 7, "data": {"id": identity, **data}, "annotations": annotations, "predictions": []}


def choices(*labels):
    return {
        "from_name": "labels",
        "to_name": "text",
        "type": "choices",
        "origin": "manual",
        "value": {"choices": list(labels)},
    }


def read(tmp_path, corpus, content):
    path = tmp_path / "export.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return read_corrections(path, corpus)


def problems(tmp_path, corpus, content):
    with pytest.raises(DataError) as caught:
        read(tmp_path, corpus, content)
    return {finding.code: finding for finding in caught.value.findings}


def test_a_task_has_data_and_two_predictions_but_no_annotation(corpus):
    (made,) = tasks_of(corpus, [Task(2, ("refund",), 0.97, "why")], model_version="v1")
    assert made == {
        "data": {"id": "id-2", "text": "text 2", "suspected": "why"},
        "annotations": [],
        "predictions": [
            {
                "model_version": "labels of the file",
                "result": [
                    {
                        "from_name": "labels",
                        "to_name": "text",
                        "type": "choices",
                        "value": {"choices": ["late & <slow>", 'say "no"']},
                    }
                ],
            },
            {
                "model_version": "v1",
                "score": 0.97,
                "result": [
                    {
                        "from_name": "labels",
                        "to_name": "text",
                        "type": "choices",
                        "value": {"choices": ["refund"]},
                    }
                ],
            },
        ],
    }


def test_a_row_without_labels_and_pairs():
    corpus = corpus_of([[0, 0, 0]], pairs=("second",))
    (made,) = tasks_of(corpus, [Task(0, (), 0.5, "")], model_version="v1")
    assert made["annotations"] == []
    assert [each["result"] for each in made["predictions"]] == [[], []]
    assert made["data"]["pair"] == "second"


def test_the_interface_names_what_the_tasks_hold(corpus):
    root = ElementTree.fromstring(labeling_interface(corpus.labels, has_pair=True))
    assert [(each.get("name"), each.get("value")) for each in root.findall("Text")] == [
        ("text", "$text"),
        ("pair", "$pair"),
    ]
    assert root.find("Header").get("value") == "$suspected"
    question = root.find("Choices")
    assert (question.get("name"), question.get("toName"), question.get("choice")) == (
        "labels",
        "text",
        "multiple",
    )
    assert tuple(choice.get("value") for choice in question) == NAMES


@pytest.mark.parametrize("name", ["tab\there", "line\nend", " blanks ", "日本語 😀"])
def test_odd_names_come_back_from_the_xml(name):
    root = ElementTree.fromstring(labeling_interface(LabelSet((name,)), has_pair=False))
    assert root.find("Choices")[0].get("value") == name


@pytest.mark.parametrize("name", ["\x1b[2J", "\0", "\ufffe", "\ud800"])
def test_names_that_xml_cannot_hold_are_refused(name):
    with pytest.raises(DataError, match="D187"):
        labeling_interface(LabelSet(("good", name)), has_pair=False)


def test_corrections_are_laid_over_the_labels(tmp_path, corpus):
    content = [
        task("id-0", (["late & <slow>"], {}), text="text 0"),
        task("id-1", ([], {})),
        task("id-3", (["refund"], {})),
    ]
    found = read(tmp_path, corpus, content)
    assert found.targets_NL.tolist() == [[0, 1, 0], [0, 0, 0], [0, 1, 1], [1, 0, -1]]
    assert (found.rows_seen, found.cells_changed, found.notes) == (3, 4, ())
    assert corpus.targets_NL[0].tolist() == [1, 0, 0]


def test_the_newest_annotation_counts_that_was_not_cancelled(tmp_path, corpus):
    content = [
        task(
            "id-1",
            (["refund"], {"updated_at": "2026-03-02T10:00:00Z"}),
            ([NAMES[1]], {"updated_at": "2026-03-03T10:00:00Z"}),
            ([NAMES[2]], {"updated_at": "2026-03-04T10:00:00Z", "was_cancelled": True}),
            (["refund"], {}),
        ),
        task("id-0", ([NAMES[1]], {}), ([NAMES[2]], {})),
    ]
    assert read(tmp_path, corpus, content).targets_NL[:2].tolist() == [[0, 0, 1], [0, 1, 0]]


def test_tasks_without_annotation_are_told_and_keep_their_labels(tmp_path, corpus):
    content = [task("id-0"), task("id-2", (["refund"], {"was_cancelled": True})), task("id-1", ([], {}))]
    found = read(tmp_path, corpus, content)
    assert np.array_equal(found.targets_NL, corpus.targets_NL)
    (note,) = found.notes
    assert (note.code, note.severity) == ("D186", "warning")
    assert '"id-0", "id-2"' in note.found


def test_everything_wrong_is_told_at_once(tmp_path, corpus):
    content = [
        task("id-9", ([], {})),
        task("id-0", (["refnd"], {})),
        task("id-1", (["refund"], {}), text="another"),
        task("id-2", (["refund"], {})),
        task("id-2", ([], {})),
        task("id-3"),
        {"id": 3, "text": "a row of JSON-MIN", "labels": "refund"},
        {"data": {"id": "id-0"}, "annotations": [{"result": [{"type": "rating", "value": {"rating": 3}}]}]},
    ]
    found = problems(tmp_path, corpus, content)
    assert sorted(found) == ["D182", "D183", "D184", "D185", "D186"]
    assert '"7", "8"' in found["D182"].found
    assert '"id-9"' in found["D183"].found
    assert '"refnd"' in found["D184"].found
    assert "refund" in found["D184"].allowed
    assert '"id-3"' in found["D186"].found
    assert "another" not in str(found)


@pytest.mark.parametrize(
    "content", ["", "not json", "{}", "[1]", '[{"data": 3, "annotations": []}]', "[" * 20_000]
)
def test_what_is_no_export_is_refused(tmp_path, corpus, content):
    assert "JSON-MIN" in problems(tmp_path, corpus, content)["D182"].next_step


def test_no_file(tmp_path, corpus):
    with pytest.raises(DataError, match="D101"):
        read_corrections(tmp_path / "absent.json", corpus)


def test_tasks_that_nobody_looked_at_are_no_answers(tmp_path, corpus):
    rows = [Task(row, (), 0.5, "") for row in range(4)]
    found = read(tmp_path, corpus, tasks_of(corpus, rows, model_version="v"))
    assert np.array_equal(found.targets_NL, corpus.targets_NL)
    assert (found.rows_seen, found.tasks_skipped) == (0, 4)
    (note,) = found.notes
    assert "4 tasks skipped" in note.found


def test_given_labels_that_were_imported_as_annotations_are_no_answers(tmp_path, corpus):
    """As Label Studio exports tasks with annotations that were imported: nobody's seconds, the time of the import."""
    imported = {
        "lead_time": None,
        "created_at": "2026-03-02T10:00:00.1Z",
        "updated_at": "2026-03-02T10:00:00.2Z",
    }
    seen = {"lead_time": 3.2, "created_at": "2026-03-02T10:00:00Z", "updated_at": "2026-03-02T11:00:00Z"}
    content = [
        task("id-0", (["refund"], imported)),
        task("id-1", (["refund"], imported | {"last_action": "imported"})),
        # Looked at, and found right or wrong; and one imported beside one of a person.
        task("id-2", (NAMES[1:], seen)),
        task("id-3", ([NAMES[1]], imported), ([NAMES[2]], seen)),
    ]
    found = read(tmp_path, corpus, content)
    assert found.targets_NL.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 1], [-1, 0, 1]]
    assert (found.rows_seen, found.tasks_skipped, found.cells_changed) == (2, 2, 2)
    # Nor where the rows have other labels since: what was imported then would undo a correction.
    assert read(tmp_path, corpus, [task("id-0", ([NAMES[1]], imported))]).rows_seen == 0
