"""Suspected labels of a file, for the report of its rows."""

import json

import numpy as np
import pytest

from manylabel.errors import DataError
from manylabel.recipes.known_errors import errors_of_rows, read_errors
from manylabel.values import Corpus, LabelSet

CELLS = (
    {"id": "m1", "label": "a", "given": 1, "probability": 0.02},
    {"id": "m3", "label": "b", "given": 0, "probability": 0.97},
)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def corpus(targets, ids=None):
    ids = ids or tuple(f"m{row}" for row in range(len(targets)))
    return Corpus("mails.csv", ("text",) * len(targets), LabelSet(("a", "b")), np.array(targets, np.int8), ids,
                  np.arange(1, len(targets) + 1))  # fmt: skip


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_what_a_search_writes_is_read_and_contradictions_are_left_to_the_report(tmp_path, kind):
    path = tmp_path / f"label-errors.{kind}"
    copies = {"rank": None, "id": "m0", "row": 1, "label": "a", "given": 1, "probability": 0.4, "score": None,
              "reason": "contradictory copies"}  # fmt: skip
    rows = [
        {"rank": n, **cell, "reason": "model", "text": "a secret"} for n, cell in enumerate(CELLS, start=1)
    ]
    if kind == "jsonl":
        write(path, [*rows, copies])
    else:
        lines = [",".join(map(str, (*cell.values(), "model"))) for cell in CELLS]
        path.write_text("id,label,given,probability,reason\n" + "\n".join(lines) + "\n")
    assert read_errors(path) == CELLS


@pytest.mark.parametrize(
    "row",
    [
        {"id": "m1", "label": "a", "given": 2, "probability": 0.5},
        {"id": "m1", "label": "a", "given": 1, "probability": 1.5},
        {"id": "m1", "label": None, "given": 1, "probability": 0.5},
    ],
)
def test_other_files_are_refused(tmp_path, row):
    with pytest.raises(DataError, match=r"D178 errors\.jsonl, row 2: this is no suspected label"):
        read_errors(write(tmp_path / "errors.jsonl", [CELLS[0], row]))
    with pytest.raises(DataError, match=r'D178 .*it has no column "given", "probability"'):
        read_errors(write(tmp_path / "other.jsonl", [{"id": "1", "label": "a"}]))


def test_cells_of_these_rows_stay_and_the_rest_is_counted():
    rows = corpus([[1, 0]] * 30)
    cells = [{**CELLS[0], "id": f"m{row}"} for row in range(30)]
    known = errors_of_rows(
        [*cells, {**CELLS[0], "id": "gone"}, {**CELLS[0], "label": "c"}], rows, "errors.jsonl"
    )
    assert known.cells == tuple(cells)
    assert known.left_out == "Left out: 2 of other rows or labels."
    # A label that was corrected since the search is no error any more.
    corrected = corpus([[0, 0], *[[1, 0]] * 29])
    known = errors_of_rows(cells, corrected, "errors.jsonl")
    assert known.cells == tuple(cells[1:])
    assert known.left_out == "Left out: 1 that have another label by now."
    assert errors_of_rows([], rows, "errors.jsonl").cells == ()


def test_a_search_of_another_file_is_refused():
    with pytest.raises(DataError, match=r"D179 .*none of its 2 cells is of these rows"):
        errors_of_rows(CELLS, corpus([[1, 0]], ids=("x",)), "errors.jsonl")
    with pytest.raises(DataError, match=r"D179 .*1 of 2 cells have another label"):
        errors_of_rows(CELLS, corpus([[0, 0]] * 4), "errors.jsonl")
