"""How numbers and users' words look on the page; the page's script formats in the same way.

Called by everything in this package that writes text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal

from manylabel.terminal import printable

UNDEFINED = "undefined"
NOT_MEASURED = "–"
SPACE = "\N{NO-BREAK SPACE}"
NAMES_IN_SENTENCE = 5
WILSON_QUANTILE = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""


def fixed(value: float, digits: int) -> str:
    """`value` with so many decimals, exactly as JavaScript's toFixed: the exact binary value, halves away from zero."""
    text = str(Decimal(float(value)).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_UP))
    return text if value < 0 else text.lstrip("-")


def whole(value: int) -> str:
    """A count with commas between thousands."""
    return f"{int(value):,}"


def figure(value: float | None, digits: int = 3) -> str:
    """A figure with three decimals; `undefined` where there is none."""
    return UNDEFINED if value is None else fixed(value, digits)


def signed(value: float | None, digits: int = 3) -> str:
    """A difference with its sign, a real minus included."""
    if value is None:
        return UNDEFINED
    text = fixed(abs(value), digits)
    if float(text) == 0.0:
        return text
    return ("+" if value > 0 else "\N{MINUS SIGN}") + text


def percent(value: float | None, digits: int = 1) -> str:
    """A share as percent."""
    return UNDEFINED if value is None else f"{fixed(100 * value, digits)}{SPACE}%"


def grouped(value: float, digits: int) -> str:
    """A number of at least 0 with commas between thousands and so many decimals."""
    before, point, after = fixed(value, digits).partition(".")
    return f"{int(before):,}{point}{after}"


def threshold_text(threshold: float) -> str:
    """A threshold with four decimals, below 0.01 with six."""
    return fixed(threshold, 6 if 0.0 < threshold < 0.01 else 4)


def span(interval: Iterable[float] | None, digits: int = 3, *, is_signed: bool = False) -> str:
    """An interval as `0.120 to 0.340`; nothing where there is none."""
    if interval is None:
        return ""
    low, high = interval
    show = signed if is_signed else figure
    return f"{show(low, digits)} to {show(high, digits)}"


def shown(text: str, limit: int | None = None) -> str:
    """A user's words in one line: control characters and text-direction marks visible as U+FFFD, long ones cut."""
    line = printable(" ".join(text.split()) if text else text)
    if limit is not None and len(line) > limit:
        return line[: limit - 1] + "…"
    return line


def listed(names: Iterable[str]) -> str:
    """Up to five names, then how many more."""
    every = [shown(name, 40) for name in names]
    rest = len(every) - NAMES_IN_SENTENCE
    return ", ".join(every[:NAMES_IN_SENTENCE]) + (f" and {rest:,} more" if rest > 0 else "")


def wilson(hits: int, rows: int) -> tuple[float, float] | None:
    """The 95 % score interval of a share (Wilson 1927), in [0, 1]; None without rows."""
    if rows == 0:
        return None
    share, z = hits / rows, WILSON_QUANTILE
    middle = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return max(middle - half, 0.0), min(middle + half, 1.0)
