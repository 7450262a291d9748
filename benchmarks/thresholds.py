"""What thresholds and calibration do to a saved model's decisions on rows that chose nothing.

    manylabel train train.tsv --validation dev.tsv --test test.tsv --out model      # GoEmotions, say
    python benchmarks/thresholds.py model dev.tsv test.tsv --json DATE-thresholds-NAME.json

Fits every rule on the second file, applies it to the third, and prints macro and micro F1 there with 95 % intervals,
the difference of each rule from 0.5 for all labels on the same resamples, and the calibration error before and after.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from manylabel.config.schema import DataSettings, EvaluationSettings
from manylabel.decisions.calibration import Calibration
from manylabel.decisions.calibration_fit import fit_calibration
from manylabel.decisions.goals import Goal, fit_goal
from manylabel.decisions.thresholds import Thresholds
from manylabel.evaluation.intervals import bootstrap
from manylabel.evaluation.paired import compare
from manylabel.inference.load import LoadedModel, load_model
from manylabel.recipes.corpora import Source
from manylabel.recipes.evaluate import load_rows
from manylabel.training.observers import SilentObserver
from manylabel.values import Corpus

SETTINGS = EvaluationSettings()
GOALS = ("f1", "one=micro", "one=samples")


def main() -> None:
    """Print the table, and write it where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("calibration", type=Path, help="rows that choose")
    parser.add_argument("test", type=Path, help="rows that choose nothing")
    parser.add_argument("--json", type=Path, help="file to write the result to")
    arguments = parser.parse_args()
    model = load_model(arguments.model, precision="auto")
    chosen_on, test = (scored(model, file) for file in (arguments.calibration, arguments.test))
    calibration = fit_calibration(
        chosen_on[0].targets_NL,
        chosen_on[1],
        model.bundle.labels,
        method="auto",
        min_positives=20,
        seed=1,
    ).calibration
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in ("manylabel", "torch", "scikit-learn")}
        | {"python": platform.python_version()},
        "rows": {"calibration": len(chosen_on[0]), "test": len(test[0])},
        "rules": rules_of(chosen_on, test, calibration),
        "calibration": calibration_of(test, calibration),
    }
    show(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")


def scored(model: LoadedModel, source: Source) -> tuple[Corpus, np.ndarray]:
    rows = load_rows(model, source, options=DataSettings(), observer=SilentObserver())
    return rows, model.predictor.logits(rows.texts, rows.pairs)[0]


def rules_of(
    chosen_on: tuple[Corpus, np.ndarray], test: tuple[Corpus, np.ndarray], calibration: Calibration
) -> dict[str, Any]:
    """Figures of each rule on the test rows, and its difference from 0.5."""
    rows, logits_NL = chosen_on
    labels, targets_NL = rows.labels.names, test[0].targets_NL
    probabilities_NL = calibration.apply(test[1])
    count = len(labels)
    half = Thresholds(labels, np.full(count, 0.5), np.ones(count, np.bool_), (None,) * count)
    fitted = {
        goal: fit_goal(
            rows.targets_NL,
            calibration.apply(logits_NL),
            labels,
            Goal.parse(goal),
            min_positives=5,
            default=0.5,
        )
        for goal in GOALS
    }
    found = {}
    for name, thresholds in {"0.5": half, **fitted}.items():
        figures = bootstrap(targets_NL, probabilities_NL, thresholds, settings=SETTINGS).figures
        against = compare(
            targets_NL, probabilities_NL, half, probabilities_NL, thresholds, settings=SETTINGS
        ).figures
        found[name] = {
            "/".join(path): {
                "value": figures[path].value,
                "interval": figures[path].limits,
                "minus_half": against[path].difference,
                "minus_half_interval": [against[path].low, against[path].high],
            }
            for path in (("macro", "f1"), ("micro", "f1"), ("samples", "f1"))
        }
    return found


def calibration_of(test: tuple[Corpus, np.ndarray], calibration: Calibration) -> dict[str, Any]:
    """Calibration error and Brier score on the test rows, without and with the maps."""
    count = len(calibration.labels)
    half = Thresholds(calibration.labels, np.full(count, 0.5), np.ones(count, np.bool_), (None,) * count)
    none = replace(calibration, maps=Calibration.identity(calibration.labels).maps)
    found: dict[str, Any] = {"methods": calibration.methods}
    for name, maps in (("before", none), ("after", calibration)):
        figures = bootstrap(test[0].targets_NL, maps.apply(test[1]), half, settings=SETTINGS).figures
        found[name] = {
            metric: [figures["macro", metric].value, figures["macro", metric].limits]
            for metric in ("ece", "brier", "log_loss")
        }
    return found


def show(result: dict[str, Any]) -> None:
    print(f"{result['rows']['test']:,} test rows; thresholds from {result['rows']['calibration']:,} others")
    for rule, figures in result["rules"].items():
        for path, figure in figures.items():
            print(f"{rule:12} {path:11} {_interval(figure['value'], figure['interval'])}"
                  f"   minus 0.5: {_interval(figure['minus_half'], figure['minus_half_interval'])}")  # fmt: skip
    for when in ("before", "after"):
        for metric, (value, limits) in result["calibration"][when].items():
            print(f"{when:12} {metric:11} {_interval(value, limits, 5)}")


def _interval(value: float | None, limits: Any, digits: int = 4) -> str:
    if value is None or limits is None or None in limits:
        return "-" if value is None else f"{value:.{digits}f}"
    return f"{value:.{digits}f} [{limits[0]:.{digits}f}, {limits[1]:.{digits}f}]"


if __name__ == "__main__":
    sys.exit(main())
