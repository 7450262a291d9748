import json

from manylabel.config.describe import settings_json_schema, settings_markdown, settings_table, write_reference


def test_a_setting_is_described_by_its_schema():
    described = {setting.path: setting for setting in settings_table()}
    rate = described["training.learning_rate"]
    assert (rate.type, rate.limits, rate.default) == ("number", "above 0.0, at most 1.0", "not set")
    assert rate.description.startswith("Peak rate of the encoder")
    assert described["model.head"].allowed == "one of mean, cls"
    assert described["data.label_columns"].type == "list of texts"
    assert described["data.header"].default == "not set"


def test_the_page_has_one_row_for_each_setting():
    rows = [line for line in settings_markdown().splitlines() if line.startswith("| `")]
    assert len(rows) == len(settings_table())
    assert all(row.replace("\\|", "").count("|") == 5 for row in rows)


def test_the_schema_refuses_unknown_names():
    assert json.loads(settings_json_schema())["$defs"]["TrainingSettings"]["additionalProperties"] is False


def test_the_reference_is_written_as_files(tmp_path):
    write_reference(tmp_path / "reference")
    assert (tmp_path / "reference" / "settings.md").read_text("utf-8") == settings_markdown()
