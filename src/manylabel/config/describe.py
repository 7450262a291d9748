"""The settings as a table, read from the schema: for error messages, `--help` and docs/reference.

Called by `load`, the command line and `make docs`; nothing here repeats what `schema` says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from manylabel.config.schema import RunSettings, Settings

TYPE_NAMES = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    tuple: "list of texts",
}


@dataclass(frozen=True)
class SettingDescription:
    """One setting: its dotted path, its type and limits in words, its default as written in YAML."""

    path: str
    type: str
    default: str
    limits: str
    description: str

    @property
    def allowed(self) -> str:
        """Type and limits as one phrase, for example `whole number, at least 1, at most 1000`."""
        return f"{self.type}, {self.limits}" if self.limits else self.type


def setting_fields() -> dict[str, FieldInfo]:
    """The schema's field of each dotted path, in the order of the schema."""
    return {
        f"{section}.{name}": field
        for section, model in settings_sections().items()
        for name, field in model.model_fields.items()
    }


def settings_sections() -> dict[str, type[Settings]]:
    """The sections of a run's settings by name."""
    return {
        name: field.annotation
        for name, field in RunSettings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings)
    }


def settings_table() -> list[SettingDescription]:
    """Every setting, in the order of the schema."""
    return [
        SettingDescription(
            path=path,
            type=_type_in_words(field),
            default=default_in_words(field.default),
            limits=", ".join(_limits(field)),
            description=field.description or "",
        )
        for path, field in setting_fields().items()
    ]


def settings_markdown() -> str:
    """The page docs/reference/settings.md."""
    lines = [
        "# Settings",
        "",
        "Written by `make docs` from `src/manylabel/config/schema.py`; change it there.",
        "Give them in a file (`--config run.yaml`) or one by one (`--set training.epochs=3`, which wins).",
    ]
    table = settings_table()
    for name, model in settings_sections().items():
        lines += ["", f"## {name}", "", f"{(model.__doc__ or '').strip()}", ""]
        lines += ["| setting | allowed | default | what it does |", "|---|---|---|---|"]
        for setting in table:
            if setting.path.startswith(f"{name}."):
                cells = (f"`{setting.path}`", setting.allowed, setting.default, setting.description)
                lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def settings_json_schema() -> str:
    """JSON schema of a settings file, for editors that complete and check YAML."""
    return json.dumps(RunSettings.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def write_reference(folder: str | Path) -> None:
    """Write settings.md and settings.schema.json into `folder`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.md").write_text(settings_markdown(), encoding="utf-8")
    (folder / "settings.schema.json").write_text(settings_json_schema(), encoding="utf-8")


def value_type(field: FieldInfo) -> Any:  # noqa: ANN401 - a type, a Literal or a generic alias
    """The field's annotation without `| None`."""
    if get_origin(field.annotation) in (Union, UnionType):
        return next(part for part in get_args(field.annotation) if part is not NoneType)
    return field.annotation


def default_in_words(default: object) -> str:
    """A default as YAML writes it; `not set` for None."""
    if default is None:
        return "not set"
    return str(default).lower() if isinstance(default, bool) else str(default)


def _type_in_words(field: FieldInfo) -> str:
    annotation = value_type(field)
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(map(str, get_args(annotation)))
    return TYPE_NAMES[get_origin(annotation) or annotation]


def _limits(field: FieldInfo) -> Iterator[str]:
    for limit in field.metadata:
        match limit:
            case annotated_types.Ge():
                yield f"at least {limit.ge}"
            case annotated_types.Gt():
                yield f"above {limit.gt}"
            case annotated_types.Le():
                yield f"at most {limit.le}"
            case annotated_types.Lt():
                yield f"below {limit.lt}"
            case annotated_types.MinLen():
                yield f"length at least {limit.min_length}"
            case annotated_types.MaxLen():
                yield f"length at most {limit.max_length}"
