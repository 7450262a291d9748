"""Zones for a human through the product: fitted, shown, saved, predicted with, kept, refused and removed."""

import csv
import json
import random
import shutil

import numpy as np
import pytest

import manylabel
from manylabel.bundle import files
from manylabel.bundle.load import load_bundle
from manylabel.cli.main import main
from manylabel.config.schema import DataSettings
from manylabel.decisions.abstain import ZoneGoal, fit_zones, measure_workload
from manylabel.decisions.goals import Goal
from manylabel.errors import UsageError
from manylabel.inference.load import load_model
from manylabel.recipes.evaluate import evaluate_model
from manylabel.recipes.new_thresholds import Wish
from manylabel.recipes.predict import predict_file
from manylabel.recipes.thresholds import find_thresholds
from manylabel.recipes.versions import save_version
from manylabel.recipes.zones import ZONES_FITTED
from manylabel.training.observers import SilentObserver

LABELS = ("refund", "delivery", "praise")
WORDS = (
    "order", "today", "week", "refund", "money", "charged", "paid", "delivery", "parcel", "courier", "late", "thanks",
    "great", "love", "happy", "you", "was", "again",
)  # fmt: skip
QUALITY = ZoneGoal(precision=0.9, misses=0.05)


@pytest.fixture(scope="module")
def loaded(tiny_model):
    return load_model(tiny_model)


@pytest.fixture(scope="module")
def fresh_rows(loaded, tmp_path_factory):
    """150 e-mails that the model has not seen, labelled so that it is right but for those near its middle."""
    choose, noise = random.Random(31), np.random.default_rng(31)
    texts = [" ".join([*choose.choices(WORDS, k=12), f"n{row}x"]) for row in range(150)]
    probabilities_NL = loaded.predictor.predict(texts).probabilities_BL
    spread_L = probabilities_NL.std(axis=0)
    shifted_NL = probabilities_NL + 0.4 * spread_L * noise.normal(size=probabilities_NL.shape)
    targets_NL = (shifted_NL > np.median(probabilities_NL, axis=0)).astype(int)
    path = tmp_path_factory.mktemp("fresh") / "fresh.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "review", *LABELS])
        rows = zip(texts, targets_NL.tolist(), strict=True)
        writer.writerows([text, "by hand", *targets] for text, targets in rows)
    return path


def find(model, rows, wish):
    options = DataSettings(label_columns=LABELS)
    return find_thresholds(model, rows, wish, options=options, observer=SilentObserver())


@pytest.fixture(scope="module")
def version(loaded, fresh_rows, tmp_path_factory):
    """The folder of a version with zones, and what was found."""
    new = find(loaded, fresh_rows, Wish(Goal.parse("f1"), abstain=QUALITY))
    target = tmp_path_factory.mktemp("versions") / "model-2"
    save_version(loaded.bundle, new, target)
    return target, new


def test_zones_are_those_of_the_goal_around_the_new_thresholds(loaded, version, fresh_rows):
    target, new = version
    with fresh_rows.open(newline="") as file:
        rows = list(csv.DictReader(file))
    targets_NL = np.array([[int(row[label]) for label in LABELS] for row in rows], dtype=np.int8)
    probabilities_NL = loaded.predictor.predict([row["text"] for row in rows]).probabilities_BL
    expected = fit_zones(targets_NL, probabilities_NL, new.thresholds, QUALITY)
    assert new.zones.change == "fitted"
    assert new.zones.zones.low_L.tolist() == expected.low_L.tolist()
    assert new.zones.zones.high_L.tolist() == expected.high_L.tolist()
    assert new.zones.zones.hold(new.thresholds).all()
    content = json.loads(json.dumps(new.to_json(), allow_nan=False))["zones"]
    work = measure_workload(expected, probabilities_NL)
    assert 0 < work.sent < 150  # The example has something to say.
    assert content["workload"] == {
        "rows": 150, "sent": work.sent, "share": work.sent / 150, "interval": list(work.interval), "confidence": 0.95,
    }  # fmt: skip
    assert [zone["rows"] for zone in content["labels"].values()] == list(work.by_label)
    again = load_bundle(target)
    assert again.zones.low_L.tobytes() == expected.low_L.tobytes()
    assert again.provenance.training[ZONES_FITTED] == "precision=0.9,misses=0.05"


def test_without_a_word_there_are_no_zones(loaded, fresh_rows):
    new = find(loaded, fresh_rows, Wish(Goal.parse("f1")))
    assert new.zones.zones is None
    assert new.to_json()["zones"] is None
    assert find(loaded, fresh_rows, Wish(Goal.parse("f1"), abstain=ZoneGoal())).zones.change is None


def test_a_workload_is_kept_to_and_cannot_be_guaranteed(loaded, fresh_rows):
    wish = Wish(Goal.parse("recall=0.9"), abstain=ZoneGoal(workload=0.1))
    assert 0 < find(loaded, fresh_rows, wish).zones.workload.share <= 0.1
    with pytest.raises(UsageError, match=r"U281 --guarantee: workload=0\.1 cannot be guaranteed"):
        find(loaded, fresh_rows, Wish(Goal.parse("recall=0.9"), guarantee=True, abstain=wish.abstain))


def test_guaranteed_zones_are_those_of_the_theorems(loaded, fresh_rows):
    goal = ZoneGoal(precision=0.5, misses=0.1)
    wish = Wish(Goal.parse("recall=0.9"), guarantee=True, confidence=0.9, abstain=goal)
    new = find(loaded, fresh_rows, wish)
    probabilities_NL = loaded.predictor.predict(new.corpus.texts).probabilities_BL
    expected = fit_zones(new.corpus.targets_NL, probabilities_NL, new.thresholds, goal, confidence=0.9)
    assert new.zones.zones.high_L.tolist() == expected.high_L.tolist()
    # The threshold of recall=0.9 is the lower end of misses=0.1.
    assert new.zones.zones.low_L.tolist() == new.thresholds.values_L.tolist()
    assert new.zones.goal.startswith("precision=0.5,misses=0.1 (guaranteed with confidence 0.9")


def test_an_evaluation_says_what_goes_to_a_human(version, fresh_rows, capsys):
    folder = version[0]
    model = load_model(folder)
    with fresh_rows.open(newline="") as file:
        rows = list(csv.DictReader(file))
    targets_NL = np.array([[int(row[label]) for label in LABELS] for row in rows], dtype=np.int8)
    predictions = model.predictor.predict([row["text"] for row in rows])
    settings = model.bundle.settings.evaluation.model_copy(update={"resamples": 0})
    options = DataSettings(label_columns=LABELS)
    figures = evaluate_model(model, fresh_rows, options=options, observer=SilentObserver(), settings=settings)
    found = figures.to_json()["zones"]
    inside_NL, decisions_NL = predictions.uncertain_BL, predictions.decisions_BL
    assert found["rows"]["count"] == inside_NL.any(axis=1).sum()
    for column, name in enumerate(LABELS):
        outside_N = ~inside_NL[:, column]
        right_N = decisions_NL[:, column] == (targets_NL[:, column] == 1)
        assert found["labels"][name]["sent"]["count"] == inside_NL[:, column].sum()
        assert found["labels"][name]["accuracy"]["share"] == pytest.approx(right_N[outside_N].mean())
        low, high = found["labels"][name]["accuracy"]["interval"]
        assert low <= right_N[outside_N].mean() <= high
    columns = ["--label-columns", ",".join(LABELS)]
    code, shown, _ = run(capsys, "evaluate", folder, fresh_rows, *columns, "--resamples", "0", "--quiet")
    assert code == 0
    assert "accuracy outside the zone" in shown
    assert f"{found['rows']['count']} of 150 rows have a label for a human" in shown


def test_zones_stay_while_they_hold_their_thresholds(version, fresh_rows, tmp_path):
    model = load_model(version[0])
    new = find(model, fresh_rows, Wish(Goal.parse("f1")))
    assert new.zones.change == "kept"
    assert new.zones.goal == "precision=0.9,misses=0.05"
    assert new.zones.zones.low_L.tolist() == model.bundle.zones.low_L.tolist()
    save_version(model.bundle, new, tmp_path / "model-3")
    again = load_bundle(tmp_path / "model-3")
    assert again.zones.high_L.tobytes() == model.bundle.zones.high_L.tobytes()
    assert again.provenance.training[ZONES_FITTED] == "precision=0.9,misses=0.05"


def test_a_threshold_outside_its_zone_is_refused_with_the_way_out(version, fresh_rows):
    model = load_model(version[0])
    outside = Wish(per_label={"praise": Goal.parse("alerts=1")})
    with pytest.raises(UsageError) as refused:
        find(model, fresh_rows, outside)
    (finding,) = refused.value.findings
    assert finding.code == "U284"
    assert "of praise (zone " in finding.found
    assert "--abstain" in finding.next_step
    fitted = find(model, fresh_rows, Wish(per_label=outside.per_label, abstain=QUALITY))
    assert fitted.zones.zones.hold(fitted.thresholds).all()
    removed = find(model, fresh_rows, Wish(per_label=outside.per_label, abstain=ZoneGoal()))
    assert (removed.zones.change, removed.zones.zones) == ("removed", None)
    assert removed.to_json()["zones"] == {"change": "removed", "goal": None}


def test_the_empty_zone_of_an_unjudged_label_goes_with_its_threshold(loaded, fresh_rows, tmp_path):
    few = tmp_path / "few.csv"
    lines = fresh_rows.read_text().splitlines()
    few.write_text("\n".join([lines[0], *(line.rpartition(",")[0] + ",0" for line in lines[1:])]) + "\n")
    new = find(loaded, few, Wish(Goal.parse("f1"), abstain=QUALITY))
    assert new.zones.zones.reasons[2] == "0 positive rows, at least 5 needed"
    save_version(loaded.bundle, new, tmp_path / "unjudged")
    again = find(
        load_model(tmp_path / "unjudged"), fresh_rows, Wish(per_label={"praise": Goal.parse("recall=0.9")})
    )
    threshold = again.thresholds.values_L[2]
    assert again.zones.zones.low_L[2] == again.zones.zones.high_L[2] == threshold != 0.5


def run(capsys, *arguments):
    """Exit code, standard output and error."""
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    told = capsys.readouterr()
    return ended.value.code, told.out, told.err


def read_rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_from_thresholds_to_predictions_and_back(tiny_model, fresh_rows, tmp_path, capsys):
    """The whole way on the command line: fit, save, predict a file and a text, refuse, remove."""
    model, zoned, plain = tmp_path / "model", tmp_path / "zoned", tmp_path / "plain"
    shutil.copytree(tiny_model, model)
    data = ["--data", fresh_rows, "--label-columns", ",".join(LABELS)]
    aim = ["--abstain", "precision=0.9,misses=0.05"]
    code, shown, _ = run(capsys, "thresholds", model, *data, *aim, "--out", zoned)
    assert code == 0
    words = " ".join(shown.split())
    assert "Zones for a human for precision=0.9,misses=0.05:" in words
    assert "of 150 rows go to a human: " in words
    zones = load_bundle(zoned).zones
    assert f"refund {zones.low_L[0]:.4f} {zones.high_L[0]:.4f}" in words
    assert "## Zones for a human" in (zoned / files.CARD).read_text()

    code, _, told = run(capsys, "predict", zoned, "--input", fresh_rows, "--output", tmp_path / "out.csv")
    assert code == 0
    rows = read_rows(tmp_path / "out.csv")
    # The input has a column review, which stays as it is.
    assert list(rows[0])[-2:] == ["labels", "review_predicted"]
    assert {row["review"] for row in rows} == {"by hand"}
    predictions = manylabel.load(zoned).predict([row["text"] for row in rows])
    names = [row["review_predicted"] for row in rows]
    assert names == ["|".join(predictions.needs_review(index)) for index in range(150)]
    assert any("|" in each for each in names)
    to_review = sum(map(bool, names))
    assert f"{to_review} rows with a label for a human to decide" in " ".join(told.split())

    first = next(index for index, each in enumerate(names) if each)
    code, shown, _ = run(capsys, "predict", zoned, "--json", "--", rows[first]["text"])
    assert json.loads(shown)["predictions"][0]["review"] == names[first].split("|")
    code, shown, _ = run(capsys, "predict", zoned, "--", rows[first]["text"])
    marked = {line.split()[0] for line in shown.splitlines() if line.endswith("human")}
    assert marked == set(names[first].split("|"))
    file_json = ["--input", fresh_rows, "--output", tmp_path / "out.jsonl", "--json"]
    _, shown, _ = run(capsys, "predict", zoned, *file_json)
    assert json.loads(shown)["rows_to_review"] == to_review
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines[first]["review_predicted"] == names[first].split("|")

    refused = run(capsys, "thresholds", zoned, *data, "--goal", "alerts=1", "--out", plain)
    assert refused[0] == 2
    assert "lie outside the zones" in " ".join(refused[2].split())
    assert not plain.exists()
    code, shown, _ = run(capsys, "thresholds", zoned, *data, "--goal", "f1", "--dry-run")
    assert "precision=0.9,misses=0.05, kept as they were:" in " ".join(shown.split())
    code, shown, _ = run(capsys, "thresholds", zoned, *data, "--no-abstain", "--out", plain)
    assert (code, "The zones for a human were removed." in shown) == (0, True)
    assert load_bundle(plain).zones is None
    assert ZONES_FITTED not in load_bundle(plain).provenance.training
    predict_file(load_model(plain), fresh_rows, tmp_path / "plain.csv", options=DataSettings())
    assert list(read_rows(tmp_path / "plain.csv")[0])[-1] == "labels"
    _, shown, _ = run(capsys, "predict", plain, "--json", "thanks")
    assert "review" not in json.loads(shown)["predictions"][0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--abstain", "precision=0.9"], "precision and misses go together"),
        (["--abstain", "workload=2"], "workload is 2, not above 0 and at most 1"),
        (["--abstain", "workload=0.1", "--no-abstain"], "together with --abstain workload=0.1"),
        (
            ["--abstain", "workload=0.1", "--goal", "recall=0.9", "--guarantee"],
            "workload=0.1 cannot be guaranteed",
        ),
    ],
)
def test_wrong_usage_is_said_and_saves_nothing(tiny_model, fresh_rows, tmp_path, capsys, arguments, message):
    out = tmp_path / "new"
    code, _, told = run(capsys, "thresholds", tiny_model, "--data", fresh_rows, "--out", out, *arguments)
    assert code == 2
    assert message in " ".join(told.split())
    assert not out.exists()


def test_none_may_be_said_twice(tiny_model, fresh_rows, capsys):
    data = ["--data", fresh_rows, "--label-columns", ",".join(LABELS), "--dry-run", "--json"]
    code, shown, _ = run(capsys, "thresholds", tiny_model, *data, "--abstain", "none", "--no-abstain")
    assert code == 0
    assert json.loads(shown)["zones"] is None
