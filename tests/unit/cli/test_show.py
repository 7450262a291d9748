"""How figures are shown: everything that is undefined, unjudged or left out, and nothing that acts on a terminal."""

import json
from dataclasses import replace

import numpy as np
import pytest

from manylabel.cli.show import print_json, result_console, table
from manylabel.cli.show_evaluation import evaluation_tables
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


@pytest.fixture
def narrow(monkeypatch, capsys):
    """The lines that a terminal of 80 columns gets."""
    monkeypatch.setenv("COLUMNS", "80")

    def show(figures):
        console = result_console()
        for part in evaluation_tables(figures):
            console.print(part)
        return capsys.readouterr().out.splitlines()

    return show


def with_intervals():
    """Four labels of 40 rows, the baseline the same; each figure's interval is 0.25 to 0.75."""
    generator = np.random.default_rng(4)
    targets_NL = (generator.random((40, 4)) < 0.4).astype(np.int8)
    names = ("disappointment", "embarrassment", "joy", "grief")
    thresholds = Thresholds(names, np.full(4, 0.5), np.ones(4, dtype=bool), (None,) * 4)
    ours = evaluate(targets_NL, generator.random((40, 4)), thresholds)
    intervals = {"confidence": 0.95, "resamples": 1000}
    for (*path, metric), value in ours.figures().items():
        part = intervals
        for name in path:
            part = part.setdefault(name, {})
        if value is not None:
            part[metric] = [0.25, 0.75]
    return replace(ours, baseline=ours, intervals=intervals)


def test_every_figure_is_shown_with_its_interval_in_80_columns(narrow):
    ours = with_intervals()
    lines = narrow(ours.to_json())
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for path, value in ours.figures().items():
        assert f"{value:.3f} [0.250, 0.750]" in text, path
    # 4 x 8 of labels, 8 + 7 + 8 + 3 of averages, 8 of these again beside the baseline, and those of all rows.
    assert text.count("[0.250, 0.750]") == 32 + 26 + 8 + len(ours.overall)
    first = next(line for line in lines if line.startswith("embarrassment"))
    label = ours.labels[1]
    assert first.split() == [
        "embarrassment", str(label.support), f"{label.average_precision:.3f}", "[0.250,", "0.750]",
        f"{label.f1:.3f}", "[0.250,", "0.750]", "0.5000",
    ]  # fmt: skip
    assert "in brackets: intervals of 95 % confidence from 1,000 resamples" in lines


def test_figures_without_intervals_keep_four_decimals(narrow):
    ours = replace(with_intervals(), intervals=None)
    lines = narrow(ours.to_json())
    assert not any("[" in line for line in lines)
    assert f"macro Brier score            {ours.macro.brier:.4f}           {ours.macro.brier:.4f}" in lines
    assert (
        f"nDCG at 3                    {ours.at_k['ndcg_at_3']:.4f}           {ours.at_k['ndcg_at_3']:.4f}"
        in lines
    )


def test_what_else_was_found_is_shown_in_80_columns(narrow):
    macro = {"roc_auc": 0.9, "average_precision": 0.5, "f1": 0.4}
    found = {
        "calibration": {
            "method": {"a": "platt", "b": "platt", "c": "none"},
            **{"ece_before": 0.0412, "ece_after": 0.011, "ece_after_interval": [0.009, 0.013]},
            **{"brier_before": None, "brier_after": 0.08},
        },
        "slices": [
            {"column": "length", "value": "17-64", "rows": 1234, "macro": macro, "micro": {"f1": 0.6},
             "intervals": {"macro": {"f1": [0.3, 0.5]}, "micro": {}}},
            {"column": "length", "value": "65+", "rows": 2, "macro": {"f1": None}, "micro": {"f1": None},
             "reason": "too few rows"},
        ],
        "bias": [
            {"subgroup": "muslim", "rows": 20, "labels": {
                "joy": {"subgroup_auc": 0.91, "bpsn_auc": 0.82, "bnsp_auc": None, "reason": "no negative rows"}}},
        ],
        "bias_overall": {"labels": {"joy": {"generalised_mean": 0.8, "final": 0.85,
                                            "intervals": {"generalised_mean": [0.7, 0.9], "final": None}}}},
        "robustness": [
            {"attack": "clean", "macro": macro, "micro": {"f1": 0.51}, "folded": None},
            {"attack": "homoglyphs", "macro": {**macro, "f1": 0.2}, "micro": {"f1": 0.31},
             "change": {"macro": {"average_precision": {"difference": 0.0, "low": None, "high": None}},
                        "micro": {"f1": {"difference": -0.2, "low": -0.25, "high": -0.15}}},
             "folded": {"macro": {**macro, "f1": 0.39}, "micro": {"f1": 0.5}}},
        ],
        "zones": {
            "rows": {"count": 9, "of": 40, "share": 0.225, "interval": [0.1, 0.4]},
            "cells": {"sent": {"share": 0.1, "interval": [0.05, 0.2]}, "accuracy": {"share": 0.9, "interval": None}},
            "labels": {"joy": {"sent": {"share": 0.225, "interval": [0.1, 0.4]},
                               "accuracy": {"share": 0.95, "interval": [0.8, 0.99]}}},
        },
        "roles": {"train": 3, "calibration": 0},
        "chosen_on": "these rows chose the epoch",
        "seen_in_training": {"exact": 5, "normalised": 0, "near": 2},
        "rows_seen_in_training": 7,
    }  # fmt: skip
    lines = narrow({**with_intervals().to_json(), **found})
    assert max(map(len, lines)) <= 80
    for line in (
        "  ECE 0.0412 -> 0.011 [0.009, 0.013]",
        "  Brier score - -> 0.0800",
        "  labels by method: platt 2, none 1",
        "40 rows, 7 of them made the model (exact 5, near 2)",
        "rows that had a role in making the model: train 3",
        "warning: these rows chose the epoch",
        "undefined, no negative rows: muslim, joy",
        "undefined, too few rows: length 65+",
    ):
        assert line in lines
    cells = [line.split() for line in lines]
    assert ["length", "17-64", "1,234", "-", "0.5000", "0.400", "[0.300,", "0.500]", "0.6000"] in cells
    assert ["muslim,", "joy", "20", "0.9100", "0.8200", "-"] in cells
    assert ["joy", "0.800", "[0.700,", "0.900]", "0.8500"] in cells
    assert ["homoglyphs", "+0.000", "-0.200", "[-0.250,", "-0.150]"] in cells
    assert ["joy", "0.225", "[0.100,", "0.400]", "0.950", "[0.800,", "0.990]"] in cells
    assert "9 of 40 rows have a label for a human: 22.5 % [10.0 % to 40.0 %]" in lines
    assert ["clean", "0.9000", "0.5000", "0.4000", "0.5100", "-", "-"] in cells
    assert ["homoglyphs", "0.9000", "0.5000", "0.2000", "0.3100", "0.5000", "0.3900"] in cells


def test_slices_say_over_how_many_labels_their_macro_averages_are(narrow):
    macro, judged = {"average_precision": 0.5, "f1": 0.4}, {"average_precision": 26, "f1": 27}
    part = {"column": "length", "value": "1-16", "rows": 90, "macro": macro, "micro": {"f1": 0.6}}
    parts = [{**part, "labels": 28, "labels_judged": counts} for counts in (judged, {**judged, "f1": 26})]
    lines = narrow({**with_intervals().to_json(), "slices": parts})
    cells = [line.split()[2:4] for line in lines if line.startswith("length")]
    assert cells == [["90", "26+27/28"], ["90", "26/28"]]


def test_of_many_bias_figures_the_lowest_are_shown(narrow):
    """30 subgroups of which every third has too few rows; the others' lowest AUC rises with their number."""
    found = [
        {"subgroup": f"s{number}", "rows": 50, "labels": {"joy": {
            "subgroup_auc": 0.9, "bpsn_auc": 0.5 + number / 100, "bnsp_auc": 0.95, "reason": None,
            "intervals": {"subgroup_auc": [0.8, 0.95], "bpsn_auc": [0.4, 0.6], "bnsp_auc": None}}}}
        if number % 3 else
        {"subgroup": f"s{number}", "rows": 5, "labels": {"joy": {
            "subgroup_auc": None, "bpsn_auc": None, "bnsp_auc": None, "reason": f"{number} rows"}}}
        for number in reversed(range(30))
    ]  # fmt: skip
    found += [{**found[-1], "subgroup": "more"}] * 5
    overall = {
        "labels": {"joy": {"generalised_mean": 0.8, "final": 0.85}, "grief": {"generalised_mean": None}}
    }
    lines = narrow({**with_intervals().to_json(), "bias": found, "bias_overall": overall})
    assert "no mean over subgroups for 1 label: an AUC is defined for none of them" in lines
    assert max(map(len, lines)) <= 80
    shown = [line.split() for line in lines if line.startswith("s") and ", joy" in line]
    assert [row[0] for row in shown] == [f"s{number}," for number in (1, 2, 4, 5, 7, 8, 10, 11, 13, 14)]
    assert shown[0] == ["s1,", "joy", "50", "0.900", "0.510", "0.950", "[0.400,", "0.600]"]
    assert "10 more with a higher lowest AUC: see --json" in lines
    assert any(line.startswith("undefined in part or whole: 15 of 35 pairs") for line in lines)


def test_rows_without_a_label_and_missing_intervals_are_said_once(narrow):
    figures = with_intervals().to_json()
    figures["intervals"]["reasons"] = {
        "grief.roc_auc": "fewer than 5 positive rows",
        "grief.f1": "fewer than 5 positive rows",
        "macro/f1": "the same in every resample",
        "accuracy": "the same in every resample",
    }
    lines = narrow({**figures, "complete_rows": 40, "rows_without_label": 3})
    assert "3 of 40 fully annotated rows carry no label:" in lines
    assert "  they count 1 in LRAP, 0 in ranking loss and coverage error," in lines
    (footnote,) = (line for line in lines if line.startswith("no interval"))
    assert footnote == (
        "no interval for some figures: fewer than 5 positive rows (grief); "
        "the same in every resample (the macro average, all rows)"
    )
    assert not any("carry no label" in line for line in narrow({**figures, "rows_without_label": 0}))


def test_the_conclusion_is_repeated_without_the_rows_that_made_the_model(narrow):
    unseen = {**with_intervals().to_json(), "against_baseline": {"conclusion": "No difference is shown."}}
    lines = narrow({**with_intervals().to_json(), "rows_seen_in_training": 7, "without_seen_rows": unseen})
    assert "Without the rows that made the model: No difference is shown." in lines


def test_figures_of_a_model_from_before_the_new_metrics_are_shown(narrow):
    figures = figures_of(3, 0)
    new = {"brier", "log_loss", "ece", "coverage_error", "expected_cost"}

    def older(part):
        if not isinstance(part, dict):
            return part
        return {name: older(value) for name, value in part.items() if name not in new and "_at_" not in name}

    lines = narrow(older(figures))
    assert not any(word in line for line in lines for word in ("Brier", "at 1", "coverage", "expected"))
    assert any(line.startswith("LRAP") for line in lines)
