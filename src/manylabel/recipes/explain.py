"""Explain one text by a saved model, and write the page; called by `manylabel explain`."""

from __future__ import annotations

from pathlib import Path

from manylabel.bundle.files import published_file
from manylabel.inference.explain import ExplainOptions, explain
from manylabel.inference.explanation import Explanation
from manylabel.inference.load import load_model
from manylabel.recipes.places import require_place
from manylabel.report.highlight import highlight_page


def explain_text(
    model: Path,
    text: str,
    *,
    pair: str | None = None,
    options: ExplainOptions | None = None,
    page: Path | None = None,
    member: str | None = None,
) -> Explanation:
    """Load and verify the model, explain `text` (and its `pair`), and write `page` as HTML if it is given.

    `member` names the network of an ensemble to be explained. The page holds the text. Raises BundleError for a
    damaged model, UsageError as `inference.explain` does and for a page that cannot be written, the latter before
    anything is computed.
    """
    if page is not None:
        require_place(page, "--html")
    loaded = load_model(model, precision="fp32")
    explanation = explain(loaded.bundle, text, pair=pair, options=options, member=member)
    if page is not None:
        with published_file(page) as temporary:
            temporary.write_text(highlight_page(explanation, model=str(model)), encoding="utf-8")
    return explanation
