"""How a finding becomes a sentence and plain values."""

import json

import pytest

from manylabel.errors import QUOTED, DataError, Finding, counted, told_together


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


def lacking(name, *, rows=()):
    return Finding("D150", "a.csv", f'there is no column for the label "{name}"', "a, b", "add it", rows)


def test_findings_that_differ_in_one_name_are_told_as_one():
    names = [f"label {number}" for number in range(28)]
    (line,) = DataError(*map(lacking, names)).args[0].splitlines()
    first = ", ".join(f'"{name}"' for name in names[:10])
    assert line == (
        f"D150 a.csv: there is no column for the labels {first} and 18 more. Allowed: a, b. Next: add it."
    )
    assert len(DataError(*map(lacking, names)).findings) == 28


def test_the_place_may_differ_too_and_other_findings_stay_in_order():
    alone = Finding("D104", "a.csv", "there are no rows")
    places = [Finding("D163", f'a.csv, label "{name}"', "no row carries it") for name in ("x", "y")]
    told = told_together([places[0], alone, places[1], lacking("x"), lacking("x", rows=(3,))])
    assert [each.sentence() for each in told] == [
        'D163 a.csv, each of the labels "x", "y": no row carries it.',
        "D104 a.csv: there are no rows.",
        'D150 a.csv: there is no column for the label "x". Allowed: a, b. Next: add it.',
        'D150 a.csv, row 3: there is no column for the label "x". Allowed: a, b. Next: add it.',
    ]


def test_of_two_names_the_one_that_differs_is_listed():
    cells = [("x", "7"), ("x", "8"), ("y", "7"), ("z", "7")]
    findings = [
        Finding("D152", f'a.csv, column "{name}"', f'the value is "{value}"') for name, value in cells
    ]
    told = [(each.place, each.found) for each in told_together(findings)]
    assert told == [
        ('a.csv, each of the columns "x", "y", "z"', 'the value is "7"'),
        ('a.csv, column "x"', 'the value is "8"'),
    ]


def test_joining_keeps_what_is_alone_or_equal():
    same = [Finding("D104", "a.csv", "there are no rows")] * 2
    assert told_together(same) == same[:1]
    assert told_together([]) == []


def test_names_with_quotation_marks_of_their_own_are_never_joined_or_lost():
    in_file = [Finding("D150", '5" disk.csv', f'there is no column for the label "{name}"') for name in "ab"]
    assert told_together(in_file) == in_file
    sizes = [Finding("D150", "a.csv", f'there is no column for the label "{size}""') for size in (5, 6)]
    assert told_together([*sizes, sizes[0]]) == sizes
    mixed = [
        Finding("D150", "a.csv", 'there is no label ""'),
        Finding("D150", "a.csv", 'there is no label "x"'),
    ]
    assert {name for each in told_together(mixed) for name in QUOTED.findall(each.found)} == {"", "x"}
