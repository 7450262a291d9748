"""A report's inputs from random numbers: 28 labels, some rare, with every optional section."""

import numpy as np
import pytest

from manylabel.decisions.thresholds import fit_thresholds
from manylabel.evaluation.evaluate import evaluate
from manylabel.report.inputs import ReportInputs

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(2)>",
    "\u202eevil\u2066\u200f",
    "\x1b[31mred\x07",
    "long " + "x" * 295,
    "\" onfocus=alert(3) x='{{ 7*7 }}",
    "ключ & שלום",
)


def made(num_rows=1500, num_labels=28, *, seed=3, names=None, spread=1.3):
    """Targets, and scores of a model, of the same before calibration, and of a weaker baseline."""
    draw = np.random.default_rng(seed)
    prevalence_L = np.geomspace(0.3, 0.01, num_labels)
    targets_NL = (draw.random((num_rows, num_labels)) < prevalence_L).astype(np.int8)

    def scores(separation, scale):
        logits_NL = draw.normal(size=targets_NL.shape) + separation * targets_NL + np.log(prevalence_L) - 0.6
        return 1.0 / (1.0 + np.exp(-scale * logits_NL))

    labels = tuple(names or (f"label {column + 1}" for column in range(num_labels)))
    return labels, targets_NL, scores(spread * 2, 1.0), scores(spread, 1.0)


def inputs_of(num_rows=1500, num_labels=28, *, names=None, texts=None, seed=3, full=True, **changes):
    """Inputs with every section filled, or with `full=False` just the figures and the baseline's."""
    labels, targets_NL, model_NL, baseline_NL = made(num_rows, num_labels, seed=seed, names=names)
    thresholds = fit_thresholds(targets_NL, model_NL, labels)
    evaluation = evaluate(targets_NL, model_NL, thresholds).to_json()
    evaluation["baseline"] = evaluate(
        targets_NL, baseline_NL, fit_thresholds(targets_NL, baseline_NL, labels)
    ).to_json()
    if full:
        evaluation |= sections(evaluation, labels)
    return ReportInputs(
        **{
            "title": "tiny model on mails.csv",
            "targets_NL": targets_NL,
            "probabilities_NL": model_NL,
            "thresholds": thresholds,
            "ids": tuple(f"mail-{row}" for row in range(num_rows)),
            "evaluation": evaluation,
            "uncalibrated_NL": model_NL**0.6,
            "baseline_probabilities_NL": baseline_NL,
            "provenance": {
                "seed": 1,
                "versions": {"manylabel": "0.1.0", "python": "3.11.7"},
                "data": {"train": {"rows": 43410, "sha256": "ab" * 32}},
                "hardware": {"device": "cpu", "threads": "2"},
            },
            "command": "manylabel report model mails.csv --out report.html",
            "date": "2026-11-22",
            "texts": texts,
            "contradictory_rows": 3,
            **changes,
        }
    )


@pytest.fixture(scope="session")
def make_inputs():
    """The function above."""
    return inputs_of


@pytest.fixture(scope="session")
def hostile():
    """Label names and texts that try to become something else."""
    return HOSTILE


@pytest.fixture(scope="session")
def inputs():
    """28 labels, 1,500 rows, every section."""
    return inputs_of()


def around(value, half=0.03):
    return None if value is None else [max(value - half, 0.0), min(value + half, 1.0)]


def shares(sent):
    """Zones: what is sent to a human, and figures outside."""
    part = {"count": 1, "of": 2, "share": 0.5, "interval": [0.25, 0.75]}
    return {"sent": {**part, "share": sent}, "accuracy": part, "precision": part, "missed": part}


def sections(evaluation, labels):
    """Every optional section in the form that evaluations have."""
    metrics = ("roc_auc", "average_precision", "precision", "recall", "f1")
    macro = {metric: around(evaluation["macro"][metric]) for metric in ("roc_auc", "average_precision", "f1")}
    return {
        "intervals": {
            "confidence": 0.95,
            "resamples": 1000,
            "labels": {
                name: {
                    metric: around(value, 0.05)
                    for metric in metrics
                    if (value := evaluation["labels"][name][metric]) is not None
                }
                for name in labels
            },
            "macro": macro,
            "micro": {"f1": around(evaluation["micro"]["f1"])},
            "overall": {"subset_accuracy": around(evaluation["subset_accuracy"])},
        },
        "calibration": {
            "method": dict.fromkeys(labels, "platt"),
            "ece_before": 0.061,
            "ece_after": 0.012,
            "ece_after_interval": [0.01, 0.02],
            "brier_before": 0.05,
            "brier_after": 0.04,
        },
        "slices": [
            {
                "column": "length",
                "value": value,
                "rows": rows,
                "macro": {"average_precision": 0.5, "f1": f1},
                "micro": {"f1": 0.5},
                "labels": len(labels),
                "labels_judged": {"average_precision": len(labels) - 2, "f1": len(labels) - 1},
                "intervals": {"macro": {"f1": [f1 - 0.03, f1 + 0.03]}, "micro": {"f1": [0.4, 0.6]}},
            }
            for value, rows, f1 in (("1-16", 700, 0.5), ("17-64", 650, 0.48), ("65-256", 150, 0.2))
        ],
        "bias": [
            {
                "subgroup": group,
                "rows": 120,
                "labels": {
                    labels[0]: {
                        "subgroup_auc": 0.81,
                        "bpsn_auc": 0.6,
                        "bnsp_auc": 0.95,
                        "reason": None,
                        "intervals": {
                            "subgroup_auc": [0.7, 0.9],
                            "bpsn_auc": [0.512, 0.688],
                            "bnsp_auc": None,
                        },
                    },
                    labels[1]: {
                        "subgroup_auc": None,
                        "bpsn_auc": None,
                        "bnsp_auc": None,
                        "reason": "no positives",
                    },
                },
            }
            for group in ("muslim", "female")
        ],
        "bias_overall": {
            "labels": {
                labels[0]: {
                    "generalised_mean": 0.8,
                    "final": 0.82,
                    "intervals": {"generalised_mean": [0.7, 0.85], "final": [0.777, 0.866]},
                }
            }
        },
        "robustness": [
            {
                "attack": "clean",
                "macro": {"average_precision": 0.5, "f1": 0.5},
                "micro": {"f1": 0.55},
                "folded": None,
            },
            {
                "attack": "leet",
                "macro": {"average_precision": 0.4, "f1": 0.4},
                "micro": {"f1": 0.41},
                "change": {
                    "macro": {"average_precision": {"difference": -0.1, "low": -0.123, "high": -0.077}},
                    "micro": {"f1": {"difference": -0.14, "low": None, "high": None}},
                },
                "folded": {"macro": {"f1": 0.48}, "micro": {"f1": 0.53}},
            },
        ],
        "zones": {
            "confidence": 0.95,
            "rows": {"count": 150, "of": 1500, "share": 0.1, "interval": [0.086, 0.116]},
            "cells": shares(0.01),
            "labels": {labels[0]: {"low": 0.3, "high": 0.7, **shares(0.02)}},
        },
        "label_errors_left_out": "Left out: 3 of other rows or labels.",
        "label_errors": [
            {
                "id": f"mail-{row}",
                "row": row,
                "label": labels[row % len(labels)],
                "given": row % 2,
                "probability": 0.02,
            }
            for row in range(12)
        ],
        "seen_in_training": {"exact": 4, "normalised": 1, "near": 2},
        "rows_seen_in_training": 7,
        "roles": {"train": 5, "validation": 1, "calibration": 1},
        "without_seen_rows": {
            "macro": {
                "average_precision": evaluation["macro"]["average_precision"] - 0.001,
                "f1": evaluation["macro"]["f1"] - 0.001,
            },
            "against_baseline": {
                "conclusion": "This model is better without them.",
                "figures": {"macro/average_precision": {"difference": 0.099, "low": 0.07, "high": 0.13}},
            },
        },
        "against_baseline": {
            "figures": {"macro/average_precision": {"difference": 0.1, "low": 0.08, "high": 0.12}}
        },
    }
