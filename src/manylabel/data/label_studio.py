"""Rows for people to look at in Label Studio, and their corrected labels back. Called by recipes/label_errors.py.

The formats are Label Studio's own: tasks with `data`, `annotations` and `predictions` to import, the XML of the
labelling interface, and the JSON export (not JSON-MIN). They are described at labelstud.io/guide: tasks, predictions,
task_format.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from manylabel.data.formats import missing_file
from manylabel.data.problems import finding, shown_value
from manylabel.errors import MAX_ROWS_SHOWN, DataError, Finding, counted
from manylabel.values import NOT_ANNOTATED, Corpus, IntArray, LabelSet

LABELS, TEXT, PAIR, HINT = "labels", "text", "pair", "suspected"
"""Names that the interface, the tasks and the export share."""
GIVEN = "labels of the file"
"""The name of the prediction that holds what was given."""
WRITABLE_CONTROLS = "\t\n\r"
"""Control characters that XML 1.0 can write."""


@dataclass(frozen=True)
class Task:
    """One row to look at: its position in the corpus, what the model says of it, and why it is shown.

    `score` is how sure the model is of its answer for the most doubtful label, 0 to 1.
    """

    row: int
    predicted: tuple[str, ...]
    score: float
    hint: str


@dataclass(frozen=True, eq=False)
class Corrections:
    """The labels after people looked: int8 of N rows and L labels.

    `rows_seen` counts rows that somebody answered, `tasks_skipped` tasks without a completed annotation; `notes` name
    these.
    """

    targets_NL: IntArray
    rows_seen: int
    cells_changed: int
    tasks_skipped: int
    notes: tuple[Finding, ...]


def tasks_of(corpus: Corpus, tasks: Iterable[Task], *, model_version: str) -> list[dict[str, Any]]:
    """Tasks to import: text and id as data, the given labels and the model's as predictions.

    The given labels are no annotation: Label Studio counts a task that has one as done, before anybody looked at it.
    """
    return [_task(corpus, task, model_version) for task in tasks]


def labeling_interface(labels: LabelSet, *, has_pair: bool) -> str:
    """The XML of the labelling interface, for Settings > Labeling Interface > Code.

    Raises:
        DataError: a label's name has a character that XML cannot write.
    """
    refused = [name for name in labels.names if not all(map(_is_xml, name))]
    if refused:
        listed = ", ".join(f'"{name}"' for name in refused)
        found, step = (
            f"XML cannot write the name of the label {listed}",
            "rename it, or leave out --label-studio",
        )
        raise DataError(finding("D187", "Label Studio", found, "names without control characters", step))
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Header", value=f"${HINT}", size="5")
    for name in (TEXT, PAIR) if has_pair else (TEXT,):
        ElementTree.SubElement(view, "Text", name=name, value=f"${name}")
    choices = ElementTree.SubElement(
        view, "Choices", name=LABELS, toName=TEXT, choice="multiple", showInline="true"
    )
    for name in labels.names:
        ElementTree.SubElement(choices, "Choice", value=name)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def read_corrections(path: Path, corpus: Corpus) -> Corrections:
    """The labels in a JSON export, laid over those of the corpus; rows without a task keep theirs.

    Of several annotations of a task the newest counts that somebody completed. A task without one is not counted as
    seen: it has none, or only such as were cancelled or imported. A chosen
    label becomes 1. One that is not chosen becomes 0, but stays -1 where it was: nobody can say whether it was seen.

    Raises:
        DataError: with everything that is wrong with the export at once, tasks without annotation included.
    """
    reader = _Reader(path.name, corpus)
    for number, item in enumerate(_items(path), start=1):
        reader.take(number, item)
    return reader.result()


def _task(corpus: Corpus, task: Task, model_version: str) -> dict[str, Any]:
    targets_L = corpus.targets_NL[task.row]
    given = [name for name, value in zip(corpus.labels.names, targets_L, strict=True) if value == 1]
    pair = {} if corpus.pairs is None else {PAIR: corpus.pairs[task.row]}
    return {
        "data": {"id": corpus.ids[task.row], TEXT: corpus.texts[task.row], **pair, HINT: task.hint},
        "annotations": [],
        "predictions": [
            {"model_version": GIVEN, "result": _result(given)},
            {"model_version": model_version, "score": task.score, "result": _result(task.predicted)},
        ],
    }


def _result(labels: Sequence[str]) -> list[dict[str, Any]]:
    """The answer to the one question of the interface; an empty list where no label is chosen."""
    if not labels:
        return []
    value = {"choices": list(labels)}
    return [{"from_name": LABELS, "to_name": TEXT, "type": "choices", "value": value}]


def _is_xml(character: str) -> bool:
    """Whether XML 1.0 (section 2.2, Char) has the character."""
    code = ord(character)
    if code < 0x20:
        return character in WRITABLE_CONTROLS
    return not (0xD800 <= code <= 0xDFFF or code in {0xFFFE, 0xFFFF})


def _items(path: Path) -> list[Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise missing_file(path) from None
    except (UnicodeDecodeError, ValueError, RecursionError) as problem:
        raise DataError(_no_export(path.name, "the file is not JSON")) from problem
    if not isinstance(content, list):
        raise DataError(_no_export(path.name, "the file is not a list of tasks"))
    return content


def _no_export(source: str, found: str) -> Finding:
    step = 'export the project as "JSON" (not JSON-MIN or CSV)'
    return finding("D182", source, found, "Label Studio's JSON export", step)


class _Reader:
    """Takes tasks one by one and remembers every problem."""

    def __init__(self, source: str, corpus: Corpus) -> None:
        self._source, self._corpus = source, corpus
        self._row_of = {identity: row for row, identity in enumerate(corpus.ids)}
        self._answers: dict[int, frozenset[str]] = {}
        self._shapeless: list[str] = []
        self._unknown_ids: list[str] = []
        self._unknown_labels: dict[str, list[str]] = {}
        self._other_texts: list[int] = []
        self._twice: list[int] = []
        self._unanswered: list[str] = []

    def take(self, number: int, item: Any) -> None:  # noqa: ANN401 - what JSON holds
        """Note the answer of one task; `number` counts from 1."""
        data = item.get("data") if isinstance(item, dict) else None
        annotations = item.get("annotations") if isinstance(item, dict) else None
        if not isinstance(data, dict) or not isinstance(annotations, list) or "id" not in data:
            self._shapeless.append(f"{number:,}")
            return
        identity = str(data["id"])
        row = self._row_of.get(identity)
        if row is None:
            self._unknown_ids.append(identity)
            return
        if data.get(TEXT, self._corpus.texts[row]) != self._corpus.texts[row]:
            self._other_texts.append(row)
        annotation = _newest(annotations)
        if annotation is None:
            self._unanswered.append(identity)
            return
        answer = _choices(annotation)
        if answer is None:
            self._shapeless.append(f"{number:,}")
            return
        for name in sorted(answer - set(self._corpus.labels.names)):
            self._unknown_labels.setdefault(name, []).append(identity)
        if self._answers.setdefault(row, answer) != answer:
            self._twice.append(row)

    def result(self) -> Corrections:
        """The corrected targets. Raises DataError with every error, and with the notes."""
        errors, notes = self._errors(), self._notes()
        if errors:
            raise DataError(*errors, *notes)
        targets_NL = self._corpus.targets_NL.copy()
        for row, answer in self._answers.items():
            chosen_L = np.array([name in answer for name in self._corpus.labels.names])
            before_L = targets_NL[row]
            targets_NL[row] = np.where(chosen_L, 1, np.where(before_L == NOT_ANNOTATED, NOT_ANNOTATED, 0))
        changed = int((targets_NL != self._corpus.targets_NL).sum())
        return Corrections(targets_NL, len(self._answers), changed, len(self._unanswered), tuple(notes))

    def _errors(self) -> list[Finding]:
        labels, source, errors = self._corpus.labels.names, self._corpus.source, []
        if self._shapeless:
            found = (
                f"task {_listed(self._shapeless)} has no data with an id, no annotations, or other answers"
            )
            errors.append(_no_export(self._source, f"{found} than to the question {LABELS}"))
        if self._unknown_ids:
            found = f"there is no row with the id {_listed(self._unknown_ids)} in {source}"
            step = "give the file the tasks were made from"
            errors.append(finding("D183", self._source, found, "ids of that file", step))
        for name, ids in self._unknown_labels.items():
            shown = shown_value(name, known=labels, is_named=True)
            found = f"the label {shown} of the task with id {_listed(ids)} is not one of the file's"
            step = "use the interface that was written beside the tasks"
            errors.append(finding("D184", self._source, found, ", ".join(labels), step))
        errors += self._row_errors()
        return errors

    def _row_errors(self) -> list[Finding]:
        kinds = (
            (self._other_texts, "the task of the row has another text",
             "the text the task was made from", "give the file the tasks were made from"),
            (self._twice, "several tasks of the row have different labels",
             "one answer a row", "decide which is right and remove the other tasks"),
        )  # fmt: skip
        place = f"{self._source}, tasks of {self._corpus.source}"
        return [
            finding(
                "D185", place, found, allowed, step, rows=tuple(sorted(self._corpus.rows_N[rows].tolist()))
            )
            for rows, found, allowed, step in kinds
            if rows
        ]

    def _notes(self) -> list[Finding]:
        if not self._unanswered:
            return []
        tasks = counted(len(self._unanswered), "task")
        ids = _listed(self._unanswered)
        found = f"{tasks} skipped, not completed by anybody: id {ids}; their rows keep their labels"
        step = "submit them in Label Studio, or leave it so"
        allowed = "a completed annotation a task"
        return [finding("D186", self._source, found, allowed, step, severity="warning")]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MAX_ROWS_SHOWN
    shown = ", ".join(f'"{name}"' for name in names[:MAX_ROWS_SHOWN])
    return f"{shown} and {more:,} more" if more > 0 else shown


def _newest(annotations: Sequence[Any]) -> Mapping[str, Any] | None:
    """The annotation of the latest time that somebody completed; of equal times the last one listed."""
    done = [each for each in annotations if isinstance(each, dict) and _is_completed(each)]
    return max(
        reversed(done),
        key=lambda each: str(each.get("updated_at") or each.get("created_at") or ""),
        default=None,
    )


def _is_completed(annotation: Mapping[str, Any]) -> bool:
    """Whether somebody answered: not cancelled, and not imported.

    Label Studio exports the seconds that somebody worked as `lead_time`, null for what was imported, and newer versions
    the last action.
    """
    if annotation.get("was_cancelled") or annotation.get("last_action") == "imported":
        return False
    return annotation.get("lead_time", 0.0) is not None


def _choices(annotation: Mapping[str, Any]) -> frozenset[str] | None:
    """The labels chosen; None where the annotation answers something else."""
    result = annotation.get("result")
    if not isinstance(result, list) or not all(isinstance(region, dict) for region in result):
        return None
    answers = [
        region for region in result if region.get("type") == "choices" and region.get("from_name") == LABELS
    ]
    if result and not answers:
        return None
    values = [region.get("value") for region in answers]
    lists = [value.get("choices") if isinstance(value, dict) else None for value in values]
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
        return None
    return frozenset(name for names in lists if names for name in names)
