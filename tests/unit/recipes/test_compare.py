"""Two models on the same rows."""

from dataclasses import replace

import numpy as np
import pytest

from manylabel.cli.show import result_console
from manylabel.cli.show_comparison import comparison_tables
from manylabel.config.schema import DataSettings, EvaluationSettings
from manylabel.decisions.calibration import Calibration
from manylabel.decisions.thresholds import Thresholds
from manylabel.errors import UsageError
from manylabel.inference.load import load_model
from manylabel.recipes.compare import compare_models, with_labels
from manylabel.recipes.scoring import score_rows
from manylabel.training.observers import SilentObserver

FEW = EvaluationSettings(resamples=100)


@pytest.fixture(scope="module")
def models(tiny_model, tiny_cls_model):
    return load_model(tiny_model), load_model(tiny_cls_model)


def compared(first, second, source):
    return compare_models(
        first, second, source, options=DataSettings(), observer=SilentObserver(), settings=FEW
    )


def test_a_model_does_not_differ_from_itself(models, tiny_mails):
    found = compared(models[0], models[0], tiny_mails)
    content = found.to_json()
    assert content["verdict"] == "no difference shown"
    assert content["figures"]["macro/average_precision"]["difference"] == 0.0
    assert "No difference between model B and model A is shown" in content["conclusion"]


def test_figures_of_both_models_and_the_baseline(models, tiny_mails, capsys):
    found = compared(*models, tiny_mails)
    content = found.to_json()
    macro = content["figures"]["macro/roc_auc"]
    assert macro["difference"] == pytest.approx(macro["b"] - macro["a"])
    assert set(content["labels"]) == {"refund", "delivery", "praise"}
    assert content["rows"] == 120
    assert content["rows_seen_in_training"] == {
        "a": pytest.approx(102, abs=6),
        "b": pytest.approx(102, abs=6),
    }
    against = content["b_against_baseline"]["figures"]["macro/average_precision"]
    assert against["b"] == pytest.approx(content["figures"]["macro/average_precision"]["b"])
    for part in comparison_tables(content):
        result_console().print(part)
    shown = capsys.readouterr().out
    assert "made model A, which favours it" in shown
    left = content["without_seen_rows"]["rows"]
    assert 0 < left < 120
    assert f"Without the rows that made either model ({left} rows left):" in shown
    without = shown[shown.index("Without the rows that made either") :]
    assert without.count("against the TF-IDF baseline: ") == 2
    for key in ("a_against_baseline", "b_against_baseline"):
        assert content["without_seen_rows"][key]["conclusion"].split(":")[0][:60] in without
    unseen = content["without_seen_rows"]["figures"]["macro/roc_auc"]
    assert unseen["a"] != content["figures"]["macro/roc_auc"]["a"]
    assert content["conclusion"].split(";")[0][:40] in shown


def test_labels_in_another_order_are_matched_by_name(models, tiny_mails):
    first = models[0]
    corpus = first.bundle.thresholds
    turned = with_labels(_scored(first, tiny_mails), tuple(reversed(corpus.labels)))
    assert turned.thresholds.labels == tuple(reversed(corpus.labels))
    assert np.array_equal(turned.probabilities_NL[:, ::-1], _scored(first, tiny_mails).probabilities_NL)
    assert np.array_equal(turned.decisions_NL, turned.thresholds.decide(turned.probabilities_NL))


def _scored(model, source):
    from manylabel.recipes.evaluate import load_rows

    rows = load_rows(model, source, options=DataSettings(), observer=SilentObserver())
    return score_rows(model.predictor, model.bundle.baseline, rows)


def test_models_without_a_common_label_are_refused(models, tiny_mails):
    first = models[0]
    names = ("x", "y", "z")
    thresholds = first.bundle.thresholds
    other = replace(
        first,
        bundle=replace(
            first.bundle,
            thresholds=Thresholds(names, thresholds.values_L, thresholds.judged_L, thresholds.reasons),
            calibration=Calibration.identity(names),
        ),
    )
    with pytest.raises(UsageError, match="no label"):
        compared(first, other, tiny_mails)
