"""How figures are shown: everything that is undefined, unjudged or left out, and nothing that acts on a terminal."""

import json

import numpy as np
import pytest

from manylabel.cli.show import evaluation_tables, print_json, result_console, table
from manylabel.decisions.thresholds import Thresholds
from manylabel.evaluation.evaluate import evaluate


@pytest.fixture
def shown(monkeypatch, capsys):
    """What a terminal of 300 columns gets of the figures."""
    monkeypatch.setenv("COLUMNS", "300")

    def show(figures):
        console = result_console()
        for part in evaluation_tables(figures):
            console.print(part)
        return capsys.readouterr().out

    return show


def figures_of(num_labels, num_without_positives, *, num_unjudged=0):
    """Labels l0, l1, ... of 4 rows; the last ones have no positive row and are never decided."""
    defined = num_labels - num_without_positives
    targets_NL = np.zeros((4, num_labels), dtype=np.int8)
    targets_NL[:2, :defined] = 1
    names = tuple(f"l{index}" for index in range(num_labels))
    judged_L = np.arange(num_labels) < num_labels - num_unjudged
    reasons = tuple(None if judged else "2 positive rows, fewer than 5" for judged in judged_L)
    thresholds = Thresholds(names, np.full(num_labels, 0.5), judged_L, reasons)
    return evaluate(targets_NL, np.where(targets_NL == 1, 0.9, 0.1), thresholds).to_json()


def test_nothing_is_said_where_everything_is_defined(shown):
    text = shown(figures_of(3, 0))
    for word in ("undefined", "left out", "not judged"):
        assert word not in text


def test_every_undefined_metric_is_listed_by_reason(shown):
    text = shown(figures_of(30, 20))
    lines = text.splitlines()
    block = lines[lines.index("undefined, no positive rows:") :]
    names = ", ".join(f"l{index}" for index in range(10, 30))
    assert block[1] == f"  ROC-AUC, average precision, precision, recall, F1 of {names}"
    assert "left out of the macro averages, of 30 labels: ROC-AUC 20, average precision 20, F1 20" in lines


def test_averages_and_metrics_of_all_rows_are_listed_too(shown):
    text = shown(figures_of(1, 1))
    assert "F1 of the macro average" in text
    assert "of all rows" in text


def test_unjudged_thresholds_are_named_with_their_reason(shown):
    reason = "2 positive rows, fewer than 5"
    text = shown(figures_of(4, 0, num_unjudged=2))
    assert f"threshold not judged (kept at 0.5): l2 ({reason}), l3 ({reason})" in text


def test_figures_of_an_older_model_are_shown(shown):
    figures = figures_of(3, 1, num_unjudged=1)
    del figures["excluded_from_macro"], figures["unjudged_thresholds"]
    assert "undefined" in shown(figures)


def test_figures_without_the_seen_rows_say_what_they_leave_out(shown):
    figures = {**figures_of(3, 0), "rows_seen_in_training": 2, "without_seen_rows": figures_of(3, 1)}
    assert "left out of the macro averages, of 3 labels" in shown(figures)


def test_names_and_headers_are_inert(capsys):
    result_console().print(table(("file\x1b[1m", "x"), [("a\x1b]0;t\x07", "b\u202e")]))
    assert capsys.readouterr().out.isascii() is False
    result_console().print(table(("file\x1b[1m", "x"), [("a\x1b]0;t\x07", "b\u202e")]))
    shown = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)


def test_a_narrow_terminal_keeps_names_and_digits(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "30")
    for part in evaluation_tables(figures_of(2, 0)):
        result_console().print(part)
    first = capsys.readouterr().out.splitlines()[1]
    assert first.split() == ["l0", "2", *["1.0000"] * 5, "0.5000"]


def test_json_means_the_same_and_cannot_act_on_a_terminal(capsys):
    content = {"a\x1b\x9b\u202e😀ä\u00a0\ud800": ["\n", 0.1]}
    print_json(content)
    written = capsys.readouterr().out
    assert json.loads(written) == content
    assert written.replace("\n", "").isprintable()
    assert "😀ä" in written
