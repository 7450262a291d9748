"""A new or changed setting is a deliberate act: it changes settings.txt and the reference page too."""

from pathlib import Path

import pytest

from manylabel.config.describe import settings_json_schema, settings_markdown, settings_table
from manylabel.config.load import load_settings

REPOSITORY = Path(__file__).resolve().parents[2]
FROZEN = Path(__file__).with_name("settings.txt")


def test_the_settings_are_those_of_the_frozen_list():
    now = [f"{setting.path} | {setting.allowed} | {setting.default}" for setting in settings_table()]
    assert now == FROZEN.read_text("utf-8").splitlines(), (
        f"a setting changed: change {FROZEN.name} and CHANGELOG.md"
    )


@pytest.mark.parametrize(
    ("name", "text"), [("settings.md", settings_markdown()), ("settings.schema.json", settings_json_schema())]
)
def test_the_reference_is_up_to_date(name, text):
    assert (REPOSITORY / "docs" / "reference" / name).read_text("utf-8") == text, "run `make docs`"


def test_every_setting_is_described():
    assert [setting.path for setting in settings_table() if not setting.description.endswith(".")] == []


@pytest.mark.parametrize("path", sorted((REPOSITORY / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_valid(path):
    load_settings(path)
