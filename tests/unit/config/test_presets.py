"""Presets: what they set, what stands above them, and that ULMFiT's is the paper's."""

import json
import math
from pathlib import Path

import pytest

from manylabel.cli.arguments import settings_from
from manylabel.cli.commands.settings import command as settings_command
from manylabel.config.describe import default_in_words, settings_table
from manylabel.config.load import dump_settings, load_settings
from manylabel.config.presets import PRESETS, find_preset, one_preset
from manylabel.config.schema import RunSettings
from manylabel.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parents[3]
NAMES = sorted(PRESETS)


def flat(settings):
    return {
        f"{section}.{name}": value
        for section, values in settings.model_dump().items()
        for name, value in values.items()
    }


@pytest.fixture
def write(tmp_path):
    def write(text: str):
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_sets_what_it_lists_and_nothing_else(name):
    assert flat(load_settings(None, preset=name)) == {**flat(RunSettings()), **PRESETS[name].values}


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_names_no_encoder_because_that_could_be_a_download(name):
    assert "model.encoder" not in PRESETS[name].values


def test_the_file_stands_above_the_preset_then_set_then_flags(write):
    path = write("training:\n  epochs: 5\n  batch_size: 5\n  warmup: 0.5\n")
    overrides = ["training.batch_size=6", "training.warmup=0.6"]
    settings = load_settings(path, overrides, typed={"training.warmup": 0.7}, preset="article")
    training = settings.training
    assert (training.epochs, training.batch_size, training.warmup) == (5, 6, 0.7)
    assert (training.learning_rate, settings.model.head) == (3e-5, "cls")


def test_a_setting_taken_back_to_its_default_stays_there(write):
    assert (
        load_settings(None, ["training.learning_rate=null"], preset="article").training.learning_rate is None
    )
    path = write("training:\n  learning_rate:\n")
    assert load_settings(path, preset="article").training.learning_rate is None


@pytest.mark.parametrize(
    ("given", "meant"), [("ulmfitt", "ulmfit"), ("Article", "article"), ("ULMFiT", "ulmfit")]
)
def test_an_unknown_preset_is_one_sentence_with_the_names(given, meant):
    with pytest.raises(ConfigError) as caught:
        load_settings(None, preset=given)
    (finding,) = caught.value.findings
    assert (finding.code, finding.allowed, finding.next_step) == (
        "C207",
        "article, ulmfit",
        f"did you mean {meant}",
    )
    assert "\n" not in str(caught.value)


def test_an_unknown_preset_is_reported_with_the_other_problems():
    with pytest.raises(ConfigError) as caught:
        load_settings(None, ["training.epochs=0", "nothing=1"], preset="bert")
    assert sorted(finding.code for finding in caught.value.findings) == ["C204", "C205", "C207"]


def test_a_long_name_is_cut():
    with pytest.raises(ConfigError) as caught:
        find_preset("x" * 500)
    assert len(str(caught.value)) < 300


def test_a_value_that_the_preset_brings_into_conflict_is_blamed_on_its_own_place():
    with pytest.raises(ConfigError, match=r"--set training\.warmup=3: training\.warmup is 3"):
        load_settings(None, ["training.warmup=3"], preset="ulmfit")


def test_two_presets_contradict_each_other_and_one_twice_does_not():
    with pytest.raises(
        ConfigError, match="C208 --preset: ulmfit and article contradict each other"
    ) as caught:
        one_preset(["ulmfit", "article"])
    assert caught.value.findings[0].allowed == "one of article, ulmfit"
    assert one_preset(["article", "article"]) == "article"
    assert one_preset([]) is None
    with pytest.raises(ConfigError, match="C208"):
        settings_from(None, None, {}, presets=["article", "ulmfit"])
    assert settings_from(None, None, {}, presets=["ulmfit"]) == load_settings(None, preset="ulmfit")


@pytest.mark.parametrize("name", NAMES)
def test_resolved_settings_load_back_and_take_the_same_preset(name, write):
    settings = load_settings(None, ["training.seed=9"], preset=name)
    path = write(dump_settings(settings))
    assert load_settings(path) == settings
    assert load_settings(path, preset=name) == settings


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_of_which_nothing_is_left_is_refused(name, write):
    path = write(dump_settings(RunSettings()))
    with pytest.raises(ConfigError) as caught:
        load_settings(path, preset=name)
    (finding,) = caught.value.findings
    differing = [
        dotted for dotted, value in PRESETS[name].values.items() if flat(RunSettings())[dotted] != value
    ]
    assert finding.code == "C209"
    assert all(dotted in finding.found for dotted in differing)
    assert "article, ulmfit" in finding.allowed


def test_the_example_file_is_the_preset_with_its_encoder():
    encoder = {"model.encoder": "bert-base-uncased"}
    from_file = load_settings(REPOSITORY / "examples" / "article.yaml")
    assert from_file == load_settings(None, typed=encoder, preset="article")


@pytest.mark.parametrize("name", NAMES)
def test_the_page_lists_what_a_preset_sets(name):
    page = (REPOSITORY / "docs" / "presets.md").read_text("utf-8")
    section = page.split(f"## `{name}`")[1].split("\n## ")[0]
    defaults = {one.path: one.default for one in settings_table()}
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert rows == [
        f"| `{choice.path}` | {default_in_words(choice.value)} | {defaults[choice.path]} | {choice.source} |"
        for choice in PRESETS[name].choices
    ]
    assert all(f"- {sentence}" in section.splitlines() for sentence in PRESETS[name].left_out)


def test_ulmfit_divides_the_rate_by_2_6_from_layer_to_layer():
    from manylabel.training.freezing import rate_factor

    training = load_settings(None, preset="ulmfit").training
    # Three layers as in the paper's LSTM, embeddings below them.
    factors = [rate_factor(depth, 3, training) for depth in (3, 2, 1, 0)]
    assert factors == pytest.approx([1.0, 1 / 2.6, 1 / 6.76, 1 / 17.576])


def test_ulmfit_falls_as_the_slanted_triangle_of_the_paper():
    from manylabel.training.schedule import rate_multiplier

    training = load_settings(None, preset="ulmfit").training
    num_steps, cut_fraction, ratio = 1000, 0.1, 32
    cut = math.floor(num_steps * cut_fraction)
    for step in (cut, cut + 1, 400, 999):
        p = 1 - (step - cut) / (cut * (1 / cut_fraction - 1))  # Howard & Ruder 2018, equation 3
        ours = rate_multiplier(training.schedule, step, num_steps=num_steps, warmup=training.warmup)
        assert ours == pytest.approx((1 + p * (ratio - 1)) / ratio)


def test_ulmfit_lets_all_of_the_default_encoder_learn_in_its_last_epoch():
    from manylabel.training.freezing import is_asleep

    training = load_settings(None, preset="ulmfit").training
    num_layers, last = 6, training.epochs - 1
    assert [depth for depth in range(8) if is_asleep(depth, 0, num_layers, training)] == [*range(7)]
    assert is_asleep(0, last - 1, num_layers, training)
    assert not is_asleep(0, last, num_layers, training)


@pytest.mark.parametrize("name", NAMES)
def test_the_command_settings_shows_a_preset(name, capsys):
    settings_command(preset=[name])
    shown = capsys.readouterr().out
    assert all(
        f"{choice.path} = {default_in_words(choice.value)}" in shown for choice in PRESETS[name].choices
    )
    settings_command(preset=[name], as_json=True)
    assert dict(PRESETS[name].values).keys() == json.loads(capsys.readouterr().out)["settings"].keys()


def test_training_with_a_preset_records_the_resolved_settings(tmp_path, tiny_mails, tiny_encoder):
    from manylabel.recipes.train import Job, train_model
    from manylabel.training.observers import SilentObserver

    overrides = ["training.epochs=2", "text.max_length=32", "evaluation.resamples=0"]
    settings = load_settings(None, overrides, typed={"model.encoder": str(tiny_encoder)}, preset="ulmfit")
    train_model(Job(tiny_mails, tmp_path / "model"), settings=settings, observer=SilentObserver())
    recorded = load_settings(tmp_path / "model" / "settings.yaml").training
    assert recorded == settings.training
    assert (recorded.epochs, recorded.gradual_unfreezing, recorded.schedule) == (
        2,
        True,
        "slanted_triangular",
    )
