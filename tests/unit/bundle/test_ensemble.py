"""An ensemble's folder: what lies in it, every file of every model checked, the same bytes for the same bundle."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from manylabel.bundle import files
from manylabel.bundle.card import model_card
from manylabel.bundle.ensemble import Ensemble, NetworkModel
from manylabel.bundle.load import load_bundle
from manylabel.bundle.manifest import Manifest, describe_files, read_manifest
from manylabel.bundle.probes import Probes
from manylabel.bundle.save import save_bundle
from manylabel.errors import BundleError, UsageError
from manylabel.inference.load import load_model

NETWORK_FILES = (files.CONFIG, files.WEIGHTS, files.TOKENIZER, files.TOKENIZER_CONFIG)
MODEL_FILES = (
    *(f"models/{name}/{file}" for name in ("net-mean", "net-cls") for file in NETWORK_FILES),
    "models/words/linear.safetensors",
)
TEXTS = ["late parcel", "thanks", "refund my money please " * 40, ""]


@pytest.fixture
def copy(tiny_ensemble, tmp_path):
    return shutil.copytree(tiny_ensemble, tmp_path / "model")


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def seal_again(folder):
    """What somebody would do who edits a model and recomputes every hash."""
    manifest = read_manifest(folder)
    (folder / files.MANIFEST).unlink()
    entries = {name: entry.model_dump() for name, entry in describe_files(folder).items()}
    again = Manifest.model_validate({**manifest.model_dump(), "files": entries})
    (folder / files.MANIFEST).write_text(again.to_text(), encoding="utf-8")


def test_the_folder_holds_what_is_promised(tiny_ensemble):
    beside = {
        files.ENSEMBLE, files.DECISIONS, files.BASELINE, files.SEEN_TEXTS, files.PROBES, files.SETTINGS, files.CARD
    }  # fmt: skip
    manifest = read_manifest(tiny_ensemble)
    assert set(manifest.files) == {*MODEL_FILES, *beside}
    assert set(contents(tiny_ensemble)) == {*manifest.files, files.MANIFEST}
    assert manifest.format_version == 3
    assert (manifest.head, manifest.max_length) == (None, None)
    loaded = load_model(tiny_ensemble)
    assert loaded.probe_difference <= 1e-6
    assert loaded.predictor.predict(TEXTS).truncated_B.tolist() == [False, False, True, False]


def test_saved_again_it_has_the_same_bytes_and_gives_the_same_numbers(tiny_ensemble, tmp_path):
    save_bundle(load_bundle(tiny_ensemble), tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tiny_ensemble)
    first, second = (
        load_model(folder).predictor.logits(TEXTS)[0] for folder in (tiny_ensemble, tmp_path / "again")
    )
    assert np.array_equal(first, second)


def test_every_file_may_be_read_by_whom_the_manifest_may_be(tiny_ensemble):
    modes = {path.stat().st_mode & 0o777 for path in tiny_ensemble.rglob("*") if path.is_file()}
    assert len(modes) == 1


def flip_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def delete(path):
    path.unlink()


def link(path):
    moved = path.parents[2] / "moved"
    path.rename(moved)
    path.symlink_to(moved)


@pytest.mark.parametrize("damage", [flip_bit, truncate, delete, link])
@pytest.mark.parametrize("name", [*MODEL_FILES, files.ENSEMBLE])
def test_damage_is_refused_by_the_name_of_model_and_file(copy, name, damage):
    damage(copy / name)
    with pytest.raises(BundleError) as refused:
        load_model(copy)
    assert name in str(refused.value)


def test_a_missing_model_is_refused_by_each_of_its_files(copy):
    shutil.rmtree(copy / "models" / "net-cls")
    with pytest.raises(BundleError) as refused:
        load_model(copy)
    assert {finding.code for finding in refused.value.findings} == {"B403"}
    assert all(f"net-cls/{file}" in str(refused.value) for file in NETWORK_FILES)


def test_foreign_files_and_folders_are_refused_by_name(copy, tmp_path):
    (copy / "models" / "net-cls" / "pytorch_model.bin").write_bytes(b"x")
    (copy / "models" / "net-new").mkdir()
    (copy / "models" / "net-new" / "code.py").write_text("print()")
    (copy / "extra").mkdir()
    with pytest.raises(BundleError) as refused:
        load_model(copy)
    places = {finding.place.removeprefix(f"{copy}/") for finding in refused.value.findings}
    assert places == {"models/net-cls/pytorch_model.bin", "models/net-new", "extra"}
    assert {finding.code for finding in refused.value.findings} == {"B404"}


def test_a_linked_folder_is_not_followed(copy, tmp_path):
    (copy / "models").rename(tmp_path / "models")
    (copy / "models").symlink_to(tmp_path / "models")
    with pytest.raises(BundleError) as refused:
        load_model(copy)
    assert "models" in str(refused.value)


def test_swapped_models_are_found_by_the_probes_even_with_right_hashes(copy):
    path = copy / "models" / "words" / files.LINEAR
    arrays = load_file(path)
    arrays["intercepts_L"] = arrays["intercepts_L"] + 0.05
    save_file(arrays, path)
    seal_again(copy)
    with pytest.raises(BundleError, match="recorded probabilities"):
        load_model(copy)


def edit(folder, change):
    path = folder / files.ENSEMBLE
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    seal_again(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content.pop("blend"), "do not fit"),
        (lambda content: content["models"].pop(), "use every model"),
        (lambda content: content["models"][0].pop("head"), "no head"),
        (lambda content: content["models"][0].update(kind="pickle"), "do not fit"),
        (lambda content: content["models"][2].update(name="../../words"), "no model"),
        (lambda content: content["components"][0].update(models=["net-mean"] * 2), "each once"),
        (lambda content: content["components"][1].update(view="upside-down"), "no view"),
        (lambda content: content["components"].pop(), "use every model"),
        (lambda content: content["blend"].update(labels=["a", "b", "c"]), "other labels"),
        (lambda content: content["blend"].update(kind="mode"), "kind is unknown"),
        (lambda content: content.update(more=1), "do not fit"),
    ],
)
def test_contradictions_are_refused_even_with_right_hashes(copy, change, said):
    edit(copy, change)
    with pytest.raises(BundleError, match=said):
        load_bundle(copy)


def test_shuffled_labels_of_one_model_are_refused_by_its_name(copy):
    path = copy / "models" / "net-cls" / files.CONFIG
    config = json.loads(path.read_text())
    config["id2label"]["0"], config["id2label"]["1"] = config["id2label"]["1"], config["id2label"]["0"]
    path.write_text(json.dumps(config))
    seal_again(copy)
    with pytest.raises(BundleError, match=r"net-cls.*labels"):
        load_model(copy)


def test_weights_that_are_no_numbers_are_refused_by_the_model(copy):
    path = copy / "models" / "net-cls" / files.WEIGHTS
    weights = load_file(path)
    weights["classifier.bias"][0] = np.nan
    save_file(weights, path)
    seal_again(copy)
    with pytest.raises(BundleError, match="models/net-cls"):
        load_model(copy)


def test_an_ensemble_replaces_a_model_and_the_other_way_round(tiny_ensemble, tiny_model, tmp_path):
    target = tmp_path / "model"
    save_bundle(load_bundle(tiny_model), target)
    with pytest.raises(UsageError, match="--overwrite"):
        save_bundle(load_bundle(tiny_ensemble), tmp_path / "model", overwrite=False)
    assert (tmp_path / "model-2").is_dir()
    save_bundle(load_bundle(tiny_ensemble), target, overwrite=True)
    assert contents(target) == contents(tiny_ensemble)
    save_bundle(load_bundle(tiny_model), target, overwrite=True)
    assert contents(target) == contents(tiny_model)
    assert {path.name for path in tmp_path.iterdir()} == {"model", "model-2"}


def test_a_users_file_among_the_models_is_not_overwritten(copy, tiny_ensemble):
    thesis = copy / "models" / "net-cls" / "thesis.md"
    thesis.write_text("years of work")
    with pytest.raises(UsageError, match=r"models/net-cls/thesis\.md"):
        save_bundle(load_bundle(tiny_ensemble), copy, overwrite=True)
    assert thesis.read_text() == "years of work"


def test_no_manifest_removes_what_lies_outside_its_folder(copy, tiny_ensemble, tmp_path):
    (tmp_path / "precious").write_text("years of work")
    content = json.loads((copy / files.MANIFEST).read_text())
    content["files"]["../precious"] = content["files"][files.CARD]
    content["files"]["models/../../precious"] = content["files"][files.CARD]
    (copy / files.MANIFEST).write_text(json.dumps(content))
    save_bundle(load_bundle(tiny_ensemble), copy, overwrite=True)
    assert (tmp_path / "precious").read_text() == "years of work"
    assert contents(copy) == contents(tiny_ensemble)


def test_nothing_is_left_of_a_save_that_failed(tiny_ensemble, tmp_path, monkeypatch):
    bundle = load_bundle(tiny_ensemble)

    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("manylabel.bundle.save.describe_files", fail)
    with pytest.raises(OSError, match="No space"):
        save_bundle(bundle, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_what_asks_for_one_network_is_told_the_names_of_those_there_are(tiny_ensemble, tiny_model):
    bundle = load_bundle(tiny_ensemble)
    for ask in (lambda: bundle.classifier, lambda: bundle.tokenizer, lambda: bundle.encoder_config):
        with pytest.raises(UsageError, match=r"ensemble of 3 models.*--member: net-cls, net-mean"):
            ask()
    with pytest.raises(UsageError, match=r"no network 'net-man'.*did you mean 'net-mean'"):
        bundle.of_network("net-man")
    one = load_bundle(tiny_model)
    assert one.of_network() is one
    with pytest.raises(UsageError, match=r"'words' is a linear model, .* Allowed: net-cls, net-mean"):
        bundle.of_network("words")
    with pytest.raises(UsageError, match="has no members"):
        one.of_network("net-mean")
    member = bundle.of_network("net-cls")
    assert isinstance(member.model, NetworkModel)
    assert member.thresholds is bundle.thresholds
    assert (bundle.max_length, one.max_length) == (64, 64)


def test_the_card_says_what_the_ensemble_is_made_of(tiny_ensemble):
    card = (tiny_ensemble / files.CARD).read_text()
    assert "An ensemble of 3 models." in card
    assert "| end | net-cls | tail |" in card
    assert "a logistic regression on the components' logits" in card
    assert "Every network reads texts up to 64 tokens" in card
    bundle = load_bundle(tiny_ensemble)
    words = bundle.model.models[2]
    components = tuple(each for each in bundle.model.components if each.name == "words")
    blend = replace(bundle.model.blend, kind="mean", components=("words",), arrays={})
    alone = replace(bundle, model=Ensemble((words,), components, blend), probes=Probes({}))
    assert "tokens" not in model_card(alone).split("## Limits")[1].split("seen_texts")[0]


def test_loading_unpickles_nothing_and_opens_no_connection(tiny_ensemble):
    program = (
        "import sys\n"
        "import torch, scipy.sparse, pyarrow.csv, manylabel.inference.load as load\n"
        "events = []\n"
        "watched = ('pickle.find_class', 'socket.connect', 'subprocess.Popen', 'os.system')\n"
        "sys.addaudithook(lambda event, arguments: events.append(event) if event in watched else None)\n"
        f"load.load_model({str(tiny_ensemble)!r}).predictor.predict(['late parcel'])\n"
        "assert events == [], events\n"
        "import pickle\n"
        "pickle.loads(pickle.dumps(print))\n"
        "assert events == ['pickle.find_class'], 'the hook hears nothing'\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
