"""Tokenised texts on disk: the same back, or nothing."""

import numpy as np
import pytest

from manylabel.text.token_cache import FILES, cached_encodings, store_encodings, stored_encodings
from manylabel.values import Encodings

ENCODINGS = Encodings(
    np.arange(7, dtype=np.int32),
    np.array([0, 0, 1, 0, 0, 0, 1], np.uint8),
    np.array([0, 3, 3, 7]),
    np.array([True, False, False]),
)


def assert_same(found, expected):
    for name in ("ids_T", "segments_T", "offsets_N1", "truncated_N"):
        assert np.array_equal(getattr(found, name), getattr(expected, name))
        assert getattr(found, name).dtype == getattr(expected, name).dtype


def test_what_is_stored_comes_back_mapped(tmp_path):
    store_encodings(tmp_path, "key", ENCODINGS)
    found = stored_encodings(tmp_path, "key")
    assert_same(found, ENCODINGS)
    assert isinstance(found.ids_T, np.memmap)
    assert {path.name for path in tmp_path.iterdir()} <= set(FILES)


def test_another_key_and_an_empty_folder_give_nothing(tmp_path):
    assert stored_encodings(tmp_path, "key") is None
    store_encodings(tmp_path, "key", ENCODINGS)
    assert stored_encodings(tmp_path, "other") is None


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith((".npy", "tokens.json"))])
@pytest.mark.parametrize("damage", ["truncate", "flip", "delete", "empty"])
def test_damage_gives_nothing(tmp_path, name, damage):
    store_encodings(tmp_path, "key", ENCODINGS)
    path = tmp_path / name
    content = bytearray(path.read_bytes())
    if damage == "delete":
        path.unlink()
    else:
        content[-3] ^= 4
        path.write_bytes(
            {"truncate": bytes(content[: len(content) // 2]), "flip": content, "empty": b""}[damage]
        )
    assert stored_encodings(tmp_path, "key") is None


def test_texts_are_tokenised_once(tmp_path):
    calls = []

    def make():
        calls.append(1)
        return ENCODINGS

    for may_write in (False, True, True, False):
        assert_same(cached_encodings(tmp_path, "key", make, may_write=may_write), ENCODINGS)
    assert len(calls) == 2


def test_a_disk_that_takes_nothing_costs_only_time(tmp_path):
    folder = tmp_path / "no-such-folder"
    assert_same(cached_encodings(folder, "key", lambda: ENCODINGS, may_write=True), ENCODINGS)
