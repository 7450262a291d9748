"""Settings from presets, a YAML file and `section.name=value` overrides; called by the recipes and the command line.

Every problem of the file and the overrides is reported at once, with its place, what was found and what is
allowed. A resolved copy (`dump_settings`) is saved with every run.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_origin

import yaml
from pydantic import ValidationError

from manylabel.config.describe import setting_fields, settings_sections, settings_table, value_type
from manylabel.config.presets import find_preset, nothing_left
from manylabel.config.schema import DataSettings, RunSettings
from manylabel.errors import ConfigError, Finding

MAX_VALUE_SHOWN = 60
REFERENCE = "see docs/reference/settings.md"


@dataclass
class _Collected:
    """What was read so far: values by section, the place each came from, problems."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def load_settings(
    path: Path | None,
    overrides: Sequence[str] = (),
    *,
    typed: Mapping[str, object] | None = None,
    preset: str | None = None,
) -> RunSettings:
    """All settings of a run: the defaults, changed by the preset, the file, the overrides in their order, then `typed`.

    An override is `section.name=value` with the value as in YAML; lists may be written `a,b,c`. `typed` maps
    `section.name` to a value that is taken as it is. Raises ConfigError with one finding for each unknown name
    and each value that is not allowed, and for a preset of which nothing is left.
    """
    collected = _Collected()
    if path is not None:
        _read_file(path, collected)
    for override in overrides:
        _apply_override(override, collected)
    for dotted, value in (typed or {}).items():
        _apply_typed(dotted, value, collected)
    in_force = _lay_below(preset, collected) if preset is not None else True
    settings = _validate(collected)
    if settings is None or collected.findings:
        raise ConfigError(*collected.findings)
    if preset is not None and not in_force:
        _require_agreement(preset, settings)
    return settings


def load_data_settings(values: Mapping[str, object]) -> DataSettings:
    """How to read a file, from values by name, for example {"text_column": "body"}; ConfigError as `load_settings`."""
    return load_settings(None, typed={f"data.{name}": value for name, value in values.items()}).data


def dump_settings(settings: RunSettings) -> str:
    """The settings as YAML, defaults written out; `load_settings` reads the same settings back."""
    values = settings.model_dump(mode="json")
    readable = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    # PyYAML loses rare line ends such as U+0085 unless they are escaped.
    return readable if yaml.safe_load(readable) == values else yaml.safe_dump(values, sort_keys=False)


def _read_file(path: Path, collected: _Collected) -> None:
    """Put the file's values into `collected`; its problems become findings."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except OSError as error:
        collected.findings.append(
            Finding("C201", str(path), f"cannot be read: {error.strerror}", "a readable YAML file",
                    "check the path given with --config")
        )  # fmt: skip
        return
    except (ValueError, yaml.YAMLError) as error:  # ValueError: not UTF-8, or a date that does not exist
        collected.findings.append(
            Finding("C202", f"{path}{_line_of(error)}", "not valid YAML in UTF-8",
                    "lines as `training:` and, indented below, `epochs: 4`", "correct the line")
        )  # fmt: skip
        return
    if values is None:
        return
    if not isinstance(values, dict):
        collected.findings.append(
            Finding("C202", str(path), f"a {type(values).__name__} instead of sections",
                    f"the sections {', '.join(settings_sections())}", REFERENCE)
        )  # fmt: skip
        return
    for dotted, line, repeated in _keys_with_lines(node):
        place = f"{path}, line {line}"
        if repeated:
            collected.findings.append(
                Finding(
                    "C203", place, f"{dotted} is given a second time", "each name once", "delete one of them"
                )
            )
        collected.places[dotted] = place
    # A section whose lines are all commented out is empty, not wrong.
    collected.values = {str(name): {} if value is None else value for name, value in values.items()}


def _line_of(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f", line {mark.line + 1}" if mark is not None else ""


def _keys_with_lines(node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, int, bool]]:
    """Sections and names in them: dotted, with 1-based line, and whether it was there before."""
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        dotted = f"{prefix}{key.value}"
        yield dotted, key.start_mark.line + 1, dotted in seen
        seen.add(dotted)
        if not prefix:
            yield from _keys_with_lines(value, f"{dotted}.")


def _apply_override(override: str, collected: _Collected) -> None:
    """Set one value; a name that does not exist or a missing `=` becomes a finding."""
    dotted, equals, written = override.partition("=")
    dotted = dotted.strip()
    place = f"--set {_shown(override)}"
    fields = setting_fields()
    if not equals:
        collected.findings.append(
            Finding(
                "C206", place, "no = sign", "section.name=value", "write for example --set training.epochs=3"
            )
        )
    elif dotted not in fields:
        collected.findings.append(_unknown(dotted, place))
    else:
        section, _, name = dotted.partition(".")
        values = collected.values.setdefault(section, {})
        if not isinstance(values, dict):  # The file's section is wrong and is reported as such.
            return
        try:
            values[name] = _parse(written.strip(), value_type(fields[dotted]))
        except (ValueError, yaml.YAMLError):
            values[name] = written
        collected.places[dotted] = place


def _apply_typed(dotted: str, value: object, collected: _Collected) -> None:
    """Set one value as it is (a path as text); a name that does not exist becomes a finding."""
    place = f"setting {_shown(dotted)}"
    if dotted not in setting_fields():
        collected.findings.append(_unknown(dotted, place))
        return
    section, _, name = dotted.partition(".")
    values = collected.values.setdefault(section, {})
    if isinstance(values, dict):  # Else the file's section is wrong and is reported as such.
        values[name] = os.fspath(value) if isinstance(value, os.PathLike) else value
        collected.places[dotted] = place


def _lay_below(name: str, collected: _Collected) -> bool:
    """Add what the preset sets and nobody gave, so call it last; whether there was any. Unknown: a finding."""
    try:
        preset = find_preset(name)
    except ConfigError as error:
        collected.findings += error.findings
        return True
    added = False
    for dotted, value in preset.values.items():
        section, _, setting = dotted.partition(".")
        values = collected.values.setdefault(section, {})
        if isinstance(values, dict) and setting not in values:
            values[setting] = value
            collected.places[dotted] = f"--preset {name}"
            added = True
    return added


def _require_agreement(name: str, settings: RunSettings) -> None:
    """Raise ConfigError where the settings, which leave a preset nothing to set, differ from what it would set."""
    preset = find_preset(name)
    differing = []
    for dotted, value in preset.values.items():
        section, _, setting = dotted.partition(".")
        if getattr(getattr(settings, section), setting) != value:
            differing.append(dotted)
    if differing:
        raise ConfigError(nothing_left(preset, differing))


def _parse(written: str, annotation: Any) -> Any:  # noqa: ANN401 - any YAML value, any type of the schema
    """The value as YAML reads it, except that texts need no quotes and lists no brackets."""
    quoted = written[:1] in ("'", '"', "[")
    if written in ("", "null", "~"):
        return None
    if get_origin(annotation) is tuple and not quoted:
        return [part.strip() for part in written.split(",")]
    if (annotation is str or get_origin(annotation) is Literal) and not quoted:
        return written
    return yaml.safe_load(written)


def _validate(collected: _Collected) -> RunSettings | None:
    """The settings, or None with a finding for each problem."""
    fields = setting_fields()
    booleans = [
        f"{section}.{name}"
        for section, values in collected.values.items()
        if isinstance(values, dict)
        for name, value in values.items()
        # Pydantic would take `epochs: yes` as one epoch.
        if isinstance(value, bool) and f"{section}.{name}" in fields
        and value_type(fields[f"{section}.{name}"]) is not bool
    ]  # fmt: skip
    collected.findings += [_not_allowed(dotted, "true or false", collected) for dotted in booleans]
    try:
        return RunSettings.model_validate(collected.values)
    except ValidationError as error:
        reported = set(booleans)
        for problem in error.errors(include_url=False, include_context=False):
            dotted = ".".join(str(part) for part in problem["loc"][:2])
            if dotted in reported:  # A list may be wrong in several places.
                continue
            reported.add(dotted)
            if problem["type"] == "extra_forbidden":
                collected.findings.append(_unknown(dotted, collected.places.get(dotted, dotted)))
            else:
                collected.findings.append(_not_allowed(dotted, _shown(problem["input"]), collected))
    return None


def _not_allowed(dotted: str, found: str, collected: _Collected) -> Finding:
    place = collected.places.get(dotted, dotted)
    allowed = {setting.path: setting.allowed for setting in settings_table()}
    if dotted in settings_sections():
        return Finding("C205", place, f"{dotted} is {found}", "settings below it, indented", REFERENCE)
    return Finding("C205", place, f"{dotted} is {found}", allowed[dotted], "choose an allowed value")


def _unknown(dotted: str, place: str) -> Finding:
    """An unknown name, with the closest existing one."""
    known = list(setting_fields())
    section, _, name = dotted.rpartition(".")
    same_name = [path for path in known if path.split(".")[1] == name]
    close = same_name or difflib.get_close_matches(dotted, [*known, *settings_sections()], n=1, cutoff=0.6)
    if not close:
        names = {path.split(".")[1]: path for path in known}
        close = [names[match] for match in difflib.get_close_matches(name, names, n=1, cutoff=0.7)]
    siblings = [path for path in known if path.startswith(f"{section}.")] if section else []
    return Finding(
        "C204",
        place,
        f"there is no setting {_shown(dotted)}",
        ", ".join(siblings) or f"the sections {', '.join(settings_sections())}",
        f"did you mean {close[0]}" if close else REFERENCE,
    )


def _shown(value: object) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= MAX_VALUE_SHOWN else f"{text[:MAX_VALUE_SHOWN]}..."
