"""`manylabel settings`: every setting, from the one place where it is written."""

from __future__ import annotations

import sys

from manylabel.cli.arguments import AsJson, Debug, Quiet
from manylabel.cli.show import result_console


def command(
    *,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """List every setting; with --json as a JSON schema."""
    from manylabel.config.describe import settings_json_schema, settings_table

    if as_json:
        sys.stdout.write(settings_json_schema())
        return
    console = result_console()
    for one in settings_table():
        console.print(f"{one.path} = {one.default}  ({one.allowed})\n    {one.description}")
