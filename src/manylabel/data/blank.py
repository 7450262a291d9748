"""Whether a text shows anything at all; asked where rows without a text are told."""

from __future__ import annotations

RANGES = (
    (0x00AD, 0x00AD),  # soft hyphen
    (0x034F, 0x034F),  # combining grapheme joiner
    (0x061C, 0x061C),  # Arabic letter mark
    (0x115F, 0x1160),  # Hangul fillers
    (0x17B4, 0x17B5),  # Khmer inherent vowels
    (0x180B, 0x180F),  # Mongolian selectors and vowel separator
    (0x200B, 0x200F),  # zero width space, joiners, direction marks
    (0x202A, 0x202E),  # directional embeddings
    (0x2060, 0x206F),  # word joiner, invisible operators, isolates
    (0x3164, 0x3164),  # Hangul filler
    (0xFE00, 0xFE0F),  # variation selectors
    (0xFEFF, 0xFEFF),  # byte order mark
    (0xFFA0, 0xFFA0),  # halfwidth Hangul filler
    (0xE0000, 0xE0FFF),  # tags, variation selectors supplement
)
"""First and last code point of what is not shown (The Unicode Standard, Default_Ignorable_Code_Point)."""
INVISIBLE = frozenset(chr(code) for first, last in RANGES for code in range(first, last + 1))


def is_blank(text: str) -> bool:
    """Whether a text has only white space and characters that are not shown."""
    stripped = text.strip()
    # The first character settles nearly all texts, the others are looked at one by one.
    return not stripped or (
        stripped[0] in INVISIBLE and all(letter in INVISIBLE or letter.isspace() for letter in stripped)
    )
