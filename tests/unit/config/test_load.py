import contextlib
from pathlib import PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manylabel.config.load import dump_settings, load_data_settings, load_settings
from manylabel.config.schema import DataSettings, RunSettings
from manylabel.errors import ConfigError


@pytest.fixture
def write(tmp_path):
    def write(text: str):
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def problems(path, *overrides):
    with pytest.raises(ConfigError) as caught:
        load_settings(path, overrides)
    return [(finding.code, finding.place, finding.found) for finding in caught.value.findings]


def test_nothing_given_is_the_defaults():
    assert load_settings(None) == RunSettings()


def test_overrides_win_over_the_file_and_the_last_one_wins(write):
    path = write("training:\n  epochs: 2\n  batch_size: 8\n")
    training = load_settings(path, ["training.epochs=3", "training.epochs=5"]).training
    assert (training.epochs, training.batch_size) == (5, 8)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.learning_rate=3e-5", 3e-5),
        ("training.learning_rate=null", None),
        ("data.header=no", False),
        ("data.text_column=2020", "2020"),
        ("data.text_column='2020'", "2020"),
        ("data.label_separator=|", "|"),
        ("data.label_separator=,", ","),
        (r'data.label_separator="\t"', "\t"),
        ("data.label_columns=a, b,c", ("a", "b", "c")),
        ("data.label_columns=['a, b', c]", ("a, b", "c")),
        ("text.normalization=none", "none"),
        ("model.encoder=folder/a=b", "folder/a=b"),
    ],
)
def test_an_override_is_read_by_the_type_of_its_setting(override, expected):
    section, _, name = override.partition("=")[0].partition(".")
    assert getattr(getattr(load_settings(None, [override]), section), name) == expected


def test_a_section_with_all_lines_commented_out_is_empty(write):
    assert load_settings(write("training:\n  # epochs: 2\n")) == RunSettings()


def test_all_problems_are_reported_at_once_with_their_lines(write):
    path = write("training:\n  epoch: 4\n  warmup: 3\nmodel:\n  head: max\ntext: 5\n")
    assert sorted(problems(path, "training.seed=x", "foo")) == sorted(
        [
            ("C204", f"{path}, line 2", "there is no setting training.epoch"),
            ("C205", f"{path}, line 3", "training.warmup is 3"),
            ("C205", f"{path}, line 5", "model.head is max"),
            ("C205", f"{path}, line 6", "text is 5"),
            ("C205", "--set training.seed=x", "training.seed is x"),
            ("C206", "--set foo", "no = sign"),
        ]
    )


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("training.epoch=1", "training.epochs"),
        ("epochs=1", "training.epochs"),
        ("training.max_length=64", "text.max_length"),
        ("trainig.batch_size=1", "training.batch_size"),
        ("lerning_rate=1", "training.learning_rate"),
    ],
)
def test_an_unknown_name_names_the_closest(override, meant):
    with pytest.raises(ConfigError, match=f"did you mean {meant}"):
        load_settings(None, [override])


def test_the_allowed_values_come_from_the_schema():
    with pytest.raises(ConfigError, match="whole number, at least 1, at most 1000"):
        load_settings(None, ["training.epochs=0"])


def test_a_key_given_twice_is_refused(write):
    path = write("training:\n  epochs: 2\n  epochs: 3\ntraining:\n  seed: 4\n")
    assert problems(path) == [
        ("C203", f"{path}, line 3", "training.epochs is given a second time"),
        ("C203", f"{path}, line 4", "training is given a second time"),
    ]


def test_yes_is_not_a_number(write):
    path = write("training:\n  epochs: yes\n")
    assert problems(path) == [("C205", f"{path}, line 2", "training.epochs is true or false")]


@pytest.mark.parametrize(
    "text", ["training: [", "training:\n\t- x", "a: 2020-13-45", "- a\n- b", "just text", "a: &x [*x"]
)
def test_a_file_that_is_not_sections_is_one_clear_problem(write, text):
    assert [code for code, _, _ in problems(write(text))] == ["C202"]


def test_a_missing_file_is_named(tmp_path):
    path = tmp_path / "no.yaml"
    assert problems(path) == [("C201", str(path), "cannot be read: No such file or directory")]


def test_bytes_that_are_not_utf_8_are_refused(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_bytes(b"model:\n  encoder: caf\xe9\n")
    assert [code for code, _, _ in problems(path)] == ["C202"]


@given(
    epochs=st.integers(1, 1000),
    rate=st.none() | st.floats(0, 1, exclude_min=True),
    separator=st.none() | st.text(min_size=1, max_size=3),
    columns=st.none() | st.lists(st.text()).map(tuple),
)
def test_dumped_settings_load_as_the_same(tmp_path_factory, epochs, rate, separator, columns):
    given_values = {
        "training": {"epochs": epochs, "learning_rate": rate},
        "data": {"label_separator": separator, "label_columns": columns},
    }
    settings = RunSettings.model_validate(given_values)
    path = tmp_path_factory.mktemp("dumped") / "run.yaml"
    path.write_text(dump_settings(settings), encoding="utf-8")
    assert load_settings(path) == settings


def test_typed_values_are_taken_as_they_are_and_win(write):
    typed = {
        "data.text_column": "\U0001f600 'text'",
        "data.label_columns": ["a, b", "null", "1"],
        "data.header": False,
        "training.epochs": 5,
        "training.learning_rate": None,
        "model.encoder": PurePath("folder") / "encoder",
    }
    settings = load_settings(write("training:\n  epochs: 2\n"), ["training.epochs=3"], typed=typed)
    assert settings.data.text_column == "\U0001f600 'text'"
    assert settings.data.label_columns == ("a, b", "null", "1")
    assert settings.data.header is False
    assert (settings.training.epochs, settings.training.learning_rate) == (5, None)
    assert settings.model.encoder == "folder/encoder"


def test_typed_values_are_checked_with_all_others():
    with pytest.raises(ConfigError) as caught:
        load_settings(
            None, ["split.seed=-1"], typed={"training.epoch": 1, "training.epochs": "x", "text": {"a": 1}}
        )
    assert [(finding.code, finding.place) for finding in caught.value.findings] == [
        ("C204", "setting training.epoch"),
        ("C204", "setting text"),
        ("C205", "--set split.seed=-1"),
        ("C205", "setting training.epochs"),
    ]


def test_data_settings_by_name():
    assert load_data_settings({}) == DataSettings()
    assert load_data_settings({"text_column": "body", "label_columns": ["a"]}) == DataSettings(
        text_column="body", label_columns=("a",)
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"label_separator": "abcd"}, "data.label_separator is abcd.*length at most 3"),
        ({"text_colum": "body"}, "did you mean data.text_column"),
        ({"label_columns": "a,b"}, "list of texts"),
    ],
)
def test_data_settings_are_refused_in_words(values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_data_settings(values)
    assert caught.value.exit_code == 2


@given(st.text())
def test_any_override_is_accepted_or_a_config_error(override):
    with contextlib.suppress(ConfigError):
        load_settings(None, [override, f"training.epochs={override}", f"data.label_columns={override}"])
