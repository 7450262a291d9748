"""What a pupil learns from a teacher: targets worked by hand, and rows that judge left alone."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest

from manylabel.cli.main import main
from manylabel.config.load import load_settings
from manylabel.config.schema import TeacherSettings
from manylabel.errors import ConfigError, UsageError
from manylabel.recipes.corpora import Others, gather_corpora
from manylabel.recipes.teacher import Teaching, prepare_lesson, pseudo_targets, soft_targets
from manylabel.training.observers import SilentObserver


def test_soft_targets_by_hand():
    given = np.array([[1, 0, -1]], dtype=np.int8)
    of_teacher = np.array([[0.6, 0.2, 0.9]])
    assert soft_targets(given, of_teacher, 0.5) == pytest.approx(np.array([[0.8, 0.1, 0.9]]))
    assert soft_targets(given, of_teacher, 0.0) == pytest.approx(np.array([[1.0, 0.0, 0.9]]))
    assert soft_targets(given, of_teacher, 1.0) == pytest.approx(of_teacher)


def test_hard_pseudo_labels_only_where_the_teacher_is_sure():
    of_teacher = np.array([[0.95, 0.9, 0.89, 0.5, 0.11, 0.1, 0.0]])
    hard = pseudo_targets(of_teacher, TeacherSettings(pseudo_labels="hard", confidence=0.9))
    assert hard.tolist() == [[1, 1, -1, -1, -1, 0, 0]]
    assert pseudo_targets(of_teacher, TeacherSettings()) == pytest.approx(of_teacher)


@pytest.fixture
def files(tmp_path, tiny_mails):
    """The tiny e-mails again as unlabelled texts (all copies), with three new ones and one of them twice."""
    with open(tiny_mails, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    new = ["please refund my money", "where is my parcel", "great product thanks", "where is my parcel"]
    extra = tmp_path / "extra.csv"
    with extra.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text"])
        writer.writerows([[row["text"]] for row in rows] + [[text] for text in new])
    fresh = tmp_path / "fresh.csv"
    with fresh.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        for number, row in enumerate(rows[:40]):
            text = f"zebra{number} quartz{number} {row['text']} violin{number} ocean{number}"
            writer.writerow({**row, "text": text})
    return extra, fresh


def lesson_of(source, others, teaching, *overrides):
    settings = load_settings(None, ["data.text_column=text", *overrides])
    corpora = gather_corpora(source, others, settings=settings, observer=SilentObserver())
    return corpora, prepare_lesson(teaching, corpora, settings, observer=SilentObserver())


def test_unlabelled_copies_of_judging_rows_and_repeats_are_left_out(tiny_model, tiny_mails, files):
    extra, fresh = files
    corpora, lesson = lesson_of(tiny_mails, Others(test=fresh), Teaching(tiny_model, (extra,)))
    labelled = len(corpora.train)
    added = lesson.rows.texts[labelled:]
    judging = {*corpora.validation.texts, *corpora.calibration.texts, *corpora.test.texts}
    assert not judging & set(added)
    assert not set(corpora.train.texts) & set(added)
    assert len(set(added)) == len(added) == 3
    assert lesson.targets_NL.shape == (labelled + 3, 3)
    assert ((lesson.targets_NL >= 0) & (lesson.targets_NL <= 1)).all()
    annotated = corpora.train.targets_NL
    assert ((lesson.targets_NL[:labelled] >= 0.5) == (annotated == 1)).mean() > 0.99


def test_a_teacher_that_saw_the_test_rows_is_refused(tiny_model, tiny_mails):
    lesson_of(tiny_mails, Others(), Teaching(tiny_model))  # The same split: the teacher's test rows are ours.
    with pytest.raises(UsageError, match="test rows made the teacher"):
        lesson_of(tiny_mails, Others(), Teaching(tiny_model), "split.seed=2")


def test_unlabelled_files_need_none_of_the_columns_that_are_named_for_the_labelled_one(
    tiny_model, tiny_mails, files
):
    labels = "data.label_columns=[refund,delivery,praise]"
    _, lesson = lesson_of(tiny_mails, Others(test=files[1]), Teaching(tiny_model, (files[0],)), labels)
    assert lesson.facts["unlabelled"]["rows"] == 3


def test_other_unlabelled_texts_are_another_lesson_even_with_the_same_targets(tiny_model, tiny_mails, files):
    _, lesson = lesson_of(tiny_mails, Others(test=files[1]), Teaching(tiny_model, (files[0],)))
    others = replace(lesson.rows, texts=(*lesson.rows.texts[:-1], "another text"))
    assert replace(lesson, rows=others).fingerprint != lesson.fingerprint
    assert replace(lesson).fingerprint == lesson.fingerprint


def test_a_loss_of_zeros_and_ones_is_refused(tiny_model, tiny_mails, files):
    with pytest.raises(ConfigError, match="soft targets"):
        lesson_of(tiny_mails, Others(test=files[1]), Teaching(tiny_model), "loss.kind=distribution_balanced")


def test_a_teacher_of_other_labels_is_refused(tiny_model, tmp_path):
    path = tmp_path / "other.csv"
    rows = [
        f"text number {number} about {'cats' if number % 2 else 'dogs'},{number % 2}" for number in range(60)
    ]
    path.write_text("text,cats\n" + "\n".join(rows))
    with pytest.raises(UsageError, match="does not know cats"):
        lesson_of(path, Others(), Teaching(tiny_model))


def test_a_pupil_remembers_all_that_its_teacher_saw(
    tiny_model, tiny_mails, tiny_encoder, files, tmp_path, capsys
):
    from manylabel.data.duplicates import text_fingerprints
    from manylabel.inference.load import load_model

    extra, fresh = files
    out = tmp_path / "pupil"
    arguments = [
        "train",
        str(tiny_mails),
        "--out",
        str(out),
        "--test",
        str(fresh),
        "--encoder",
        str(tiny_encoder),
    ]
    arguments += [
        "--teacher",
        str(tiny_model),
        "--unlabelled",
        str(extra),
        "--text-column",
        "text",
        "--quiet",
    ]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--set", "training.epochs=1"])
    assert ended.value.code == 0, capsys.readouterr().err
    pupil, teacher = load_model(out).bundle, load_model(tiny_model).bundle
    assert np.isin(teacher.seen_texts, pupil.seen_texts).all()
    assert np.isin(text_fingerprints(["where is my parcel"]), pupil.seen_texts).all()
    assert pupil.provenance.data["unlabelled"]["rows"] == 3
    assert pupil.provenance.data["teacher"]["source"] == tiny_model.name
