import hashlib

import pytest

from manylabel.digest import CHUNK_BYTES, sha256_of


@pytest.mark.parametrize("size", [0, 5, CHUNK_BYTES, 2 * CHUNK_BYTES + 3])
def test_the_digest_is_that_of_all_bytes(tmp_path, size):
    content = bytes(index % 251 for index in range(size))
    (tmp_path / "file").write_bytes(content)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(content).hexdigest()
