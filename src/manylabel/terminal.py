"""How text reaches a terminal: inert, and without breaking when nobody reads. Called by observers.py and the CLI."""

from __future__ import annotations

import errno
import os
import unicodedata
from typing import Any

from rich.console import Console

WIDTH_OF_FILES = 120
"""Characters a line when the output is a file or a pipe, which have no width of their own."""
NARROWEST = 80
"""Characters that a table of figures needs; a narrower terminal breaks its lines, where rich would cut figures."""
JOINERS = "\u200c\u200d"
"""Zero-width letters that Persian, Indic scripts and emoji need; they move nothing."""


def printable(text: str) -> str:
    """`text` without control characters and bidirectional overrides, which could rewrite a terminal."""
    if text.isprintable():
        return text
    return "".join(character if _is_inert(character) else "\N{REPLACEMENT CHARACTER}" for character in text)


def printable_lines(text: str) -> str:
    """`printable` of each line; for texts of our own that have several."""
    return "\n".join(map(printable, text.split("\n")))


class Terminal(Console):
    """A console that takes words as they are: no markup, no emoji codes, no control characters.

    Where standard error has no reader any more it falls silent; where standard output has none, printing raises
    BrokenPipeError. (rich ends the process in both cases.)
    """

    def __init__(self, *, stderr: bool = False) -> None:
        """Print to standard output, or to standard error."""
        # Inside a notebook rich would print HTML and ask for ipywidgets.
        super().__init__(
            stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True, force_jupyter=False
        )
        known = self.is_terminal or "COLUMNS" in os.environ
        self.width = max(self.width, NARROWEST) if known else WIDTH_OF_FILES

    def print(self, *objects: Any, **options: Any) -> None:  # noqa: ANN401 - as rich's
        """Print; texts line by line through `printable`."""
        super().print(*(printable_lines(one) if isinstance(one, str) else one for one in objects), **options)

    def on_broken_pipe(self) -> None:
        """Fall silent or tell the caller."""
        if not self.stderr:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        self.quiet = True


def _is_inert(character: str) -> bool:
    return character.isprintable() or character in JOINERS or unicodedata.category(character) == "Zs"
