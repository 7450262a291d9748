"""Which codes of languages are taken, and what the library is told."""

import pytest

from manylabel.errors import UsageError
from manylabel.text.sentences import TWO_LETTERS, WITH_RULES, has_own_rules, known_language, split_sentences


@pytest.mark.parametrize(
    ("code", "letters"),
    [
        ("de", "de"),
        ("DE", "de"),
        ("de-AT", "de"),
        ("pt_BR", "pt"),
        (" en ", "en"),
        ("sv", "sv"),
        ("zh-Hans", "zh"),
    ],
)
def test_codes_are_brought_to_two_letters(code, letters):
    assert known_language(code) == letters
    assert has_own_rules(code) == (letters in WITH_RULES)


@pytest.mark.parametrize(
    ("code", "near"),
    [("xx", "code of the texts"), ("german", "such as en, de or zh"), ("", "code of the texts")],
)
def test_what_names_no_language_is_refused(code, near):
    with pytest.raises(UsageError, match="U323") as error:
        known_language(code)
    (finding,) = error.value.findings
    assert near in finding.next_step
    assert "de" in finding.allowed


def test_the_rules_are_those_of_the_language_in_any_spelling():
    """`z. B.` ends no sentence in German; the library itself would take English rules for DE."""
    text = "Das gilt bzw. Galt immer. Ja."
    assert split_sentences([text], language="DE") == split_sentences([text], language="de")
    assert split_sentences([text], language="de") != split_sentences([text], language="en")


def test_the_codes_are_those_of_the_standard():
    codes = {*WITH_RULES, *TWO_LETTERS}
    assert len(WITH_RULES) + len(TWO_LETTERS) == len(codes) == 184
    assert all(len(code) == 2 and code.isalpha() and code.islower() for code in codes)
