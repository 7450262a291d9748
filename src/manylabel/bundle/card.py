"""The model card: README.md of a bundle, written from its contents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from manylabel.bundle.contents import Bundle
from manylabel.bundle.ensemble import Ensemble, NetworkModel
from manylabel.bundle.files import SEEN_TEXTS
from manylabel.decisions.abstain import Zones
from manylabel.errors import counted

GOAL_FITTED = "thresholds goal"
"""The entry of a manifest's training facts by which a version with other thresholds is known."""
PARTS = ("train", "validation", "calibration", "test")
MEAN_HEAD_NOTE = (
    "The head is `mean` (mean of all tokens, LayerNorm, linear). transformers' AutoModelForSequenceClassification\n"
    "cannot represent it: load this model with manylabel, or train with `--set model.head=cls`."
)
CLS_HEAD_NOTE = (
    "The head is `cls` (the pooler and classifier of transformers). The folder loads with\n"
    "`AutoModelForSequenceClassification.from_pretrained` and gives the same probabilities through\n"
    '`pipeline("text-classification", ..., top_k=None, function_to_apply="sigmoid")`;\n'
    "the thresholds are in decisions.json."
)
BLENDS = {
    "mean": "the mean of the components' probabilities",
    "ranks": "the mean of the components' ranks among the rows that fitted it",
    "greedy": "a weighted mean of the components' probabilities",
    "stacked": "a logistic regression on the components' logits",
}


def model_card(bundle: Bundle) -> str:
    """Markdown: what the model decides, how well, from which data, and how to load it."""
    sections = [
        "# Multi-label text classifier",
        f"{len(bundle.labels)} labels, each decided on its own. Written by manylabel "
        f"{bundle.provenance.versions.get('manylabel', '')}.",
        _model_note(bundle.model),
        '## Use\n\n```python\nimport manylabel\n\nmodel = manylabel.load("FOLDER")\n'
        'model.predict(["some text"])\n```',
        "## Labels and thresholds\n\n" + _label_table(bundle),
        *_zones(bundle.zones),
        f"## Figures {_of_which_rows(bundle.evaluation)}\n\n"
        + _figures(bundle.evaluation, refitted=GOAL_FITTED in bundle.provenance.training),
        "## Data and training\n\n" + _provenance(bundle),
        "## Limits\n\n"
        + _length_limit(bundle)
        + "- The figures hold for texts like the test rows, and not beyond them.\n"
        "- Labels marked as unjudged had too few calibration rows; their threshold is the default.\n"
        f"- {SEEN_TEXTS} holds a 64-bit fingerprint, without salt, of each training, validation and\n  calibration text"
        + (
            ""
            if bundle.seen_sketches is None
            else ", and 128\n  bytes that tell near copies of the longer ones"
        )
        + ". Who has\n  the model can test whether a text was among them, and find short texts by guessing.",
    ]
    return "\n\n".join(sections) + "\n"


def _model_note(model: NetworkModel | Ensemble) -> str:
    """What other programs can do with the folder; for an ensemble what it is made of."""
    if isinstance(model, NetworkModel):
        return CLS_HEAD_NOTE if model.head == "cls" else MEAN_HEAD_NOTE
    rows = [
        f"| {_cell(each.name)} | {_cell(', '.join(each.models))} | {_cell(each.view)} |"
        for each in model.components
    ]
    blended = BLENDS[model.blend.kind]
    return "\n".join(
        [
            f"An ensemble of {counted(len(model.models), 'model')}. A component is the mean of its models'",
            f"probabilities; the ensemble is {blended}. Load it with manylabel.\n",
            "| component | models | reads |",
            "|---|---|---|",
            *rows,
        ]
    )


def _length_limit(bundle: Bundle) -> str:
    if isinstance(bundle.model, NetworkModel):
        tokens = bundle.model.tokenizer.max_length
        return f"- Texts are read up to {tokens} tokens; predictions say when one was cut.\n"
    if bundle.max_length is None:
        return ""
    return f"- Every network reads texts up to {bundle.max_length} tokens; predictions say when one cut a text.\n"


def _label_table(bundle: Bundle) -> str:
    lines = ["| label | threshold | note |", "|---|---|---|"]
    thresholds = bundle.thresholds
    nothing = (None,) * len(bundle.labels)
    columns = (thresholds.reasons, thresholds.goals or nothing, thresholds.notes or nothing)
    for name, value, reason, goal, note in zip(bundle.labels, thresholds.values_L, *columns, strict=True):
        why, told = _unjudged(reason, note)
        said = [why, f"goal {goal}" if goal else "", told]
        lines.append(f"| {_cell(name)} | {value:.4f} | {_cell('; '.join(filter(None, said)))} |")
    return "\n".join(lines)


def _zones(zones: Zones | None) -> list[str]:
    """A section on what a human decides, where there are zones."""
    if zones is None:
        return []
    lines = [
        "## Zones for a human\n",
        "A probability from `low` to below `high` is uncertain: a human should decide the label. At `high` and above",
        "the label is decided, below `low` it is not. `manylabel predict` marks what lies in a zone.\n",
        "| label | low | high | note |",
        "|---|---|---|---|",
    ]
    columns = (zones.low_L, zones.high_L, zones.reasons, zones.notes)
    for name, low, high, reason, note in zip(zones.labels, *columns, strict=True):
        ends = "none | none" if low == high else f"{low:.4f} | {'above 1' if high > 1.0 else f'{high:.4f}'}"
        lines.append(
            f"| {_cell(name)} | {ends} | {_cell('; '.join(filter(None, _unjudged(reason, note))))} |"
        )
    return ["\n".join(lines)]


def _unjudged(reason: str | None, note: str | None) -> tuple[str, str]:
    """Why a label is unjudged, and its note; one that gives the same reason does not repeat it."""
    if reason is None:
        return "", note or ""
    return f"unjudged: {reason}", (note or "").replace(f": {reason}", "")


def _of_which_rows(evaluation: Mapping[str, Any] | None) -> str:
    folds = None if evaluation is None else evaluation.get("out_of_fold")
    return (
        f"out of fold ({folds} models, none of which saw the row it scored)" if folds else "on the test rows"
    )


def _figures(evaluation: Mapping[str, Any] | None, *, refitted: bool) -> str:
    if evaluation is None and refitted:
        return "The thresholds were chosen anew after the test; `manylabel evaluate` gives figures."
    if evaluation is None:
        return "No test rows were given."
    lines = ["| | macro ROC-AUC | macro average precision | macro F1 | micro F1 |", "|---|---|---|---|---|"]
    rows = {"this model": evaluation, "TF-IDF + logistic regression": evaluation.get("baseline")}
    for name, figures in rows.items():
        if figures is not None:
            macro, micro = figures["macro"], figures["micro"]
            values = (macro["roc_auc"], macro["average_precision"], macro["f1"], micro["f1"])
            lines.append(f"| {name} | " + " | ".join(map(_number, values)) + " |")
    return "\n".join(lines) + f"\n\n{evaluation['rows']:,} rows."


def _provenance(bundle: Bundle) -> str:
    """In an order of its own, as the manifest keeps none: a model saved again gives the same bytes."""
    facts = bundle.provenance
    lines = [f"- {part}: {facts.data[part]['rows']:,} rows" for part in PARTS if part in facts.data]
    lines += [f"- {name}: {value}" for name, value in sorted(facts.training.items())]
    lines += [f"- {name}: {value}" for name, value in sorted(facts.hardware.items())]
    lines += [f"- {name} {version}" for name, version in sorted(facts.versions.items())]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _cell(text: str) -> str:
    """Text that cannot break out of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
