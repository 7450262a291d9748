"""Texts that show nothing."""

import pytest

from manylabel.data.blank import is_blank

BLANK = ["", " ", "\t\n\u3000", "\u200b", "\ufeff \u200d\u200b", " \u00ad ", "\u200b \u200b"]
BLANK += ["\u2066\u2069", "\u3164", "\ufe0f\u200b"]


@pytest.mark.parametrize("text", BLANK)
def test_blank(text):
    assert is_blank(text)


@pytest.mark.parametrize("text", ["a", "\u200ba", "\u200b \u200b.\u200b", "\u0301", "🙂", "0"])
def test_not_blank(text):
    assert not is_blank(text)
