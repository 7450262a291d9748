"""An explanation as one HTML page that needs nothing else; called by `recipes.explain`.

Texts and names are escaped by Jinja2, control characters and bidirectional overrides replaced, every word isolated in
its direction, and the page's own policy forbids scripts and requests. Signs, underlines and numbers say what the
colours say.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manylabel.inference.explanation import CAUTION, Explanation, LabelExplanation, signed
from manylabel.terminal import printable
from manylabel.text.words import PARTS, Word

TEMPLATES = Path(__file__).parent / "templates"
TEMPLATE = "highlight.html"
WEAKEST_SHOWN = 0.05
"""Share of the strongest word's weight from which a word is marked in the text; the table has all of them."""
TOP_WORDS = 8


@dataclass(frozen=True)
class _Mark:
    """A word as the page shows it: `strength` in [0, 1] of the label's strongest word, `gap` before it in the text."""

    text: str
    kind: str
    weight: str
    occlusion: str
    strength: str
    gap: bool


def highlight_page(explanation: Explanation, *, model: str) -> str:
    """The page; `model` is how the user names the model."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(
        model=printable(model),
        explanation=explanation,
        labels=[_section(explanation, label) for label in explanation.labels],
        warnings=[printable(warning) for warning in explanation.warnings()],
        caution=CAUTION,
    )


def _number(value: float) -> str:
    """A weight with the minus sign of typography."""
    return signed(value).replace("-", "\N{MINUS SIGN}")


def _section(explanation: Explanation, label: LabelExplanation) -> dict[str, Any]:
    """What the template needs of one label."""
    marks = list(_marks(explanation.words, label))
    parts = [
        (part, [mark for mark, word in zip(marks, explanation.words, strict=True) if word.part == part])
        for part in PARTS
    ]
    return {
        "name": printable(label.name),
        "facts": _facts(label),
        "parts": [(part, _direction(content), content) for part, content in parts if content],
        "marks": marks,
        "tops": [
            (title, [marks[index] for index in label.strongest(sign, TOP_WORDS)])
            for title, sign in (("For", 1), ("Against", -1))
        ],
    }


def _direction(marks: list[_Mark]) -> str:
    """`rtl` or `ltr`, as the first letter with a direction has it; browsers do not look into isolated words."""
    directions = (unicodedata.bidirectional(character) for mark in marks for character in mark.text)
    return "rtl" if next((one for one in directions if one in ("L", "R", "AL")), "L") != "L" else "ltr"


def _facts(label: LabelExplanation) -> list[tuple[str, str]]:
    error, agreement = label.relative_error, label.rank_correlation
    facts = [
        ("probability", f"{label.probability:.3f}"),
        ("threshold", f"{label.threshold:.3f}"),
        ("decision", "yes" if label.decided else "no"),
        ("logit, all words masked", _number(label.baseline_logit)),
        ("logit, whole text", _number(label.logit)),
    ]
    if error is not None:
        facts.append(("parts miss the whole by", f"{100 * error:.2f} %"))
    shown = f"{agreement.value:.2f}" if agreement.value is not None else f"not computed ({agreement.reason})"
    return [*facts, ("rank correlation with masking", shown)]


def _marks(words: tuple[Word, ...], label: LabelExplanation) -> Iterator[_Mark]:
    columns = (label.attributions_W.tolist(), label.strengths_W.tolist(), label.occlusion_W.tolist())
    before: Word | None = None
    for word, weight, strength, masked in zip(words, *columns, strict=True):
        kind = "weak" if strength < WEAKEST_SHOWN else "for" if weight > 0 else "against"
        gap = before is not None and before.part == word.part and before.end < word.start
        before = word
        yield _Mark(printable(word.text), kind, _number(weight), _number(masked), f"{strength:.2f}", gap)
