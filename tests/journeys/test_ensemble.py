"""Every command that takes a model takes an ensemble, or refuses it with a way out."""

import csv
import json
import shutil

import numpy as np
import pytest

from manylabel.cli.main import main
from manylabel.inference.load import load_model

pytestmark = pytest.mark.slow  # many seconds together

TEXTS = [
    "where is my parcel today please",
    "thanks for the great help",
    "i was charged twice, refund my money",
]


@pytest.fixture(scope="module")
def fresh_mails(tiny_mails, tmp_path_factory):
    """The rows in another order, each with a word more, so that none is an exact copy of a row that made the model."""
    rows = list(csv.reader(tiny_mails.read_text(encoding="utf-8").splitlines()))
    path = tmp_path_factory.mktemp("fresh") / "mails.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(rows[0])
        for row in rows[:0:-1]:
            writer.writerow([row[0], f"{row[1]} yet another few words more", *row[2:]])
    return path


@pytest.fixture
def run(capsys):
    def run(*arguments, code=0):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        assert (ended.value.code or 0) == code, shown.err
        return shown

    return run


def test_predict_gives_what_the_predictor_gives(run, tiny_ensemble, tmp_path):
    printed = json.loads(run("predict", tiny_ensemble, *TEXTS, "--json").out)["predictions"]
    expected = load_model(tiny_ensemble).predictor.predict(TEXTS)
    assert [list(each["probabilities"].values()) for each in printed] == expected.probabilities_BL.tolist()
    assert [tuple(each["labels"]) for each in printed] == [expected.decided(row) for row in range(3)]
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("text\n" + "\n".join(f'"{text}"' for text in TEXTS) + "\n")
    run("predict", tiny_ensemble, "--input", source, "--output", target)
    written = list(csv.DictReader(target.read_text(encoding="utf-8").splitlines()))
    found = [[float(row[f"p_{label}"]) for label in expected.labels] for row in written]
    assert np.allclose(found, expected.probabilities_BL, atol=1e-6, rtol=0)


def test_evaluate_with_every_part(run, tiny_ensemble, fresh_mails):
    parts = ("--by-length", "--robustness", "--bias", "--resamples", 20, "--json")
    figures = json.loads(run("evaluate", tiny_ensemble, fresh_mails, *parts).out)
    assert figures["rows"] == 120
    assert 0.5 < figures["macro"]["roc_auc"] <= 1.0
    assert {each["column"] for each in figures["slices"]} == {"length"}
    assert figures["robustness"][0]["attack"] == "clean"
    assert figures["robustness"][0]["folded"]


def test_compare_an_ensemble_with_one_of_its_networks(run, tiny_ensemble, tiny_model, fresh_mails):
    found = json.loads(
        run("compare", tiny_model, tiny_ensemble, fresh_mails, "--resamples", 20, "--json").out
    )
    assert found["rows"] == 120


def test_thresholds_make_a_version_of_the_same_ensemble(run, tiny_ensemble, fresh_mails, tmp_path):
    out = tmp_path / "version"
    run("thresholds", tiny_ensemble, "--goal", "recall=0.9", "--data", fresh_mails, "--out", out, "--quiet")
    before, after = load_model(tiny_ensemble), load_model(out)
    assert np.array_equal(before.predictor.probabilities(TEXTS), after.predictor.probabilities(TEXTS))
    assert not np.array_equal(before.predictor.thresholds.values_L, after.predictor.thresholds.values_L)
    assert (out / "models" / "net-cls" / "model.safetensors").read_bytes() == (
        tiny_ensemble / "models" / "net-cls" / "model.safetensors"
    ).read_bytes()


def test_report_says_what_the_ensemble_is_made_of(run, tiny_ensemble, fresh_mails, tmp_path):
    page = tmp_path / "report.html"
    run("report", tiny_ensemble, fresh_mails, "--out", page, "--resamples", 20, "--quiet")
    html = page.read_text(encoding="utf-8")
    assert "3 models, stacked" in html
    assert "net-mean, net-cls" in html


def test_verify_counts_all_files_and_names_the_damaged_one(run, tiny_ensemble, tmp_path):
    printed = json.loads(run("verify", tiny_ensemble, "--json").out)
    assert printed["verified"] is True
    assert printed["files"] == 16
    assert printed["probe_difference"] <= 1e-6
    copy = shutil.copytree(tiny_ensemble, tmp_path / "model")
    path = copy / "models" / "net-mean" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    told = run("verify", copy, code=1).err
    assert "models/net-mean/model.safetensors" in "".join(told.split())


def test_explain_wants_one_network_and_explains_it(run, tiny_ensemble):
    told = " ".join(run("explain", tiny_ensemble, TEXTS[2], code=2).err.split())
    assert "the model is an ensemble of 3 models" in told
    assert "--member: net-cls, net-mean" in told
    method = ("--method", "occlusion", "--json")
    found = json.loads(run("explain", tiny_ensemble, TEXTS[2], "--member", "net-mean", *method).out)
    assert found["member"] == "net-mean"
    assert "this is net-mean alone" in found["warnings"][0]


def test_a_member_is_explained_as_on_its_own(run, tiny_ensemble, tiny_model):
    method = ("--method", "occlusion", "--label", "refund", "--json")
    member = json.loads(run("explain", tiny_ensemble, TEXTS[2], "--member", "net-mean", *method).out)
    alone = json.loads(run("explain", tiny_model, TEXTS[2], *method).out)
    assert member["labels"]["refund"]["attributions"] == alone["labels"]["refund"]["attributions"]


def test_export_wants_one_network_and_writes_it(run, tiny_ensemble, tiny_cls_model, tmp_path):
    told = " ".join(run("export", tiny_ensemble, "--out", tmp_path / "all", code=2).err.split())
    assert "--member: net-cls, net-mean" in told
    told = " ".join(
        run("export", tiny_ensemble, "--member", "net-mean", "--out", tmp_path / "mean", code=2).err.split()
    )
    assert 'no place for the head "mean"' in told
    run("export", tiny_ensemble, "--member", "net-cls", "--out", tmp_path / "cls")
    run("export", tiny_cls_model, "--out", tmp_path / "single")
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "cls" / name).read_bytes() == (tmp_path / "single" / name).read_bytes()
    assert not (tmp_path / "all").exists()
    assert not (tmp_path / "mean").exists()


def test_the_python_interface_takes_an_ensemble(tiny_ensemble, fresh_mails):
    import manylabel

    model = manylabel.load(tiny_ensemble)
    assert model.labels == ("refund", "delivery", "praise")
    assert model.predict(TEXTS).probabilities_BL.shape == (3, 3)
    explanation = model.explain(TEXTS[0], member="net-cls", method="occlusion")
    assert explanation.member == "net-cls"
