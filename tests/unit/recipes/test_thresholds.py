"""New thresholds of a saved model: what they aim at, what is shown and what is saved."""

import csv
import json
import random
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from manylabel.bundle import files
from manylabel.bundle.load import load_bundle
from manylabel.cli.main import main
from manylabel.config.schema import DataSettings
from manylabel.decisions.abstain import ZoneGoal
from manylabel.decisions.goals import Goal, fit_goal
from manylabel.decisions.missed_share import MissedShare
from manylabel.decisions.risk import control_missed_share, control_misses
from manylabel.errors import ConfigError, DataError, UsageError
from manylabel.inference.load import load_model
from manylabel.recipes.evaluate import evaluate_model
from manylabel.recipes.new_thresholds import Wish
from manylabel.recipes.scoring import seen_rows
from manylabel.recipes.thresholds import find_thresholds
from manylabel.recipes.versions import GOAL_FITTED, save_version, version_target

LABELS = ("refund", "delivery", "praise")
CUES = {
    "refund": ("refund", "money", "charged", "paid"),
    "delivery": ("delivery", "parcel", "courier", "late"),
    "praise": ("thanks", "great", "love", "happy"),
}
WORDS = (
    "the",
    "you",
    "we",
    "our",
    "is",
    "was",
    "order",
    "today",
    "week",
    "after",
    "again",
    "all",
    "for",
    "from",
)


class Told:
    """An observer that keeps what it is told."""

    def __init__(self):
        self.lines = []

    def stage(self, text):
        self.lines.append(text)


@pytest.fixture(scope="module")
def loaded(tiny_model):
    return load_model(tiny_model)


@pytest.fixture(scope="module")
def fresh_rows(tmp_path_factory):
    """150 e-mails of the same kind that the model has not seen."""
    choose = random.Random(31)
    path = tmp_path_factory.mktemp("fresh") / "fresh.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", *LABELS])
        for row in range(150):
            carried = [label for label in LABELS if choose.random() < 0.4]
            words = [*choose.choices(WORDS, k=12), f"n{row}x"]
            for label in carried:
                words[choose.randrange(12)] = choose.choice(CUES[label])
            writer.writerow([" ".join(words), *(int(label in carried) for label in LABELS)])
    return path


def find(loaded, rows, wish, told=None):
    return find_thresholds(loaded, rows, wish, options=DataSettings(), observer=told or Told())


def scored(loaded, path):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    targets_NL = np.array([[int(row[label]) for label in LABELS] for row in rows], dtype=np.int8)
    return targets_NL, loaded.predictor.predict([row["text"] for row in rows]).probabilities_BL


def test_thresholds_are_those_of_the_goal_on_the_models_probabilities(loaded, fresh_rows):
    targets_NL, probabilities_NL = scored(loaded, fresh_rows)
    new = find(loaded, fresh_rows, Wish(Goal.parse("recall=0.9")))
    expected = fit_goal(targets_NL, probabilities_NL, LABELS, Goal.parse("recall=0.9"))
    assert new.thresholds.values_L.tolist() == expected.values_L.tolist()
    assert new.thresholds.goals == ("recall=0.9",) * 3
    assert new.changed == LABELS
    baseline_NL = loaded.bundle.baseline.model.probabilities(list(new.corpus.texts))
    beside = fit_goal(targets_NL, baseline_NL, LABELS, Goal.parse("recall=0.9"))
    assert new.baseline.thresholds.values_L.tolist() == beside.values_L.tolist()


def test_without_a_goal_the_models_own_holds(loaded, fresh_rows):
    assert find(loaded, fresh_rows, Wish()).thresholds.goals == ("f1",) * 3


def test_only_the_named_label_changes(loaded, fresh_rows):
    new = find(loaded, fresh_rows, Wish(per_label={"delivery": Goal.parse("recall=1")}))
    old = loaded.bundle.thresholds
    assert new.changed == ("delivery",)
    assert new.thresholds.values_L[[0, 2]].tolist() == old.values_L[[0, 2]].tolist()
    assert new.thresholds.goals[1] == "recall=1"
    assert new.after["delivery"].hits == new.after["delivery"].positives
    assert new.to_json()["kept"] == ["refund", "praise"]
    with pytest.raises(ConfigError, match='no label "threat"'):
        find(loaded, fresh_rows, Wish(per_label={"threat": Goal.parse("recall=1")}))


def test_what_the_thresholds_do_is_counted_before_and_after(loaded, fresh_rows):
    targets_NL, probabilities_NL = scored(loaded, fresh_rows)
    new = find(loaded, fresh_rows, Wish(Goal.parse("alerts=1000"), confidence=0.9))
    content = json.loads(json.dumps(new.to_json(), allow_nan=False))
    for column, name in enumerate(LABELS):
        for when, thresholds in (("before", loaded.bundle.thresholds), ("after", new.thresholds)):
            decided = probabilities_NL[:, column] >= thresholds.values_L[column]
            hits = decided & (targets_NL[:, column] == 1)
            at = content["labels"][name][when]
            assert at["recall"] == hits.sum() / (targets_NL[:, column] == 1).sum()
            assert at["alerts_per_10000"] == pytest.approx(10000 * decided.mean())
            if decided.any():
                assert at["precision"] == hits.sum() / decided.sum()
                low, high = at["precision_interval"]
                assert low <= at["precision"] <= high
            low, high = at["alerts_per_10000_interval"]
            assert low <= at["alerts_per_10000"] <= high
        assert content["labels"][name]["after"]["alerts_per_10000"] <= 1000
    assert "better than on new rows" in content["chosen_on"]


def test_a_guarantee_is_given_or_refused_label_by_label(loaded, fresh_rows):
    targets_NL, probabilities_NL = scored(loaded, fresh_rows)
    goals = {"refund": Goal.parse("recall=0.9"), "praise": Goal.parse("recall=0.999")}
    new = find(loaded, fresh_rows, Wish(per_label=goals, guarantee=True))
    expected = control_misses(targets_NL[:, 0], probabilities_NL[:, 0], alpha=0.1)
    assert new.thresholds.values_L[0] == expected.threshold
    assert new.guaranteed == {"refund"}
    assert new.thresholds.notes[0] == (
        "guaranteed: a new positive row is missed with probability at most 0.1"
    )
    positives = int((targets_NL[:, 2] == 1).sum())
    assert new.thresholds.notes[2] == (
        f"not guaranteed: {positives} positive rows, at least 999 needed for 0.001"
    )
    plain = fit_goal(targets_NL, probabilities_NL, LABELS, Goal.parse("recall=0.999"))
    assert new.thresholds.values_L[2] == plain.values_L[2]


def test_precision_is_certified_with_the_confidence_that_was_asked_for(loaded, fresh_rows):
    low = find(loaded, fresh_rows, Wish(Goal.parse("precision=0.3"), guarantee=True, confidence=0.9))
    high = find(loaded, fresh_rows, Wish(Goal.parse("precision=0.99"), guarantee=True))
    for column, name in enumerate(LABELS):
        if name in low.guaranteed:
            assert low.thresholds.notes[column] == ("guaranteed: precision at least 0.3 with confidence 0.9")
    assert low.guaranteed
    assert not high.guaranteed
    assert all("not guaranteed: " in note for note in high.thresholds.notes)


@pytest.mark.parametrize("goal", [None, "f1", "recall=1", "cost=5:1", "one=micro"])
def test_what_no_theorem_is_about_cannot_be_guaranteed(loaded, fresh_rows, goal):
    with pytest.raises(UsageError, match="guarantee"):
        find(loaded, fresh_rows, Wish(goal and Goal.parse(goal), guarantee=True))


def test_seen_rows_are_told_and_left_out_for_a_guarantee(loaded, tiny_mails):
    told = Told()
    new = find(loaded, tiny_mails, Wish(Goal.parse("f1")), told)
    assert new.left_out == 0
    assert sum(new.seen.values()) >= 100
    assert any("warning: " in line and "made the model" in line for line in told.lines)
    guaranteed = find(loaded, tiny_mails, Wish(Goal.parse("recall=0.9"), guarantee=True), told)
    assert guaranteed.left_out == sum(new.seen.values())
    assert len(guaranteed.corpus) == 120 - guaranteed.left_out - guaranteed.left_out_dependent
    assert any("left out, since a guarantee needs new rows" in line for line in told.lines)


def test_copies_of_rows_do_not_make_a_guarantee_surer(loaded, fresh_rows, tmp_path):
    header, *lines = fresh_rows.read_text().splitlines()
    copied = tmp_path / "copied.csv"
    copied.write_text("\n".join([header, *(line for line in lines for _ in range(3))]) + "\n")
    wish = Wish(Goal.parse("precision=0.3"), guarantee=True, confidence=0.9, abstain=ZoneGoal(0.3, 0.1))
    told = Told()
    once, thrice = find(loaded, fresh_rows, wish), find(loaded, copied, wish, told)
    assert once.left_out_dependent == 0
    assert thrice.left_out_dependent == thrice.to_json()["left_out_dependent"] == 300
    assert any("300 of 450 rows are copies or near copies" in line for line in told.lines)
    assert once.guaranteed
    assert thrice.guaranteed == once.guaranteed
    assert thrice.thresholds.values_L.tolist() == once.thresholds.values_L.tolist()
    assert thrice.zones.to_json() == once.zones.to_json()
    # Without a guarantee no row is left out.
    plain = find(loaded, copied, Wish(Goal.parse("precision=0.3")))
    assert (len(plain.corpus), plain.left_out_dependent) == (450, 0)


def test_of_the_rows_of_one_group_a_guarantee_takes_one(loaded, fresh_rows, tmp_path):
    header, *lines = fresh_rows.read_text().splitlines()
    grouped = tmp_path / "grouped.csv"
    rows = [f"{line},g{index % 50}" for index, line in enumerate(lines)]
    grouped.write_text("\n".join([f"{header},thread", *rows]) + "\n")
    options = DataSettings(group_column="thread", label_columns=LABELS)
    wish = Wish(Goal.parse("recall=0.9"), guarantee=True)
    new = find_thresholds(loaded, grouped, wish, options=options, observer=Told())
    assert sorted(new.corpus.groups) == sorted(f"g{index}" for index in range(50))
    assert (len(new.corpus), new.left_out_dependent) == (50, 100)
    # Chosen by a draw: neither always the first row of a group nor always the last.
    assert len({(int(row) - 1) // 50 for row in new.corpus.rows_N}) == 3


def test_an_unjudged_label_is_noted_as_not_guaranteed(loaded, fresh_rows, tmp_path):
    header, *lines = fresh_rows.read_text().splitlines()
    full = tmp_path / "full.csv"
    full.write_text("\n".join([header, *(line.rpartition(",")[0] + ",1" for line in lines)]) + "\n")
    wish = Wish(Goal.parse("recall=0.9"), guarantee=True, abstain=ZoneGoal(0.5, 0.1))
    new = find(loaded, full, wish)
    reason = "0 negative rows, at least 5 needed"
    assert "praise" not in new.guaranteed
    assert (new.unjudged["praise"], new.thresholds.notes[2]) == (reason, f"not guaranteed: {reason}")
    assert "guaranteed with confidence 0.95 where no note says otherwise" in new.zones.goal
    assert new.zones.to_json()["labels"]["praise"]["note"] == f"not guaranteed: {reason}"


@pytest.fixture(scope="module")
def version(loaded, tiny_model, fresh_rows, tmp_path_factory):
    """The folder of a version with recall=0.9, and what was found."""
    new = find(loaded, fresh_rows, Wish(Goal.parse("recall=0.9")))
    target = tmp_path_factory.mktemp("versions") / "model-2"
    save_version(loaded.bundle, new, target)
    return target, new


def test_a_version_is_the_same_model_with_other_thresholds(loaded, tiny_model, version, fresh_rows):
    target, new = version
    again = load_model(target)
    assert again.probe_difference <= 1e-6
    assert again.bundle.thresholds.values_L.tobytes() == new.thresholds.values_L.tobytes()
    assert again.bundle.thresholds.goals == ("recall=0.9",) * 3
    assert (target / files.WEIGHTS).read_bytes() == (tiny_model / files.WEIGHTS).read_bytes()
    # Figures of the old thresholds would be a lie in the card.
    assert again.bundle.evaluation is None
    facts = again.bundle.provenance.training
    assert facts[GOAL_FITTED] == "recall=0.9"
    assert facts["thresholds rows"] == 150
    assert len(facts["thresholds rows sha256"]) == 64
    assert facts["steps"] == loaded.bundle.provenance.training["steps"]


def test_an_evaluation_of_the_version_knows_which_rows_chose_its_thresholds(loaded, version, fresh_rows):
    target, _ = version
    options = {"options": DataSettings(), "observer": Told()}
    assert evaluate_model(loaded, fresh_rows, **options).to_json()["rows_seen_in_training"] == 0
    figures = evaluate_model(load_model(target), fresh_rows, **options).to_json()
    assert figures["rows_seen_in_training"] == 150
    assert figures["roles"]["calibration"] == 150
    assert load_bundle(target).seen_sketches.shape[1] == 128


def test_versions_are_numbered_and_nothing_is_replaced(loaded, version, tmp_path):
    model = tmp_path / "bert-3"
    model.mkdir()
    assert version_target(model, loaded.bundle, None) == tmp_path / "bert-3-2"
    (tmp_path / "bert-3-2").mkdir()
    fitted = load_bundle(version[0])
    assert version_target(tmp_path / "bert-3-2", fitted, None) == tmp_path / "bert-3-3"
    for wrong in (model, model / "inside"):
        with pytest.raises(UsageError, match="own folder"):
            version_target(model, loaded.bundle, wrong)
    with pytest.raises(UsageError, match="exists already"):
        version_target(model, loaded.bundle, tmp_path / "bert-3-2")


def test_a_model_of_before_there_were_sketches_gets_none(loaded, fresh_rows, tmp_path):
    older = replace(loaded, bundle=replace(loaded.bundle, seen_sketches=None, seen_parts={}))
    new = find(older, fresh_rows, Wish(Goal.parse("f1")))
    save_version(older.bundle, new, tmp_path / "older-2")
    again = load_bundle(tmp_path / "older-2")
    assert again.seen_sketches is None
    assert set(again.seen_parts) == {"calibration"}


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["thresholds", *map(str, arguments)])
    return ended.value.code


def test_the_command_shows_and_saves(loaded, tiny_model, fresh_rows, tmp_path, capsys):
    out = tmp_path / "new"
    code = run(
        tiny_model, "--data", fresh_rows, "--label", "refund", "recall=0.9", "--label", "praise",
        "precision=0.5", "--out", out, "--quiet",
    )  # fmt: skip
    shown = capsys.readouterr().out
    assert code == 0, shown
    words = " ".join(shown.split())
    old, new = loaded.bundle.thresholds.values_L, load_bundle(out).thresholds.values_L
    for piece in (
        f"refund: from {old[0]:.4f} to {new[0]:.4f}; goal recall=0.9",
        f"praise: from {old[2]:.4f} to {new[2]:.4f}; goal precision=0.5",
        "1 label kept as they were",
    ):
        assert piece in words
    assert "old" in words
    assert "better than on new rows" in words
    assert load_bundle(out).thresholds.goals == (
        "recall=0.9",
        loaded.bundle.thresholds.goals[1],
        "precision=0.5",
    )


def test_thresholds_copied_from_the_report_are_taken_as_they_are(tiny_model, fresh_rows, tmp_path, capsys):
    values = tmp_path / "values.json"
    values.write_text(json.dumps({"thresholds": {"refund": 0.3125, "praise": 1e-05}}))
    out = tmp_path / "new"
    assert run(tiny_model, "--data", fresh_rows, "--values", values, "--out", out, "--quiet") == 0
    before, after = load_bundle(tiny_model).thresholds, load_bundle(out).thresholds
    assert after.values_L.tolist() == [0.3125, before.values_L[1], 1e-05]
    assert after.goals[::2] == ("at=0.3125", "at=1e-05")
    baselines = (load_bundle(folder).baseline.thresholds.values_L.tolist() for folder in (tiny_model, out))
    assert next(baselines) == next(baselines)
    for content in ("{}", "no JSON", '{"thresholds": {"refund": 1.5}}', '{"thresholds": [0.5]}'):
        values.write_text(content)
        assert run(tiny_model, "--data", fresh_rows, "--values", values, "--dry-run") == 2
        assert "U285" in capsys.readouterr().err


def test_the_label_may_stand_before_the_model_and_a_dry_run_saves_nothing(
    tiny_model, fresh_rows, tmp_path, capsys
):
    before = sorted(tiny_model.parent.iterdir())
    code = run("--label", "refund", "recall=0.9", tiny_model, "--data", fresh_rows, "--dry-run", "--json")
    content = json.loads(capsys.readouterr().out)
    assert code == 0
    assert content["out"] is None
    assert list(content["labels"]) == ["refund"]
    assert content["labels"]["refund"]["after"]["recall"] >= 0.9
    assert sorted(tiny_model.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--label", "refund"], "1 label and 0 goals"),
        (["--label", "a", "f1", "--label", "a", "f2"], "named twice"),
        (["--goal", "recall=95"], "at most 1"),
        (["f1"], "0 labels and 1 goal"),
        (["--goal", "f1", "--guarantee"], "cannot be guaranteed"),
        (["--label", "threat", "f1"], "no label"),
        (["--label", "refnd", "f1"], 'did you mean "refund"?'),
        (["--goal", "missed-share=0.1"], "without --guarantee"),
        (["--guarantee", "missed-share=0.1", "--goal", "f1"], "leave out --goal"),
        (["--guarantee", "missed-share=0.1", "--goal", "missed-share=0.2"], "more than once"),
        (["--guarantee", "missed-share=1.5"], "write for example missed-share=0.1"),
    ],
)
def test_wrong_usage_is_said_and_saves_nothing(tiny_model, fresh_rows, tmp_path, capsys, arguments, message):
    out = tmp_path / "new"
    assert run(tiny_model, "--data", fresh_rows, "--out", out, *arguments) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


def test_a_guarantee_without_a_new_row_is_refused_and_saves_nothing(tiny_model, tiny_mails, tmp_path, capsys):
    out, seen = tmp_path / "new", tmp_path / "seen.csv"
    texts = pa.csv.read_csv(tiny_mails)
    model = load_model(tiny_model)
    made_it_N = seen_rows(model.bundle, texts["text"].to_pylist()).seen_N
    pa.csv.write_csv(texts.filter(pa.array(made_it_N)), seen)
    goal = ("--goal", "recall=0.9", "--guarantee")
    assert run(tiny_model, "--data", seen, *goal, "--out", out) == 1
    assert "no row is left" in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


@pytest.fixture(scope="module")
def two_labels(fresh_rows, tmp_path_factory):
    """The same e-mails, of which two carry the label praise."""
    path = tmp_path_factory.mktemp("two") / "rare.csv"
    with fresh_rows.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["text", *LABELS])
        writer.writeheader()
        writer.writerows({**row, "praise": int(index < 2)} for index, row in enumerate(rows))
    return path


def raised(loaded):
    """The model with thresholds of 0.4321 for all labels, chosen by hand."""
    thresholds = replace(
        loaded.bundle.thresholds,
        values_L=np.full(3, 0.4321),
        goals=("at=0.4321",) * 3,
        notes=("chosen by hand",) * 3,
    )
    return replace(loaded, bundle=replace(loaded.bundle, thresholds=thresholds))


def test_a_label_that_the_rows_cannot_judge_keeps_the_models_threshold(loaded, two_labels):
    model = raised(loaded)
    new = find(model, two_labels, Wish(Goal.parse("recall=0.9")))
    assert new.unjudged == {"praise": "2 positive rows, at least 5 needed"}
    assert new.thresholds.values_L[2] == 0.4321
    # It is still the threshold that somebody chose by hand, and judged as it was.
    assert (new.thresholds.goals[2], new.thresholds.notes[2]) == ("at=0.4321", "chosen by hand")
    assert new.thresholds.judged_L.all()
    assert 0.4321 not in new.thresholds.values_L[:2]
    content = new.to_json()
    assert content["labels"]["praise"]["outcome"] == "kept"
    assert content["labels"]["refund"]["outcome"] == "changed"
    baseline = loaded.bundle.baseline.thresholds
    assert new.baseline.thresholds.values_L[2] == baseline.values_L[2]


def test_what_was_promised_of_a_kept_threshold_still_holds(loaded, two_labels):
    promise = "guaranteed: precision at least 0.8 with confidence 0.95"
    thresholds = replace(raised(loaded).bundle.thresholds, notes=(None, None, promise))
    model = replace(loaded, bundle=replace(loaded.bundle, thresholds=thresholds))
    new = find(model, two_labels, Wish(Goal.parse("recall=0.8"), guarantee=True))
    assert new.thresholds.notes[2] == promise
    assert new.guaranteed == {"refund", "delivery"}


def test_the_command_says_what_is_kept_and_what_changed(tiny_model, two_labels, capsys):
    old = load_bundle(tiny_model).thresholds.values_L
    assert run(tiny_model, "--data", two_labels, "--goal", "recall=0.9", "--dry-run", "--quiet") == 0
    words = " ".join(capsys.readouterr().out.split())
    assert f"praise: kept at {old[2]:.4f}, not judged: 2 positive rows, at least 5 needed" in words
    assert f"refund: from {old[0]:.4f} to " in words


def test_rows_that_can_judge_no_label_are_refused(tiny_model, two_labels, tmp_path, capsys):
    out = tmp_path / "new"
    for goal in (("--label", "praise", "recall=0.9"), ("--label", "praise", "recall=0.9", "--guarantee")):
        assert run(tiny_model, "--data", two_labels, *goal, "--out", out) == 1
        words = " ".join(capsys.readouterr().err.split())
        assert "D176" in words
        assert "can judge no label: praise (2 positive rows, at least 5 needed)" in words
    assert not out.exists()


def refuse_to_predict(*_, **__):
    raise AssertionError("predicted before the labels were checked")


def test_names_and_positives_are_checked_before_anything_is_predicted(loaded, two_labels, monkeypatch):
    monkeypatch.setattr(type(loaded.predictor), "predict", refuse_to_predict)
    goals = {name: Goal.parse("recall=0.9") for name in ("refnd", "threat", "prais")}
    with pytest.raises(ConfigError) as caught:
        find(loaded, two_labels, Wish(per_label=goals))
    assert [finding.code for finding in caught.value.findings] == ["C242"] * 3
    steps = [finding.next_step for finding in caught.value.findings]
    assert (steps[0], steps[2]) == ('did you mean "refund"?', 'did you mean "praise"?')
    assert "threat" in caught.value.findings[1].found
    with pytest.raises(DataError, match="D176"):
        find(loaded, two_labels, Wish(per_label={"praise": Goal.parse("recall=0.9")}))
    # Zones would be fitted for the other labels, so the rows are of use.
    with pytest.raises(AssertionError):
        find(loaded, two_labels, Wish(per_label={"praise": Goal.parse("f1")}, abstain=ZoneGoal(0.5, 0.1)))


def test_a_named_label_that_cannot_be_judged_is_told_before_predicting(loaded, two_labels):
    told = Told()
    goals = {"refund": Goal.parse("f1"), "praise": Goal.parse("recall=0.9")}
    find(loaded, two_labels, Wish(per_label=goals), told)
    note = "praise (2 positive rows, at least 5 needed): kept as in the model"
    places = [place for place, line in enumerate(told.lines) if note in line]
    predicting = next(place for place, line in enumerate(told.lines) if line.startswith("Predicting"))
    assert places
    assert places[0] < predicting


def test_where_nothing_changes_no_version_is_saved(tiny_model, fresh_rows, tmp_path, capsys):
    out = tmp_path / "new"
    value = repr(float(load_bundle(tiny_model).thresholds.values_L[0]))
    chosen = ("--label", "refund", f"at={value}", "--out", out)
    assert run(tiny_model, "--data", fresh_rows, *chosen) == 0
    assert "Nothing changed: every threshold is as it was. No new version" in capsys.readouterr().out
    assert run(tiny_model, "--data", fresh_rows, *chosen, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["changed"], content["out"]) == (False, None)
    assert content["labels"]["refund"]["outcome"] == "same"
    assert not out.exists()


@pytest.mark.parametrize("labelled", [False, True])
def test_the_share_of_missed_labels_is_guaranteed_with_one_threshold(loaded, fresh_rows, labelled):
    targets_NL, probabilities_NL = scored(loaded, fresh_rows)
    goal = MissedShare(0.2, labelled)
    new = find(loaded, fresh_rows, Wish(guarantee=True, missed_share=goal))
    expected = control_missed_share(targets_NL, probabilities_NL, alpha=0.2, labelled_only=labelled)
    assert new.thresholds.values_L.tolist() == [expected.threshold] * 3
    assert new.guaranteed == set(LABELS)
    assert new.thresholds.goals == (str(goal),) * 3
    assert all(note.startswith("guaranteed: on average at most 0.2 of") for note in new.thresholds.notes)
    positive_NL = targets_NL == 1
    carries_N = positive_NL.any(axis=1)
    missed_N = (positive_NL & (probabilities_NL < expected.threshold)).sum(axis=1) / np.maximum(
        positive_NL.sum(axis=1), 1
    )
    found = new.to_json()["missed_share"]
    assert found["after"] == pytest.approx(missed_N[carries_N].mean() if labelled else missed_N.mean())
    assert found["after"] <= 0.2
    assert found["rows"] == (carries_N.sum() if labelled else 150)


def test_the_share_of_missed_labels_on_the_command_line(tiny_model, fresh_rows, tmp_path, capsys):
    out = tmp_path / "new"
    goal = ("--guarantee", "missed-share=0.2,labelled", "--confidence", "0.9")
    assert run(tiny_model, "--data", fresh_rows, *goal, "--out", out) == 0
    words = " ".join(capsys.readouterr().out.split())
    promise = "guaranteed: on average at most 0.2 of the labels of a new row with a label are missed"
    assert words.count(promise) == 1
    assert "missed of a row's labels, mean over" in words
    saved = load_bundle(out)
    assert len(set(saved.thresholds.values_L.tolist())) == 1
    assert saved.provenance.training[GOAL_FITTED] == "missed-share=0.2,labelled"
    assert saved.provenance.training["thresholds guaranteed labels"] == 3
    assert "guaranteed: on average at most 0.2" in (out / files.CARD).read_text()
    # Too few rows for so small a share are refused.
    assert run(tiny_model, "--data", fresh_rows, "--guarantee", "missed-share=0.001") == 1
    assert "150 rows, at least 999 needed for 0.001" in " ".join(capsys.readouterr().err.split())


def test_a_share_that_finding_nothing_keeps_to_is_said(loaded, fresh_rows, tmp_path):
    header, *lines = fresh_rows.read_text().splitlines()
    few = tmp_path / "few.csv"
    few.write_text("\n".join([header, *(line if row < 5 else line[: line.index(",")] + ",0,0,0"
                                        for row, line in enumerate(lines))]) + "\n")  # fmt: skip
    new = find(loaded, few, Wish(guarantee=True, missed_share=MissedShare(0.3)))
    assert new.thresholds.notes[0].endswith("missed-share=0.3,labelled is about those")
