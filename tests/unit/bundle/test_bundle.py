"""A bundle is whole or refused: every file, every kind of damage; no pickle; the same bytes for the same run."""

import hashlib
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from manylabel.bundle import files
from manylabel.bundle.manifest import Manifest, describe_files, read_manifest
from manylabel.bundle.save import save_bundle
from manylabel.errors import BundleError, UsageError
from manylabel.inference.load import load_model

pytestmark = pytest.mark.slow  # many seconds together

FILES = (
    files.CONFIG,
    files.WEIGHTS,
    files.TOKENIZER,
    files.TOKENIZER_CONFIG,
    files.DECISIONS,
    files.BASELINE,
    files.SEEN_TEXTS,
    files.PROBES,
    files.EVALUATION,
    files.SETTINGS,
    files.CARD,
    files.REPORT,
    files.MANIFEST,
)


def flip_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def drop_last_byte(path):
    path.write_bytes(path.read_bytes()[:-1])


def zero_tail(path):
    content = path.read_bytes()
    path.write_bytes(content[:-16] + bytes(16))


def empty(path):
    path.write_bytes(b"")


def delete(path):
    path.unlink()


def rename(path):
    path.rename(path.with_name("renamed-" + path.name))


@pytest.fixture
def copy(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "model")


def test_the_folder_holds_what_is_promised(tiny_model):
    assert {path.name for path in tiny_model.iterdir()} == set(FILES)
    assert load_model(tiny_model).probe_difference <= 1e-6


@pytest.mark.parametrize("damage", [flip_bit, truncate, drop_last_byte, zero_tail, empty, delete, rename])
@pytest.mark.parametrize("name", FILES)
def test_damage_is_refused_by_name(copy, name, damage):
    damage(copy / name)
    with pytest.raises(BundleError) as refused:
        load_model(copy)
    assert name in str(refused.value)


def test_every_single_bit_of_the_small_files_counts(copy):
    """300 random flips over all files; each is refused."""
    choose = np.random.default_rng(5)
    sizes = {name: (copy / name).stat().st_size for name in FILES}
    for _ in range(300):
        name = FILES[choose.integers(len(FILES))]
        content = bytearray((copy / name).read_bytes())
        place = int(choose.integers(sizes[name]))
        content[place] ^= 1 << int(choose.integers(8))
        original = (copy / name).read_bytes()
        (copy / name).write_bytes(content)
        with pytest.raises(BundleError):
            read_and_verify(copy)
        (copy / name).write_bytes(original)
    read_and_verify(copy)


def read_and_verify(folder):
    from manylabel.bundle.manifest import verify_files

    verify_files(folder, read_manifest(folder))


def test_a_foreign_file_is_refused_by_name(copy):
    (copy / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"pytorch_model\.bin"):
        load_model(copy)


def seal_again(folder):
    """What somebody would do who edits a model and recomputes every hash."""
    manifest = read_manifest(folder)
    (folder / files.MANIFEST).unlink()
    again = Manifest.model_validate(
        {
            **manifest.model_dump(),
            "files": {name: entry.model_dump() for name, entry in describe_files(folder).items()},
        }
    )
    (folder / files.MANIFEST).write_text(again.to_text(), encoding="utf-8")


def test_weights_that_are_not_numbers_are_refused_even_with_right_hashes(copy):
    weights = load_file(copy / files.WEIGHTS)
    name = next(name for name in weights if name.endswith("projection.bias"))
    weights[name][0] = np.nan
    save_file(weights, copy / files.WEIGHTS)
    seal_again(copy)
    with pytest.raises(BundleError):
        load_model(copy)


def test_other_weights_are_found_by_the_probes_even_with_right_hashes(copy):
    weights = load_file(copy / files.WEIGHTS)
    name = next(name for name in weights if name.endswith("projection.bias"))
    weights[name] += 0.01
    save_file(weights, copy / files.WEIGHTS)
    seal_again(copy)
    with pytest.raises(BundleError, match="recorded probabilities"):
        load_model(copy)


def test_shuffled_labels_are_refused_even_with_right_hashes(copy):
    config = json.loads((copy / files.CONFIG).read_text())
    config["id2label"]["0"], config["id2label"]["1"] = config["id2label"]["1"], config["id2label"]["0"]
    (copy / files.CONFIG).write_text(json.dumps(config))
    seal_again(copy)
    with pytest.raises(BundleError, match="labels"):
        load_model(copy)


def test_a_model_of_a_newer_format_says_what_to_install(copy):
    content = json.loads((copy / files.MANIFEST).read_text())
    content["format_version"] = 99
    (copy / files.MANIFEST).write_text(json.dumps(content))
    with pytest.raises(BundleError, match="newer manylabel"):
        load_model(copy)


def test_same_data_seed_and_versions_give_the_same_bytes(
    tiny_model, tiny_mails, tiny_encoder, train_tiny, tmp_path
):
    again = train_tiny(tiny_mails, tiny_encoder, tmp_path / "again")
    for name in FILES:
        first = hashlib.sha256((tiny_model / name).read_bytes()).hexdigest()
        assert hashlib.sha256((again / name).read_bytes()).hexdigest() == first, name


def test_loading_unpickles_nothing_and_opens_no_connection(tiny_model):
    program = (
        "import sys\n"
        "import torch, sklearn.linear_model, scipy.sparse, pyarrow.csv, manylabel.inference.load as load\n"
        "events = []\n"
        "watched = ('pickle.find_class', 'socket.connect', 'subprocess.Popen', 'os.system', 'marshal.loads')\n"
        "sys.addaudithook(lambda event, arguments: events.append(event) if event in watched[:4] else None)\n"
        f"load.load_model({str(tiny_model)!r}).predictor.predict(['late parcel'])\n"
        "assert events == [], events\n"
        "import pickle\n"
        "pickle.loads(pickle.dumps(print))\n"
        "assert events == ['pickle.find_class'], 'the hook hears nothing'\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_manifest_of_before_a_field_came_is_still_whole(copy):
    content = json.loads((copy / files.MANIFEST).read_text())
    del content["provenance"]["hardware"]
    del content["checksum"]
    content["checksum"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    (copy / files.MANIFEST).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    assert read_manifest(copy).provenance.hardware == {}


def test_a_model_is_saved_under_another_name_where_the_folder_was_taken_meanwhile(tiny_model, tmp_path):
    bundle = load_model(tiny_model).bundle
    target = tmp_path / "model"
    target.mkdir()
    (target / "thesis.md").write_text("years of work")
    (tmp_path / "model-2").mkdir()
    with pytest.raises(UsageError) as refused:
        save_bundle(bundle, target, overwrite=True)
    assert [finding.code for finding in refused.value.findings] == ["U207", "U211"]
    assert "model-3" in str(refused.value)
    assert [path.name for path in target.iterdir()] == ["thesis.md"]
    load_model(tmp_path / "model-3")


def test_a_model_replaces_a_model_only_when_told(tiny_model, copy):
    bundle = load_model(tiny_model).bundle
    with pytest.raises(UsageError, match="--overwrite"):
        save_bundle(bundle, copy)
    save_bundle(bundle, copy, overwrite=True)
    assert {path.name for path in copy.iterdir()} == set(FILES)
    assert (copy / files.MANIFEST).read_bytes() == (tiny_model / files.MANIFEST).read_bytes()


def test_the_card_says_what_the_seen_texts_give_away(tiny_model):
    assert "find short texts by guessing" in (tiny_model / files.CARD).read_text()
