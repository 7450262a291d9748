import sys

import pytest

from manylabel.bundle import encoder_folder
from manylabel.bundle.encoder_folder import check_encoder_target, published_encoder, read_origin, write_origin
from manylabel.errors import UsageError


def publish(target, content, *, overwrite=False):
    with published_encoder(target, overwrite=overwrite) as folder:
        (folder / "weights").write_text(content)
        write_origin(folder, made_by="a test", origin={"content": content})


def test_a_folder_appears_with_its_origin(tmp_path):
    publish(tmp_path / "encoder", "one")
    origin = read_origin(tmp_path / "encoder")
    assert (origin["made_by"], origin["origin"], origin["files"]) == (
        "a test",
        {"content": "one"},
        ["weights"],
    )
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_only_overwrite_replaces(tmp_path, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(encoder_folder, "exchange", lambda first, second: False)
    target = tmp_path / "encoder"
    publish(target, "one")
    with pytest.raises(UsageError, match="U201"):
        publish(target, "two")
    publish(target, "three", overwrite=True)
    assert (target / "weights").read_text() == "three"
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]


def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch):
    target = tmp_path / "encoder"
    publish(target, "one")

    def interrupted(folder, **ignored):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[__name__], "write_origin", interrupted)
        with pytest.raises(KeyboardInterrupt):
            publish(target, "two", overwrite=True)
    assert (target / "weights").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]
    monkeypatch.setattr(encoder_folder, "exchange", lambda first, second: first / "nothing" == second)
    real_rename = type(target).rename

    def fail(path, name):
        if path.name.endswith(".next") and name == target:
            raise OSError("disk")
        return real_rename(path, name)

    monkeypatch.setattr(type(target), "rename", fail)
    with pytest.raises(OSError, match="disk"):
        publish(target, "two", overwrite=True)
    assert (target / "weights").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]


def test_what_a_killed_process_left_is_put_back_or_removed(tmp_path):
    target = tmp_path / "encoder"
    publish(target, "one")
    target.rename(tmp_path / ".encoder.former")
    with pytest.raises(UsageError, match="U201"):
        publish(target, "two")
    assert (target / "weights").read_text() == "one"
    (tmp_path / ".encoder.next").mkdir()
    (tmp_path / ".encoder.former").mkdir()
    publish(target, "two", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]


def test_foreign_content_is_never_replaced(tmp_path):
    target = tmp_path / "encoder"
    publish(target, "one")
    (target / "notes.txt").write_text("mine")
    for overwrite in (True, False):
        with pytest.raises(UsageError, match=r"U207 .*holds notes\.txt, not written"):
            check_encoder_target(target, overwrite=overwrite)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="U207"):
        check_encoder_target(tmp_path / "file", overwrite=True)
    (tmp_path / "other").mkdir()
    check_encoder_target(tmp_path / "other", overwrite=True)
    for index in range(5):
        (tmp_path / "other" / f"{index}").write_text("")
    with pytest.raises(UsageError, match="0, 1, 2 and 2 more"):
        check_encoder_target(tmp_path / "other", overwrite=True)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": "manylabel encoder"}', '{"format": "x", "files": []}']
)
def test_what_is_no_origin_is_none(tmp_path, content):
    (tmp_path / "encoder.json").write_text(content)
    assert read_origin(tmp_path) is None
