"""From inputs to one self-contained HTML page; called by recipes.

Nothing is requested from anywhere: style and script stand in the page and are named by their hashes in a content
security policy that forbids everything else. Every word of a user passes Jinja2's escaping; the data of the script is
JSON in ASCII without <, > and &, which cannot end its element.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from manylabel import __version__
from manylabel.report.charts import shared_frames
from manylabel.report.comparison import comparison_of
from manylabel.report.contents import contents_of
from manylabel.report.inputs import ReportInputs
from manylabel.report.numbers import percent, shown, whole

TEMPLATES = Path(__file__).parent / "templates"


def render_report(inputs: ReportInputs) -> str:
    """The report of one model as HTML; equal inputs give equal bytes. Under 1 MB for 28 labels and any rows."""
    contents = contents_of(inputs)
    data = {
        "labels": [table.to_json() for table in contents.explorer],
        "left_out": contents.left_out_of_explorer,
    }
    return _page("report.html", data, contents=contents, title=contents.title)


def render_comparison(inputs_a: ReportInputs, inputs_b: ReportInputs, comparison: Mapping[str, Any]) -> str:
    """The page of two models: their figures side by side, differences with intervals, the conclusion first.

    `comparison` holds "conclusion", "figures" by path as "macro/average_precision" and "labels" by name and metric,
    each with "a", "b", "difference" (b minus a), "low", "high" and "p" or "p_corrected"; what is missing is left out.
    """
    contents = comparison_of(inputs_a, inputs_b, comparison)
    return _page("comparison.html", None, contents=contents, title=contents.title)


def script_json(data: object) -> Markup:
    """`data` as JSON that is inert inside a script element: ASCII, and <, > and & escaped."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # Safe: no character is left that HTML gives a meaning


def _page(template: str, data: object | None, **values: object) -> str:
    """Render a template with style, script, data and the policy that allows just these."""
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8") if data is not None else ""
    sources = [f"style-src '{_hash(style)}'", *([f"script-src '{_hash(script)}'"] if script else [])]
    policy = "; ".join(["default-src 'none'", *sources, "base-uri 'none'", "form-action 'none'"])
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "shown": shown, "whole": whole}
    return environment.get_template(template).render(
        style=Markup(style),  # Safe: a file of this package
        script=Markup(script),  # Safe: a file of this package
        data=None if data is None else script_json(data),
        policy=policy,
        frames=shared_frames(),
        version=__version__,
        **values,
    )


def _hash(text: str) -> str:
    """The name of an inline element's content in a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
