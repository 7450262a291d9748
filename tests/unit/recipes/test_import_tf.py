import hashlib
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from manylabel.cli.main import main
from manylabel.errors import EncoderError, UsageError
from manylabel.modeling.packed import to_device
from manylabel.modeling.weights.hugging_face import load_pretrained
from manylabel.modeling.weights.tf_checkpoint import open_checkpoint
from manylabel.recipes.adapted_encoder import require_unchanged
from manylabel.recipes.import_tf import find_checkpoint, import_tensorflow
from manylabel.values import Batch

_SPEC = importlib.util.spec_from_file_location(
    "tensorflow_files", Path(__file__).parents[2] / "tensorflow_files.py"
)
files = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(files)

WIDTH = 16


@pytest.fixture(scope="module")
def pretrained(tiny_vocabulary):
    """A BertForPreTraining of transformers with random weights; no tensor is left at 0 or 1."""
    from transformers import BertConfig, BertForPreTraining

    torch.manual_seed(3)
    model = BertForPreTraining(
        BertConfig(
            vocab_size=len(tiny_vocabulary),
            hidden_size=WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=40,
            max_position_embeddings=48,
            initializer_range=0.25,
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(scope="module")
def release(tmp_path_factory, pretrained, tiny_vocabulary):
    """What Google would have released: two shards, the optimizer's slots beside the weights; read only."""
    folder = tmp_path_factory.mktemp("release") / "uncased_L-3_H-16_A-4"
    folder.mkdir()
    arrays = files.google_arrays(pretrained)
    slots = {f"{name}/{slot}": np.zeros(1, np.float32) for name in arrays for slot in ("adam_m", "adam_v")}
    others = {"global_step": np.array(9, np.int64), "output_bias": np.zeros(3, np.float32)}
    files.write_checkpoint(folder / "bert_model.ckpt", {**arrays, **slots, **others}, num_shards=2)
    (folder / "vocab.txt").write_text("\n".join(tiny_vocabulary) + "\n")
    config = {
        "hidden_size": WIDTH,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 40,
        "max_position_embeddings": 48,
        "type_vocab_size": 2,
        "vocab_size": len(tiny_vocabulary),
        "hidden_act": "gelu",
        "pooler_type": "first_token_transform",
    }
    (folder / "bert_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def copy_of(release, tmp_path):
    """A copy of the release that a test may damage."""
    folder = tmp_path / "copies" / release.name
    folder.mkdir(parents=True)
    for path in release.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="module")
def imported(release, tmp_path_factory):
    out = tmp_path_factory.mktemp("imported") / "encoder"
    return out, import_tensorflow(release, out)


def test_transformers_gets_back_the_model_with_its_heads(imported, pretrained):
    from transformers import BertForPreTraining

    loaded, info = BertForPreTraining.from_pretrained(imported[0], output_loading_info=True)
    assert not any(info.values())
    expected = dict(pretrained.named_parameters())
    found = dict(loaded.named_parameters())
    assert found.keys() == expected.keys()
    for name, parameter in expected.items():
        torch.testing.assert_close(found[name], parameter, rtol=0, atol=0)


def test_our_encoder_gives_the_hidden_states_of_transformers(imported, pretrained):
    rows, tokens = 3, 30
    ids = np.random.default_rng(4).integers(5, 100, (rows, tokens))
    segments = np.tile(np.arange(tokens) // 20, (rows, 1))
    batch = Batch(
        ids.ravel(), segments.ravel(), np.tile(np.arange(tokens), rows), np.arange(rows + 1) * tokens
    )
    classifier = load_pretrained(imported[0], num_labels=2, head="cls").eval()
    with torch.inference_mode():
        theirs = pretrained.bert(input_ids=torch.from_numpy(ids), token_type_ids=torch.from_numpy(segments))
        ours = classifier.encoder(to_device(batch, "cpu"), first_only=False).view(rows, tokens, WIDTH)
        pooled = torch.tanh(classifier.head.dense(ours[:, 0]))
    torch.testing.assert_close(ours, theirs.last_hidden_state, rtol=0, atol=1e-5)
    torch.testing.assert_close(pooled, theirs.pooler_output, rtol=0, atol=1e-5)


def test_the_result_and_the_origin_say_what_was_done(imported, pretrained):
    out, result = imported
    assert (result.casing, result.casing_doubt) == ("uncased", "")
    assert "uncased_L-3_H-16_A-4" in result.casing_reason
    assert result.num_parameters == sum(
        parameter.numel() for name, parameter in pretrained.named_parameters() if "decoder" not in name
    )
    assert result.num_tensors == len(files.google_arrays(pretrained))
    assert result.missing_parts == ()
    assert result.optimizer_tensors_left_out == 2 * result.num_tensors + 1
    assert result.other_tensors_left_out == ("output_bias",)
    origin = json.loads((out / "encoder.json").read_text())
    assert origin["made_by"] == "manylabel import-tf"
    assert {*origin["files"], "encoder.json"} == {path.name for path in out.iterdir()}
    config = json.loads((out / "config.json").read_text())
    assert (config["model_type"], config["layer_norm_eps"], config["pad_token_id"]) == ("bert", 1e-12, 0)
    assert config["pooler_type"] == "first_token_transform"


def test_the_same_checkpoint_gives_the_same_bytes(imported, release, tmp_path):
    import_tensorflow(release, tmp_path / "again")
    for path in imported[0].iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_an_imported_encoder_trains(imported, tiny_mails, train_tiny, tmp_path):
    model = train_tiny(
        tiny_mails,
        imported[0],
        tmp_path / "model",
        training__epochs=1,
        text__max_length=32,
        model__head="cls",
    )
    assert (model / "manifest.json").is_file()


def test_progress_goes_up_to_all_parameters(release, tmp_path):
    heard = []
    result = import_tensorflow(
        release, tmp_path / "e", on_progress=lambda done, total: heard.append((done, total))
    )
    assert heard == sorted(heard)
    assert heard[-1] == (result.num_parameters, result.num_parameters)


def test_a_checkpoint_is_found_by_its_folder_or_its_index(copy_of):
    usual = copy_of / "bert_model.ckpt"
    assert find_checkpoint(copy_of) == usual
    assert find_checkpoint(copy_of / "bert_model.ckpt.index") == usual
    for name in ("a", "b"):
        (copy_of / f"model.ckpt-{name}.index").touch()
    assert find_checkpoint(copy_of) == usual
    (copy_of / "bert_model.ckpt.index").unlink()
    with pytest.raises(EncoderError, match=r"E152 .*several checkpoints: model\.ckpt-a, model\.ckpt-b"):
        find_checkpoint(copy_of)
    (copy_of / "model.ckpt-b.index").unlink()
    assert find_checkpoint(copy_of) == copy_of / "model.ckpt-a"
    (copy_of / "model.ckpt-a.index").unlink()
    with pytest.raises(EncoderError, match=r"E152 .*no bert_model\.ckpt\.index"):
        find_checkpoint(copy_of)
    with pytest.raises(EncoderError, match=r"E152 .*no such folder"):
        find_checkpoint(copy_of / "gone")


def flip(path, at=-100):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def add_line(path):
    path.write_text(path.read_text() + "x\n")


def flip_weight(folder, name):
    checkpoint = open_checkpoint(folder / "bert_model.ckpt")
    entry = checkpoint.entries[name]
    flip(checkpoint.shard_path(entry.shard), entry.offset)


def set_config(folder, **values):
    path = folder / "bert_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda folder: flip(folder / "bert_model.ckpt.index", 50), "E154 .*index: data block 1 at byte 0"),
        (
            lambda folder: flip_weight(folder, "bert/pooler/dense/kernel"),
            "E159 .*: bert/pooler/dense/kernel at byte",
        ),
        (
            lambda folder: (folder / "bert_model.ckpt.data-00001-of-00002").unlink(),
            "E158 .*00001-of-00002: no such",
        ),
        (
            lambda folder: add_line(folder / "vocab.txt"),
            "E163 .*word pieces, the checkpoint has",
        ),
        (lambda folder: (folder / "vocab.txt").unlink(), "E163 .*vocab.txt: no such file"),
        (lambda folder: (folder / "bert_config.json").unlink(), "E164 .*bert_config.json: no such file"),
        (lambda folder: (folder / "bert_config.json").write_text("{"), "E164 .*not readable as JSON"),
        (lambda folder: (folder / "bert_config.json").write_text("[1]"), "E164 .*no JSON object"),
        (lambda folder: set_config(folder, model_type="albert"), "E164 .*is not bert"),
        (
            lambda folder: set_config(folder, num_attention_heads=3),
            'E106 .*bert_config.json, "num_attention_heads": 3',
        ),
        (lambda folder: set_config(folder, vocab_size=9), "E162 .*word_embeddings is"),
    ],
)
def test_damage_is_named_and_nothing_is_written(copy_of, tmp_path, damage, error):
    damage(copy_of)
    with pytest.raises(EncoderError, match=error):
        import_tensorflow(copy_of, tmp_path / "encoder")
    assert [path.name for path in tmp_path.iterdir()] == ["copies"]


def test_casing_follows_files_and_flag(copy_of, tmp_path):
    (copy_of / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    result = import_tensorflow(copy_of, tmp_path / "a")
    assert (result.casing, result.casing_reason) == (
        "cased",
        "tokenizer_config.json says do_lower_case false",
    )
    assert "will be unknown" in result.casing_doubt
    set_config(copy_of, do_lower_case=True)
    assert import_tensorflow(copy_of, tmp_path / "b").casing == "uncased"
    assert import_tensorflow(copy_of, tmp_path / "c", lowercase=False).casing_reason == "--cased was given"


def test_an_encoder_is_replaced_only_when_told_and_the_release_never(copy_of, tmp_path):
    out = tmp_path / "encoder"
    import_tensorflow(copy_of, out)
    with pytest.raises(UsageError, match="U201"):
        import_tensorflow(copy_of, out)
    import_tensorflow(copy_of, out, lowercase=False, overwrite=True)
    assert json.loads((out / "tokenizer_config.json").read_text())["do_lower_case"] is False
    with pytest.raises(UsageError, match="U210"):
        import_tensorflow(copy_of, copy_of, overwrite=True)
    with pytest.raises(UsageError, match="U207"):
        import_tensorflow(copy_of, copy_of.parent, overwrite=True)


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["import-tf", *map(str, arguments)])
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


def test_the_command_shows_what_it_did(release, tmp_path, capsys):
    code, out, err = run(capsys, release, "--out", tmp_path / "e", "--cased")
    assert (code, err) == (0, "")
    assert "3 layers, width 16" in out
    assert "cased: --cased was given" in out
    assert "Warning: no word piece has capital letters" in out
    assert "of the optimizer" in out
    assert "left out, no part of BERT: output_bias" in out
    assert run(capsys, release, "--out", tmp_path / "q", "--quiet") == (0, "", "")
    code, out, _ = run(capsys, release, "--out", tmp_path / "q", "--overwrite", "--json")
    assert code == 0
    assert json.loads(out)["casing"] == "uncased"
    code, _, err = run(capsys, release, "--out", tmp_path / "q")
    assert code == 2
    assert err.startswith("U201 ")


def test_cased_and_uncased_at_once_are_refused(release, tmp_path, capsys):
    code, _, err = run(capsys, release, "--out", tmp_path / "e", "--cased", "--uncased")
    assert code == 2
    assert err.startswith("U215 ")
    assert not (tmp_path / "e").exists()


def test_a_file_is_not_called_a_folder_that_is_not_there(copy_of, tmp_path):
    with pytest.raises(EncoderError, match=r"E152 .*vocab.txt: a file, not a folder.*\.index file"):
        import_tensorflow(copy_of / "vocab.txt", tmp_path / "e")
    with pytest.raises(EncoderError, match=r"E152 .*no such folder"):
        import_tensorflow(copy_of / "absent", tmp_path / "e")


def test_weights_that_are_not_those_that_were_imported_are_refused(copy_of, tmp_path):
    out = tmp_path / "e"
    import_tensorflow(copy_of, out)
    require_unchanged(out)
    weights = bytearray((out / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (out / "model.safetensors").write_bytes(weights)
    with pytest.raises(
        EncoderError, match=r"E184 .*model\.safetensors.*\.\.\., as manylabel import-tf recorded"
    ) as error:
        require_unchanged(out)
    origin = json.loads((out / "encoder.json").read_text())["origin"]
    (finding,) = error.value.findings
    assert origin["weights_sha256"][:12] in finding.allowed
    assert hashlib.sha256(weights).hexdigest()[:12] in finding.found
    (out / "encoder.json").unlink()
    require_unchanged(out)


def test_no_tensorflow_is_imported(release, tmp_path):
    import_tensorflow(release, tmp_path / "e")
    assert "tensorflow" not in sys.modules
