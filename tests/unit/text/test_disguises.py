import json
import os
import subprocess
import sys
from random import Random

import pytest

from manylabel.text import disguises
from manylabel.text.disguises import ATTACKS, HOMOGLYPHS, LEET, NEIGHBOURS, disguise

TEXT = "You are the stupidest person I have ever seen, honestly; please go away from Wikipedia forever."
LONG = " ".join([TEXT] * 40)


@pytest.mark.parametrize("attack", sorted(ATTACKS))
def test_every_attack_changes_english_and_seeds_differ(attack):
    assert disguise(TEXT, attack, seed=1) != TEXT
    drawn = attack in {"typo", "leet", "spacing", "homoglyphs", "zero_width"}
    assert (disguise(TEXT, attack, seed=1) != disguise(TEXT, attack, seed=2)) == drawn


@pytest.mark.parametrize("attack", sorted(ATTACKS))
@pytest.mark.parametrize(
    "text", ["", " ", "😀👩‍👩‍👧", "你好世界", "مرحبا بالعالم", "שלום", "\ud800 \udfff", "नमस्ते"]
)
def test_texts_it_does_not_apply_to_stay(attack, text):
    assert disguise(text, attack, seed=1) == text


@pytest.mark.parametrize("attack", ["typo", "leet", "spacing", "homoglyphs", "zero_width", "full_width"])
def test_russian_and_greek_words_stay(attack):
    assert disguise("Привет мир, Καλημέρα κόσμε", attack, seed=1) == "Привет мир, Καλημέρα κόσμε"


def test_the_same_in_another_process_with_another_hash_seed():
    code = (
        "import json, sys; from manylabel.text.disguises import ATTACKS, disguise;"
        "print(json.dumps([disguise(sys.argv[1], attack, seed=5) for attack in ATTACKS]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, TEXT], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": "77"},
    )  # fmt: skip
    assert json.loads(done.stdout) == [disguise(TEXT, attack, seed=5) for attack in ATTACKS]


def test_the_disguises_of_a_seed_do_not_change():
    """Numbers of a table are only comparable while these hold; written down from the first version."""
    assert disguise("you stupid idiot", "leet", seed=1) == "you 5tupid !d!07"
    assert disguise("you stupid idiot", "typo", seed=6) == "you stupud idit"


def test_a_typo_is_one_slip_inside_a_word():
    words, changed = LONG.split(), disguise(LONG, "typo", seed=1).split()
    slips = [(old, new) for old, new in zip(words, changed, strict=True) if old != new]
    assert 0.1 < len(slips) / len(words) < 0.35
    for old, new in slips:
        assert old[0] == new[0]
        assert len(old.strip(".,;")) >= 4
        assert len(old) - len(new) in {0, 1}
        differences = sum(a != b for a, b in zip(old, new, strict=False))
        assert differences <= 2 or len(old) != len(new)


def test_spacing_and_zero_width_only_add():
    assert disguise(LONG, "spacing", seed=1).replace(" ", "") == LONG.replace(" ", "")
    hidden = disguise(LONG, "zero_width", seed=1)
    assert "".join(character for character in hidden if character not in disguises.INVISIBLE) == LONG


@pytest.mark.parametrize(("attack", "table"), [("leet", LEET), ("homoglyphs", HOMOGLYPHS)])
def test_letters_are_replaced_at_the_stated_rate_by_their_stand_ins(attack, table):
    changed = disguise(LONG, attack, seed=1)
    key = str.lower if attack == "leet" else str
    replaceable = [(old, new) for old, new in zip(LONG, changed, strict=True) if key(old) in table]
    assert all(new == old or new in table[key(old)] for old, new in replaceable)
    assert sum(old != new for old, new in replaceable) / len(replaceable) == pytest.approx(0.5, abs=0.03)
    assert all(old == new for old, new in zip(LONG, changed, strict=True) if key(old) not in table)


def test_case_and_width():
    assert disguise("Straße, ёлка ΐ", "upper_case", seed=1) == "STRAßE, ЁЛКА ΐ"
    assert disguise("idiot, ёлка", "alternating_case", seed=1) == "IdIoT, ёЛкА"
    assert disguise("Az 09!", "full_width", seed=1) == "Ａｚ ０９!"


def test_keys_beside_each_other():
    assert NEIGHBOURS["q"] == "w"
    assert NEIGHBOURS["s"] == "ad"
    assert NEIGHBOURS["m"] == "n"
    assert len(NEIGHBOURS) == 26


def test_an_attack_draws_from_random_alone():
    """The only numbers that Python promises to keep between versions."""

    class Only:
        random = Random(3).random

    for attack in ATTACKS.values():
        attack(LONG, Only())
