"""How a finding becomes a sentence and plain values."""

import json

import pytest

from manylabel.errors import Finding, counted


@pytest.mark.parametrize("step", ['did you mean "text"?', "stop here.", "now!"])
def test_a_sentence_ends_once(step):
    sentence = Finding("D101", "a.csv", "no such file", next_step=step).sentence()
    assert sentence == f"D101 a.csv: no such file. Next: {step}"


def test_a_sentence_without_an_end_gets_one():
    finding = Finding("D107", "a.csv", "2 columns", "3 columns", "add the missing cells", rows=(1, 2))
    assert finding.sentence() == (
        "D107 a.csv, rows 1, 2: 2 columns. Allowed: 3 columns. Next: add the missing cells."
    )


def test_plain_values_hold_every_field():
    finding = Finding(
        "D107", "a.csv", "2 columns", "3 columns", "add a cell", rows=(1, 2), severity="warning"
    )
    assert json.loads(json.dumps(finding.to_json())) == {
        "code": "D107",
        "severity": "warning",
        "place": "a.csv",
        "found": "2 columns",
        "allowed": "3 columns",
        "next_step": "add a cell",
        "rows": [1, 2],
    }


@pytest.mark.parametrize(
    ("count", "words", "expected"),
    [
        (0, ("row",), "0 rows"),
        (1, ("row",), "1 row"),
        (2000, ("row",), "2,000 rows"),
        (1, ("entry", "entries"), "1 entry"),
        (2, ("entry", "entries"), "2 entries"),
    ],
)
def test_one_and_several(count, words, expected):
    assert counted(count, *words) == expected
