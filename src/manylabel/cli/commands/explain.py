"""`manylabel explain`: which words of a text moved which label."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from manylabel.cli.arguments import AsJson, Debug, Member, Model, Quiet
from manylabel.cli.outputs import Overwrite, require_new
from manylabel.cli.show import number, print_json, result_console
from manylabel.terminal import printable

if TYPE_CHECKING:
    from rich.table import Table

    from manylabel.inference.explanation import Explanation, LabelExplanation
    from manylabel.terminal import Terminal
    from manylabel.text.words import Word

TextToExplain = Annotated[str, typer.Argument(metavar="TEXT", help="Text to explain.", show_default=False)]
PairText = Annotated[
    str | None,
    typer.Option("--pair", help="Second text, for a model of pairs of texts.", show_default=False),
]
LabelNames = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        help="Label to explain, repeatable; by default those the model decides, or else the likeliest.",
        show_default=False,
    ),
]
Html = Annotated[
    Path | None, typer.Option("--html", help="HTML file to write; it holds the text.", show_default=False)
]
MethodOption = Annotated[
    Literal["integrated-gradients", "occlusion"],
    typer.Option(
        "--method",
        help="integrated-gradients adds up to the logit; occlusion masks one word at a time and needs no captum.",
    ),
]
Steps = Annotated[
    int, typer.Option("--steps", min=8, max=4096, help="Points at which gradients are integrated.")
]
BAR_WIDTH = 10
WIDEST_WORD = 60
MOST_ROWS = 60
WEAK = 0.05
"""In a text of more than MOST_ROWS words, runs of words below this share of the strongest are one row."""
TOP_WORDS = 3
STYLES = {"+": "blue", "-": "dark_orange"}


def command(
    model: Model,
    text: TextToExplain,
    *,
    pair: PairText = None,
    member: Member = None,
    label: LabelNames = None,
    html: Html = None,
    method: MethodOption = "integrated-gradients",
    steps: Steps = 64,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Say which words of a text moved which label, and how far that can be believed."""
    require_new(overwrite, html=html)
    from manylabel.inference.explain import ExplainOptions
    from manylabel.recipes.explain import explain_text

    options = ExplainOptions(tuple(label or ()), method, steps)
    explanation = explain_text(model, text, pair=pair, options=options, page=html, member=member)
    if as_json:
        print_json({**explanation.to_json(), "html": None if html is None else str(html)})
        return
    show_explanation(explanation, quiet=quiet)
    if html is not None and not quiet:
        result_console().print(f"\nwritten: {html}")


def show_explanation(explanation: Explanation, *, quiet: bool) -> None:
    """Each label with its words in order and the strongest ones; with `quiet` only the strongest and warnings."""
    from manylabel.inference.explanation import CAUTION

    console = result_console()
    for label in explanation.labels:
        console.print(
            f"{label.name}: probability {number(label.probability, 3)}, threshold {number(label.threshold, 3)}, "
            f"decided {'yes' if label.decided else 'no'}"
        )
        if explanation.words:
            _show_words(console, explanation, label, quiet=quiet)
        console.print()
    for warning in explanation.warnings():
        console.print(f"warning: {warning}")
    console.print(f"note: {CAUTION}")


def _show_words(console: Terminal, explanation: Explanation, label: LabelExplanation, *, quiet: bool) -> None:
    from manylabel.inference.explanation import signed

    if not quiet:
        console.print(_word_table(explanation.words, label))
    for title, sign in (("for", 1), ("against", -1)):
        console.print(f"  most {title} it:")
        # One a line and the word last: letters written from right to left would move what stands after them.
        for index in label.strongest(sign, TOP_WORDS):
            console.print(
                f"    {signed(label.attributions_W[index])}  {shown_word(explanation.words[index])}"
            )
        if not label.strongest(sign, 1):
            console.print("    no word")
    console.print(
        f"  logit {signed(label.logit)}, with all words masked {signed(label.baseline_logit)}; "
        + "; ".join(_reliability(label))
    )


def _reliability(label: LabelExplanation) -> list[str]:
    error, agreement = label.relative_error, label.rank_correlation
    missed = [] if error is None else [f"the parts miss the whole by {100 * error:.2f} %"]
    shown = number(agreement.value, 2) if agreement.value is not None else f"none ({agreement.reason})"
    return [*missed, f"rank correlation with masking word by word: {shown}"]


def _word_table(words: tuple[Word, ...], label: LabelExplanation) -> Table:
    """A row a word, in the text's order: number, bar of signs, word.

    The word is last, so that letters written from right to left cannot move the number.
    """
    from rich.table import Table
    from rich.text import Text

    from manylabel.inference.explanation import signed

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, justify in (("  weight", "right"), ("against", "right"), ("for", "left"), ("word", "left")):
        table.add_column(Text(title), justify=justify, overflow="fold")  # type: ignore[arg-type]
    hidden = 0
    columns = zip(words, label.attributions_W.tolist(), label.strengths_W.tolist(), strict=True)
    for word, weight, strength in columns:
        if len(words) > MOST_ROWS and strength < WEAK:
            hidden += 1
            continue
        if hidden:
            table.add_row("", "", "", Text(f"({hidden:,} of little weight)", style="dim"))
            hidden = 0
        sign = "+" if weight > 0 else "-"
        bar = Text(sign * round(BAR_WIDTH * strength), style=STYLES[sign])
        sides = (Text(), bar) if weight > 0 else (bar, Text())
        table.add_row(Text(signed(weight)), *sides, Text(shown_word(word), style=STYLES[sign] if bar else ""))
    if hidden:
        table.add_row("", "", "", Text(f"({hidden:,} of little weight)", style="dim"))
    return table


def shown_word(word: Word) -> str:
    """A word that does nothing to a terminal, cut where it is very long."""
    text = printable(word.text)
    return text if len(text) <= WIDEST_WORD else text[: WIDEST_WORD - 3] + "..."
