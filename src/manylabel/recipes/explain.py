"""Explain one text by a saved model, and write the page; called by `manylabel explain`."""

from __future__ import annotations

from pathlib import Path

from manylabel.bundle.files import published_file
from manylabel.errors import Finding, UsageError
from manylabel.inference.explain import ExplainOptions, explain
from manylabel.inference.explanation import Explanation
from manylabel.inference.load import load_model
from manylabel.report.highlight import highlight_page


def explain_text(
    model: Path,
    text: str,
    *,
    pair: str | None = None,
    options: ExplainOptions | None = None,
    page: Path | None = None,
) -> Explanation:
    """Load and verify the model, explain `text` (and its `pair`), and write `page` as HTML if it is given.

    The page holds the text. Raises BundleError for a damaged model, UsageError as `inference.explain` does and for
    a page that cannot be written, the latter before anything is computed.
    """
    if page is not None:
        _check_page(page)
    loaded = load_model(model, precision="fp32")
    explanation = explain(loaded.bundle, text, pair=pair, options=options)
    if page is not None:
        with published_file(page) as temporary:
            temporary.write_text(highlight_page(explanation, model=str(model)), encoding="utf-8")
    return explanation


def _check_page(page: Path) -> None:
    if page.is_dir() or not page.parent.is_dir():
        found = "it is a folder" if page.is_dir() else "its folder does not exist"
        raise UsageError(
            Finding("U265", str(page), found, "a file in an existing folder", "choose another --html")
        )
