"""`manylabel settings`: every setting, from the one place where it is written, or those of a preset."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from manylabel.cli.arguments import AsJson, Debug, PresetOption, Quiet
from manylabel.cli.show import print_json, result_console


def command(
    *,
    preset: PresetOption = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """List every setting, or with --preset what that one sets; with --json as a JSON schema, or as JSON."""
    from manylabel.config.describe import settings_json_schema, settings_table

    if preset:
        _show_preset(preset, as_json=as_json)
        return
    if as_json:
        sys.stdout.write(settings_json_schema())
        return
    console = result_console()
    for one in settings_table():
        console.print(f"{one.path} = {one.default}  ({one.allowed})\n    {one.description}")


def _show_preset(names: Sequence[str], *, as_json: bool) -> None:
    """What the preset sets, what each would be without it, and what it leaves out of its source."""
    from manylabel.config.describe import default_in_words, settings_table
    from manylabel.config.presets import find_preset, one_preset

    name = one_preset(names)
    assert name is not None
    preset = find_preset(name)
    if as_json:
        settings, left_out = dict(preset.values), list(preset.left_out)
        print_json({"preset": name, "summary": preset.summary, "settings": settings, "left_out": left_out})
        return
    console = result_console()
    console.print(f"{preset.name}: {preset.summary}")
    defaults = {one.path: one.default for one in settings_table()}
    for choice in preset.choices:
        value, default = default_in_words(choice.value), defaults[choice.path]
        instead = "the default too" if value == default else f"default {default}"
        console.print(f"{choice.path} = {value}  ({instead})\n    {choice.source}")
    console.print("Not as in its source:")
    for sentence in preset.left_out:
        console.print(f"  {sentence}")
