"""`manylabel verify`: is a saved model whole, and does it still give its recorded probabilities?"""

from __future__ import annotations

from manylabel.cli.arguments import AsJson, Debug, Model, Quiet
from manylabel.cli.show import print_json, result_console


def command(
    model: Model,
    *,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Check every file's hash and the golden probes; exit code 1 and the file's name where one does not hold."""
    from manylabel.bundle.manifest import read_manifest
    from manylabel.inference.load import load_model

    loaded = load_model(model)
    num_files = len(read_manifest(model).files)
    if as_json:
        print_json({"verified": True, "files": num_files, "probe_difference": loaded.probe_difference})
    elif not quiet:
        result_console().print(
            f"{model}: {num_files} files intact, golden probes reproduced to {loaded.probe_difference:.1e}."
        )
