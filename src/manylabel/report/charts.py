"""Charts as inline SVG, styled by the page's stylesheet; called by contents.py.

Every panel shares one frame, drawn once on the page by `shared_frames`. What a colour says is also said by a dash, a
shape or a side, and every panel carries a sentence for screen readers. All user words are escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from markupsafe import Markup, escape

from manylabel.report.curves import Points, ReliabilityBin
from manylabel.report.numbers import shown
from manylabel.values import FloatArray

WIDTH, HEIGHT = 220, 196
LEFT, TOP, SIDE = 34, 10, 150
BAR_HEIGHT = 14
RIGHT = LEFT + 176
"""The plotting area is 176 wide and 150 high."""


def _x(value: float) -> str:
    return f"{LEFT + (RIGHT - LEFT) * value:.1f}"


def _y(value: float) -> str:
    return f"{TOP + SIDE * (1.0 - value):.1f}"


def shared_frames() -> Markup:
    """The axes that panels refer to; placed once, invisible itself."""
    lines = "".join(
        f'<path class="grid" d="M{_x(at)} {_y(0)}V{_y(1)}M{_x(0)} {_y(at)}H{_x(1)}"/>'
        for at in (0.25, 0.5, 0.75)
    )
    across = "".join(
        f'<text class="tick" x="{_x(at)}" y="{TOP + SIDE + 13}" text-anchor="middle">{at:g}</text>'
        for at in (0, 0.5, 1)
    )
    up = "".join(
        f'<text class="tick" x="{LEFT - 5}" y="{float(_y(at)) + 3.5:.1f}" text-anchor="end">{at:g}</text>'
        for at in (0, 0.5, 1)
    )
    box = f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{RIGHT - LEFT}" height="{SIDE}"/>'
    return Markup(  # Safe: numbers only
        '<svg class="defs" width="0" height="0" aria-hidden="true" focusable="false"><defs>'
        f'<g id="axes-across">{box}{across}</g><g id="axes">{box}{lines}{across}{up}</g></defs></svg>'
    )


def _panel(title: str, sentence: str, body: str, *, across: str, up: str, frame: str = "axes") -> Markup:
    """One chart with its title above and its axes named."""
    middle = TOP + SIDE / 2
    return Markup(  # Safe: title, sentence and axis names are escaped, the body is made of numbers
        f'<figure class="panel"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(sentence)}">'
        f'<use href="#{frame}"/>{body}'
        f'<text class="axis" x="{(LEFT + RIGHT) / 2:.0f}" y="{HEIGHT - 5}" text-anchor="middle">{escape(across)}</text>'
        f'<text class="axis" transform="translate(9 {middle:.0f}) rotate(-90)" text-anchor="middle">{escape(up)}</text>'
        "</svg></figure>"
    )


def _path(points: Points) -> str:
    return "M" + "L".join(f"{_x(across)} {_y(up)}" for across, up in points.tolist())


def _dot(at: tuple[float, float] | None) -> str:
    if at is None:
        return ""
    return f'<circle class="here" cx="{_x(at[0])}" cy="{_y(at[1])}" r="4.5"/>'


def curve_panel(
    title: str,
    sentence: str,
    model: Points,
    other: Points | None,
    *,
    axes: tuple[str, str],
    here: tuple[float, float] | None = None,
    diagonal: bool = False,
) -> Markup:
    """A solid curve for the model, a dashed one for what it is compared with, a dot at the threshold."""
    body = f'<path class="chance" d="M{_x(0)} {_y(0)}L{_x(1)} {_y(1)}"/>' if diagonal else ""
    if other is not None:
        body += f'<path class="curve other" d="{_path(other)}"/>'
    body += f'<path class="curve model" d="{_path(model)}"/>' + _dot(here)
    return _panel(title, sentence, body, across=axes[0], up=axes[1])


def reliability_panel(
    title: str, sentence: str, after: Sequence[ReliabilityBin], before: Sequence[ReliabilityBin] | None
) -> Markup:
    """Share of positives over mean score: filled dots with intervals, and hollow squares before calibration."""
    body = f'<path class="chance" d="M{_x(0)} {_y(0)}L{_x(1)} {_y(1)}"/>'
    for one in before or ():
        across, up = float(_x(one.mean_score)), float(_y(one.share))
        body += f'<rect class="before" x="{across - 3:.1f}" y="{up - 3:.1f}" width="6" height="6"/>'
    for one in after:
        body += f'<path class="whisker" d="M{_x(one.mean_score)} {_y(one.low)}V{_y(one.high)}"/>'
        body += f'<circle class="after" cx="{_x(one.mean_score)}" cy="{_y(one.share)}" r="3.2"/>'
    return _panel(title, sentence, body, across="mean score", up="share of positives")


def histogram_panel(
    title: str, sentence: str, counts: tuple[Sequence[int], Sequence[int]], threshold: float
) -> Markup:
    """Rows by score, positives upwards and negatives downwards from the middle, lengths as log(1 + rows)."""
    positives, negatives = counts
    top = max(1.0, math.log10(1 + max([*positives, *negatives, 9])))
    step, middle, half = (RIGHT - LEFT) / len(positives), TOP + SIDE / 2, SIDE / 2 - 2
    body = ""
    for power in range(1, int(top) + 1):
        away = half * power / top
        body += (
            f'<path class="grid" d="M{LEFT} {middle - away:.1f}H{RIGHT}M{LEFT} {middle + away:.1f}H{RIGHT}"/>'
        )
        for at in (middle - away, middle + away):
            name = f"{10**power:,}" if power < 4 else f"{10 ** (power - 3):,}k"
            body += f'<text class="tick" x="{LEFT - 5}" y="{at + 3.5:.1f}" text-anchor="end">{name}</text>'
    for side, numbers in (("positive", positives), ("negative", negatives)):
        for index, number in enumerate(numbers):
            length = half * math.log10(1 + number) / top
            start = middle - length if side == "positive" else middle
            if number:
                body += (
                    f'<rect class="{side}" x="{LEFT + step * index + 0.7:.1f}" y="{start:.1f}" '
                    f'width="{step - 1.4:.1f}" height="{max(length, 0.8):.1f}"/>'
                )
    body += f'<path class="middle" d="M{LEFT} {middle:.1f}H{RIGHT}"/>'
    body += f'<path class="cut" d="M{_x(threshold)} {_y(0)}V{_y(1)}"/>'
    return _panel(title, sentence, body, across="score", up="rows − / rows +", frame="axes-across")


def interval_bar(
    value: float | None,
    interval: tuple[float, float] | None,
    other: float | None,
    *,
    span: tuple[float, float] = (0.0, 1.0),
) -> Markup:
    """A dot with its interval on a line from `span[0]` to `span[1]`, and a tick where the baseline is."""
    if value is None:
        return Markup("")
    low, width = span[0], span[1] - span[0]

    def at(number: float) -> str:
        return f"{4 + 112 * min(max((number - low) / width, 0.0), 1.0):.1f}"

    middle = BAR_HEIGHT // 2
    body = f'<path class="rail" d="M4 {middle}H116"/>'
    if low < 0.0 < span[1]:
        body += f'<path class="zero" d="M{at(0.0)} 0V{BAR_HEIGHT}"/>'
    if interval is not None:
        body += f'<path class="whisker" d="M{at(interval[0])} {middle}H{at(interval[1])}"/>'
    if other is not None:
        body += f'<path class="tickmark" d="M{at(other)} 1V{BAR_HEIGHT - 1}"/>'
    body += f'<circle class="after" cx="{at(value)}" cy="{middle}" r="3.6"/>'
    return Markup(  # Safe: numbers only
        f'<svg class="bar" viewBox="0 0 120 {BAR_HEIGHT}" aria-hidden="true" focusable="false">{body}</svg>'
    )


def pair_squares(title: str, labels: Sequence[str], shares_LL: FloatArray) -> Markup:
    """A grid of squares: row label i, column label j, the side as the root of the share of i's rows that carry j."""
    step, left, top = 14, 112, 20
    size = step * len(labels)
    body = ""
    for index, name in enumerate(labels):
        at = top + step * index + step / 2
        body += (
            f'<text class="tick" x="{left - 20}" y="{at + 3.5:.1f}" text-anchor="end">'
            f"{escape(shown(name, 17))}</text>"
            f'<text class="tick" x="{left - 5}" y="{at + 3.5:.1f}" text-anchor="end">{index + 1}</text>'
            f'<text class="tick" x="{left + step * index + step / 2:.1f}" y="{top - 6}" text-anchor="middle">'
            f"{index + 1}</text>"
        )
    for row, column in _drawn(shares_LL):
        side = (step - 2) * math.sqrt(float(shares_LL[row, column]))
        x, y = left + step * (column + 0.5) - side / 2, top + step * (row + 0.5) - side / 2
        kind = "own" if row == column else "pair"
        body += f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{side:.1f}" height="{side:.1f}"/>'
    frame = f'<rect class="frame" x="{left}" y="{top}" width="{size}" height="{size}"/>'
    return Markup(  # Safe: the title and names are escaped, the rest is numbers
        f'<figure class="pairs" tabindex="0"><figcaption>{escape(title)}</figcaption>'
        f'<svg width="{left + size + 4}" viewBox="0 0 {left + size + 4} {top + size + 4}" role="img" '
        f'aria-label="{escape(title)}; the table below gives the numbers">{frame}{body}</svg></figure>'
    )


def _drawn(shares_LL: FloatArray) -> Iterable[tuple[int, int]]:
    """Cells large enough to be seen."""
    return zip(*(axis.tolist() for axis in np.nonzero(shares_LL >= 0.005)), strict=True)
