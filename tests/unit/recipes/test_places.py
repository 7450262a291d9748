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


def test_a_folder_that_takes_no_files_is_found_before_anything_is_computed(tmp_path, monkeypatch):
    def refused(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refused)
    with pytest.raises(UsageError, match=r"U212 .*Permission denied"):
        require_place(tmp_path / "new.csv", "--output")
