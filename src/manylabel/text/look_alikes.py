"""Letters of other scripts that look like plain Latin letters; used by `folding` (away) and `disguises` (in).

The pairs are those of Cyrillic and Greek letters in Unicode Technical Standard 39 ("confusables") that stand for one
ASCII letter in ordinary fonts. Small capitals (Cyrillic `в` for B) and loose likenesses (`п` for n) are left out:
they would put more honest words at risk than disguises they undo.
"""

from __future__ import annotations

CYRILLIC = dict(
    zip("асԁеһіјӏорԛѕуѵԝхАВСЕԌНІЈКМОРԚЅТѴԜХУҮӀ", "acdehijlopqsyvwxABCEGHIJKMOPQSTVWXYYI", strict=True)
)
GREEK = dict(zip("οΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "oABEZHIKMNOPTYX", strict=True))
GREEK_INSIDE = dict(zip("αγικνρυχ", "ayikvpux", strict=True))
"""Look-alikes that are also symbols of science (TNFα, NFκB, ρgh): a disguise only between two small Latin letters."""
