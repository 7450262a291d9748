"""Test-time augmentation: what it weighs, saves and refuses. References: scikit-learn, and single views."""

import csv
import json
import random

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from manylabel.bundle.ensemble import Ensemble
from manylabel.bundle.save import save_bundle
from manylabel.config.schema import DataSettings
from manylabel.decisions.calibration import sigmoid
from manylabel.errors import DataError, UsageError
from manylabel.inference.load import load_model
from manylabel.recipes.evaluate import evaluate_model
from manylabel.recipes.tta import Wanted, augment_at_test_time
from manylabel.text.views import encode_view
from manylabel.training.observers import SilentObserver

pytestmark = pytest.mark.slow  # trains or scores with real models throughout

CUES = {"refund": ("refund", "money"), "delivery": ("parcel", "courier"), "praise": ("thanks", "great")}
LETTERS = "abcdefghijklmnopqrstuvwxyz"
LABELS = tuple(CUES)


class Told(SilentObserver):
    def __init__(self):
        self.lines = []

    def stage(self, text):
        self.lines.append(text)


@pytest.fixture(scope="module")
def long_mails(tmp_path_factory):
    """300 rows whose cues follow 90 tokens, where head, of 64, does not look; `short` says the cues alone."""
    choose = random.Random(11)
    path = tmp_path_factory.mktemp("long") / "long.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "short", *LABELS])
        for row in range(300):
            carried = [label for label in LABELS if choose.random() < 0.4]
            cues = [cue for label in carried for cue in CUES[label]]
            fill = ["".join(choose.choices(LETTERS, k=2)) for _ in range(45)]
            writer.writerow(
                [row, " ".join([*fill, *cues]), " ".join(cues), *(int(name in carried) for name in LABELS)]
            )
    return path


def write_short(path, num_rows, seed):
    """Rows of 8 random words and two cues for each label, in any order: they fit, and every window is the same."""
    choose = random.Random(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", *LABELS])
        for row in range(num_rows):
            carried = [label for label in LABELS if choose.random() < 0.4]
            fill = ["".join(choose.choices(LETTERS, k=2)) for _ in range(8)]
            words = [*fill, *(cue for label in carried for cue in CUES[label])]
            choose.shuffle(words)
            writer.writerow([row, " ".join(words), *(int(name in carried) for name in LABELS)])
    return path


@pytest.fixture(scope="module")
def trained_on(tmp_path_factory):
    return write_short(tmp_path_factory.mktemp("training") / "training.csv", 240, 3)


@pytest.fixture(scope="module")
def folder(trained_on, tiny_encoder, train_tiny, tmp_path_factory):
    """A model that knows the cues."""
    out = tmp_path_factory.mktemp("knowing") / "model"
    return train_tiny(trained_on, tiny_encoder, out, training__epochs=8, training__learning_rate=0.004)


@pytest.fixture(scope="module")
def model(folder):
    return load_model(folder)


@pytest.fixture(scope="module")
def quick(model):
    return model.bundle.settings.evaluation.model_copy(update={"resamples": 100})


@pytest.fixture(scope="module")
def paid(model, quick, long_mails):
    told = Told()
    found = augment_at_test_time(
        model,
        long_mails,
        Wanted(
            (
                "tail",
                "middle",
            )
        ),
        options=DataSettings(),
        observer=told,
        settings=quick,
    )
    return found, told


@pytest.fixture(scope="module")
def saved(paid, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tta") / "model"
    save_bundle(paid[0].bundle, folder)
    return load_model(folder)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_tail_that_holds_the_cues_pays(paid):
    found, _ = paid
    assert found.views == ("head", "tail", "middle")
    assert found.pays
    blend = found.figures["blend"]["average_precision"]
    head = found.figures["head"]["average_precision"]
    assert head.difference is None
    assert blend.difference == pytest.approx(blend.value - head.value)
    assert blend.difference_interval[0] > 0.0
    assert blend.interval[0] < blend.value < blend.interval[1]
    assert all(sum(weights.values()) == pytest.approx(1.0) for weights in found.weights.values())
    assert np.mean([weights["tail"] for weights in found.weights.values()]) > 0.5


def test_the_figures_of_a_view_are_scikit_learns_on_the_logits_of_that_view(paid, model, long_mails):
    rows = rows_of(long_mails)
    targets_NL = np.array([[int(row[name]) for name in LABELS] for row in rows])
    texts = [row["text"] for row in rows]
    classifier, tokenizer = model.bundle.classifier, model.bundle.tokenizer
    from manylabel.inference.backends.torch_backend import TorchBackend
    from manylabel.inference.scorer import score

    for view in ("head", "tail"):
        logits_NL = score(
            TorchBackend(classifier.eval(), dtype=torch.float32),
            encode_view(tokenizer, view, texts),
            token_budget=4096,
        )
        probabilities_NL = sigmoid(logits_NL)
        figures = paid[0].figures[view]
        assert figures["average_precision"].value == pytest.approx(
            average_precision_score(targets_NL, probabilities_NL, average="macro"), abs=1e-6
        )
        assert figures["roc_auc"].value == pytest.approx(
            roc_auc_score(targets_NL, probabilities_NL, average="macro"), abs=1e-6
        )


def test_the_new_model_is_an_ensemble_of_one_network_that_proves_itself(paid, saved, model):
    bundle = saved.bundle
    assert isinstance(bundle.model, Ensemble)
    assert len(bundle.model.models) == 1
    assert {each.name: each.view for each in bundle.model.components} == {view: view for view in paid[0].kept}
    assert saved.probe_difference <= 1e-5
    assert bundle.evaluation is None
    assert bundle.provenance.training["test-time augmentation"] == ", ".join(paid[0].kept)
    text = ["hello dear team " + "the order was late " * 30 + "refund money"]
    assert np.abs(saved.predictor.probabilities(text) - model.predictor.probabilities(text)).max() > 1e-3


def test_the_blend_of_a_text_is_the_weighted_mean_of_its_views(paid, saved, model):
    from manylabel.inference.backends.torch_backend import TorchBackend
    from manylabel.inference.scorer import score

    text = ["please " * 70 + "great parcel thanks"]
    expected = np.zeros(len(LABELS))
    backend, tokenizer = (
        TorchBackend(model.bundle.classifier.eval(), dtype=torch.float32),
        model.bundle.tokenizer,
    )
    for view in paid[0].kept:
        weights_L = np.array([paid[0].weights[name][view] for name in model.bundle.labels])
        expected += (
            weights_L * sigmoid(score(backend, encode_view(tokenizer, view, text), token_budget=4096))[0]
        )
    logits_NL, truncated_N = saved.predictor.logits(text)
    assert np.abs(sigmoid(logits_NL)[0] - expected).max() < 1e-5
    assert truncated_N.tolist() == [True]


def test_its_rows_count_as_seen_from_then_on(saved, long_mails):
    figures = evaluate_model(saved, long_mails, options=DataSettings(), observer=SilentObserver()).to_json()
    assert figures["roles"]["calibration"] == 300
    assert "calibration and thresholds" in figures["chosen_on"]


def test_rows_that_made_the_model_are_left_out_and_counted(model, quick, trained_on, long_mails, tmp_path):
    both = tmp_path / "both.csv"
    mails = [(f"t{row['id']}", row["text"], *(row[name] for name in LABELS)) for row in rows_of(trained_on)]
    longs = [(f"l{row['id']}", row["text"], *(row[name] for name in LABELS)) for row in rows_of(long_mails)]
    with both.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "text", *LABELS), *mails, *longs])
    told = Told()
    found = augment_at_test_time(
        model, both, Wanted(("tail",)), options=DataSettings(), observer=told, settings=quick
    )
    assert found.rows + found.left_out == 540
    assert found.rows >= 300  # Rows of the test share of the training file are new to the model.
    assert any(f"{found.left_out:,} of 540 rows made the model" in line for line in told.lines)
    only = tmp_path / "only.csv"
    seen = [row for row in mails if not _is_new(model, row[1])]
    with only.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "text", *LABELS), *seen])
    with pytest.raises(DataError, match="no row is left"):
        augment_at_test_time(
            model, only, Wanted(("tail",)), options=DataSettings(), observer=told, settings=quick
        )


def _is_new(model, text):
    from manylabel.recipes.scoring import seen_rows

    return not seen_rows(model.bundle, [text]).seen_N[0]


@pytest.fixture(scope="module")
def unseen_short(tmp_path_factory):
    return write_short(tmp_path_factory.mktemp("unseen") / "short.csv", 120, 5)


def test_what_changes_nothing_does_not_pay_and_saves_nothing_unless_forced(model, quick, unseen_short):
    arguments = {"options": DataSettings(), "observer": SilentObserver(), "settings": quick}
    found = augment_at_test_time(
        model,
        unseen_short,
        Wanted(
            (
                "tail",
                "middle",
            )
        ),
        **arguments,
    )
    assert not found.pays
    assert found.bundle is None
    assert found.figures["tail"]["roc_auc"].difference == 0.0
    assert found.figures["blend"]["average_precision"].difference == 0.0
    forced = augment_at_test_time(model, unseen_short, Wanted(("tail",), force=True), **arguments)
    assert forced.bundle is not None
    assert forced.kept == ("head",)


def test_a_translation_is_read_at_prediction_too(model, quick, long_mails, tmp_path):
    found = augment_at_test_time(
        model,
        long_mails,
        Wanted(("translation:short",)),
        options=DataSettings(),
        observer=SilentObserver(),
        settings=quick,
    )
    assert found.pays
    save_bundle(found.bundle, tmp_path / "model")
    saved = load_model(tmp_path / "model")
    assert saved.bundle.layout.translation_columns == ("short",)
    with_them = evaluate_model(saved, long_mails, options=DataSettings(), observer=SilentObserver())
    told = Told()
    lacking = tmp_path / "lacking.csv"
    with lacking.open("w", newline="") as file:
        rows = ([row["id"], row["text"], *(row[name] for name in LABELS)] for row in rows_of(long_mails))
        csv.writer(file).writerows([["id", "text", *LABELS], *rows])
    without = evaluate_model(saved, lacking, options=DataSettings(), observer=told)
    assert with_them.macro.roc_auc > without.macro.roc_auc + 0.1
    assert any('also reads "short", which is not given' in line for line in told.lines)
    from manylabel.recipes.submit import submit

    with pytest.raises(DataError, match='"short", which the model reads'):
        submit(saved, lacking, tmp_path / "out.csv", sample=None, options=DataSettings())
    submit(saved, long_mails, tmp_path / "out.csv", sample=None, options=DataSettings())
    submitted = {row["id"]: row for row in rows_of(tmp_path / "out.csv")}
    first = rows_of(long_mails)[0]
    expected = saved.predictor.predict([first["text"]], translations={"short": [first["short"]]})
    found_row = [float(submitted[first["id"]][name]) for name in saved.bundle.labels]
    assert np.abs(expected.probabilities_BL[0] - found_row).max() < 1e-5


def test_refusals(model, saved, quick, long_mails):
    arguments = {"options": DataSettings(), "observer": SilentObserver(), "settings": quick}
    with pytest.raises(UsageError, match="U313"):
        augment_at_test_time(model, long_mails, Wanted(("head",)), **arguments)
    with pytest.raises(UsageError, match="U310"):
        augment_at_test_time(model, long_mails, Wanted(("end",)), **arguments)
    with pytest.raises(UsageError, match="U314"):
        augment_at_test_time(saved, long_mails, Wanted(("tail",)), **arguments)
    with pytest.raises(DataError, match="D121"):
        augment_at_test_time(model, long_mails, Wanted(("translation:missing",)), **arguments)


def test_the_command(folder, long_mails, unseen_short, tmp_path, capsys):
    from manylabel.cli.main import main

    out = tmp_path / "new"
    arguments = [
        "tta",
        str(folder),
        "--data",
        str(long_mails),
        "--views",
        "head, tail",
        "--resamples",
        "100",
    ]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--out", str(out)])
    shown = capsys.readouterr()
    assert ended.value.code == 0, shown.err
    assert "It pays: the blend is better than head alone." in shown.out
    assert (out / "manifest.json").is_file()
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--out", str(out)])
    assert ended.value.code == 2
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["tta", str(folder), "--data", str(unseen_short), "--out", str(tmp_path / "none"), "--views", "tail",
              "--resamples", "50", "--json"])  # fmt: skip
    told = json.loads(capsys.readouterr().out)
    assert (told["pays"], told["out"], ended.value.code) == (False, None, 0)
    assert not (tmp_path / "none").exists()
