"""Zones in a bundle: saved, loaded, refused where damaged, named in the card."""

import json
from dataclasses import replace

import numpy as np
import pytest

from manylabel.bundle import files
from manylabel.bundle.card import GOAL_FITTED, model_card
from manylabel.bundle.load import load_bundle
from manylabel.bundle.manifest import Manifest, describe_files, read_manifest
from manylabel.bundle.save import save_bundle
from manylabel.decisions.abstain import ABOVE_ALL, Zones
from manylabel.errors import BundleError
from manylabel.inference.load import load_model

LABELS = ("refund", "delivery", "praise")
NOTES = (None, "no cut reaches precision=0.9, the highest precision is 0.8000", None)
ZONES = Zones(
    LABELS, np.array([0.1, 0.2, 0.3]), np.array([0.7, ABOVE_ALL, 0.3]), (None, None, "2 positive rows"), NOTES
)


@pytest.fixture(scope="module")
def bundle(tiny_model):
    return load_bundle(tiny_model)


@pytest.fixture
def saved(bundle, tmp_path):
    """A folder with zones."""
    save_bundle(replace(bundle, zones=ZONES), tmp_path / "zoned")
    return tmp_path / "zoned"


def with_decisions(folder, change):
    """The folder with other decisions and right hashes."""
    content = json.loads((folder / files.DECISIONS).read_text())
    change(content)
    (folder / files.DECISIONS).write_text(json.dumps(content))
    manifest = read_manifest(folder)
    (folder / files.MANIFEST).unlink()
    entries = {name: entry.model_dump() for name, entry in describe_files(folder).items()}
    again = Manifest.model_validate({**manifest.model_dump(), "files": entries})
    (folder / files.MANIFEST).write_text(again.to_text())
    return folder


def test_zones_come_back_to_the_last_bit_and_predict(saved):
    model = load_model(saved)
    assert model.bundle.zones.labels == LABELS
    assert model.bundle.zones.low_L.tobytes() == ZONES.low_L.tobytes()
    assert model.bundle.zones.high_L.tobytes() == ZONES.high_L.tobytes()
    assert (model.bundle.zones.reasons, model.bundle.zones.notes) == (ZONES.reasons, ZONES.notes)
    predictions = model.predictor.predict(["my parcel is late", "thanks"])
    assert np.array_equal(predictions.uncertain_BL, ZONES.inside(predictions.probabilities_BL))


def test_a_model_without_zones_has_no_such_entry_and_loads(bundle, tiny_model, tmp_path):
    assert "zones" not in json.loads((tiny_model / files.DECISIONS).read_text())
    assert bundle.zones is None
    assert load_model(tiny_model).predictor.predict(["thanks"]).uncertain_BL is None
    save_bundle(bundle, tmp_path / "again")
    assert (tmp_path / "again" / files.DECISIONS).read_bytes() == (tiny_model / files.DECISIONS).read_bytes()


@pytest.mark.parametrize("labels", [["refund", "praise", "delivery"], ["refund", "delivery", "other"]])
def test_zones_of_other_labels_are_refused_even_with_right_hashes(saved, labels):
    folder = with_decisions(saved, lambda content: content["zones"].update(labels=labels))
    with pytest.raises(BundleError, match=r"B412 .*zones of other labels"):
        load_bundle(folder)


@pytest.mark.parametrize(
    "damage",
    [{"low": [0.1, 0.2]}, {"high": [0.7, 0.1, 0.3]}, {"low": [0.1, None, 0.3]}, {"reasons": [1, 2, 3]}],
)
def test_damaged_zones_are_refused_even_with_right_hashes(saved, damage):
    folder = with_decisions(saved, lambda content: content["zones"].update(damage))
    with pytest.raises(BundleError) as refused:
        load_bundle(folder)
    (finding,) = refused.value.findings
    assert (finding.code, finding.place) == ("B453", "zones")
    assert finding.allowed
    assert finding.next_step


def test_zones_that_are_no_mapping_are_refused(saved):
    folder = with_decisions(saved, lambda content: content.update(zones=[1, 2]))
    with pytest.raises(BundleError, match="B453"):
        load_bundle(folder)


def test_the_card_names_the_zones(saved, tiny_model):
    card = (saved / files.CARD).read_text()
    assert "## Zones for a human" in card
    assert "| refund | 0.1000 | 0.7000 |  |" in card
    assert f"| delivery | 0.2000 | above 1 | {NOTES[1]} |" in card
    assert "| praise | none | none | unjudged: 2 positive rows |" in card
    assert "Zones for a human" not in (tiny_model / files.CARD).read_text()


def test_the_card_says_what_thresholds_aim_at(bundle):
    reasons = ("too few", None, None)
    goals, notes = (None, "recall=0.9", "f1"), (None, "guaranteed: a|b", None)
    thresholds = replace(bundle.thresholds, reasons=reasons, goals=goals, notes=notes)
    card = model_card(replace(bundle, thresholds=thresholds))
    assert "| unjudged: too few |" in card
    assert "| goal recall=0.9; guaranteed: a\\|b |" in card
    assert "| goal f1 |" in card
    plain = model_card(replace(bundle, thresholds=replace(thresholds, goals=None, notes=None)))
    assert "| unjudged: too few |" in plain
    assert "goal recall" not in plain


def test_the_card_says_why_there_are_no_figures(bundle):
    assert "No test rows were given." in model_card(replace(bundle, evaluation=None))
    facts = bundle.provenance.model_copy(
        update={"training": {**bundle.provenance.training, GOAL_FITTED: "f1"}}
    )
    refitted = model_card(replace(bundle, evaluation=None, provenance=facts))
    assert "The thresholds were chosen anew after the test; `manylabel evaluate` gives figures." in refitted
    assert "No test rows were given." not in refitted


def test_the_card_says_once_why_a_label_is_unjudged(bundle):
    reason = "2 positive rows, at least 5 needed"
    thresholds = replace(
        bundle.thresholds,
        judged_L=np.array([True, True, False]),
        reasons=(None, None, reason),
        goals=("f1", "f1", None),
        notes=(None, "chosen by hand", f"not guaranteed: {reason}"),
    )
    zones = replace(ZONES, reasons=(None, None, reason), notes=(None, None, f"not guaranteed: {reason}"))
    card = model_card(replace(bundle, thresholds=thresholds, zones=zones))
    assert card.count(reason) == 2  # In the table of thresholds and in that of zones.
    assert card.count(f"unjudged: {reason}; not guaranteed |") == 2
    assert "goal f1; chosen by hand |" in card
