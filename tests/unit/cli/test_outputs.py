"""Output files that exist are refused before anything takes time, all at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from manylabel.cli.main import main
from manylabel.cli.outputs import require_new
from manylabel.errors import UsageError


def test_all_existing_outputs_are_named_at_once(tmp_path: Path) -> None:
    table, tasks = tmp_path / "errors.jsonl", tmp_path / "tasks.json"
    table.write_text("kept")
    tasks.write_text("kept")
    with pytest.raises(UsageError) as refused:
        require_new(False, out=table, label_studio=tasks)
    places = [finding.place for finding in refused.value.findings]
    assert places == [f"--out {table}", f"--label-studio {tasks}"]
    assert all("--overwrite" in finding.next_step for finding in refused.value.findings)


def test_new_names_and_overwrite_pass_and_a_folder_never_does(tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("kept")
    require_new(False, output=tmp_path / "new.csv", html=None)
    require_new(True, output=tmp_path / "old.csv")
    with pytest.raises(UsageError, match="a folder"):
        require_new(True, output=tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "no-model", "--input", "in.csv", "--output"),
        ("explain", "no-model", "some text", "--html"),
        ("label-errors", "in.csv", "--out"),
        ("label-errors", "in.csv", "--corrected", "export.json", "--out"),
    ],
)
def test_commands_refuse_before_they_read_anything(tmp_path, capsys, arguments) -> None:
    target = tmp_path / "result.csv"
    target.write_text("kept")
    with pytest.raises(SystemExit) as ended:
        main([*arguments, str(target)])
    assert ended.value.code == 2
    assert "it exists already" in capsys.readouterr().err
    assert target.read_text() == "kept"
