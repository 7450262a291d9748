"""Models that earlier versions saved: they load, and give the probabilities they gave then.

format1 was written by the code of manylabel 0.1.0 before there was calibration, format2 by the code after it, both with
torch 2.13.0 on a CPU in fp32: the tiny encoder of tests/conftest.py with 64 positions, trained by `train_tiny` (seed 1)
on `tiny_mails`, for format2 with `evaluation__resamples=0`; the report was left out for size. No command makes them
again: what they prove is that folders written by code that has since changed still load.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from manylabel.bundle import files
from manylabel.bundle.ensemble import NetworkModel
from manylabel.bundle.load import load_bundle
from manylabel.bundle.manifest import read_manifest
from manylabel.bundle.save import save_bundle
from manylabel.inference.load import load_model

BUNDLES = Path(__file__).parent / "bundles"
TEXTS = ["i was charged twice please return my money", "the parcel is late", "thanks you are great", ""]
PROBABILITIES = {
    "format1": [
        [0.40105534563062534, 0.42915981641760176, 0.38579103469389525],
        [0.3788296222133074, 0.4066064674668844, 0.36420107647965994],
        [0.3925194613015841, 0.39197024485080806, 0.3497844598120457],
        [0.42432468362850034, 0.4576276784324386, 0.36409055745993685],
    ],
    "format2": [
        [0.3884729781854917, 0.5731687184660964, 0.4233414614113336],
        [0.377778374301524, 0.5759718071152132, 0.41480808156224497],
        [0.36505080305741144, 0.5574225242460255, 0.3989804115123163],
        [0.3878788015891993, 0.5794948573339275, 0.41615809973513684],
    ],
}
DECISIONS = {
    "format1": [[0, 0, 1], [0, 0, 0], [0, 0, 0], [1, 1, 0]],
    "format2": [[1, 1, 1], [1, 1, 0], [0, 0, 0], [1, 1, 0]],
}
# Written anew from the values: the settings gain entries, the card other words, and the manifest has their hashes.
MAY_CHANGE = {files.SETTINGS, files.CARD, files.MANIFEST}


@pytest.mark.parametrize(("name", "version"), [("format1", 1), ("format2", 2)])
def test_a_stored_model_loads_and_gives_its_recorded_probabilities(name, version):
    folder = BUNDLES / name
    assert read_manifest(folder).format_version == version
    loaded = load_model(folder)
    assert loaded.probe_difference <= 1e-5
    assert isinstance(loaded.bundle.model, NetworkModel)
    predictions = loaded.predictor.predict(TEXTS)
    assert np.abs(predictions.probabilities_BL - PROBABILITIES[name]).max() < 1e-6
    assert predictions.decisions_BL.astype(int).tolist() == DECISIONS[name]


def test_one_network_is_saved_as_it_was(tmp_path):
    folder = BUNDLES / "format2"
    save_bundle(load_bundle(folder), tmp_path / "again")
    again = tmp_path / "again"
    assert {path.name for path in again.iterdir()} == {path.name for path in folder.iterdir()}
    for path in folder.iterdir():
        if path.name not in MAY_CHANGE:
            assert (again / path.name).read_bytes() == path.read_bytes(), path.name
    before, after = (json.loads((each / files.MANIFEST).read_text()) for each in (folder, again))
    assert after["format_version"] == 2
    for manifest in (before, after):
        del manifest["checksum"]
        for name in MAY_CHANGE:
            manifest["files"].pop(name, None)
    assert after == before
