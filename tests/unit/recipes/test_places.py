from pathlib import Path

import pytest

from manylabel.errors import UsageError
from manylabel.recipes.places import require_place


def test_only_a_file_in_an_existing_folder_can_be_written(tmp_path, monkeypatch):
    require_place(tmp_path / "new.html", "--out")
    with pytest.raises(UsageError, match=r"U209 .*it is a folder.* choose another --out"):
        require_place(tmp_path, "--out")
    with pytest.raises(UsageError, match=r"U209 .*its folder does not exist"):
        require_place(tmp_path / "absent" / "new.html", "--out")
    monkeypatch.chdir(tmp_path)
    require_place(Path("here.html"), "--out")
