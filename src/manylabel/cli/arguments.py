"""Parameters shared by the commands; the flags for files are made from the settings, where they are written once."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from manylabel.config.schema import DataSettings, RunSettings

Source = Annotated[
    Path, typer.Argument(help="CSV, TSV, JSONL or Parquet file, also .gz or .zst.", show_default=False)
]
Model = Annotated[Path, typer.Argument(help="Folder of a saved model.", show_default=False)]
Member = Annotated[
    str | None,
    typer.Option(
        "--member", metavar="NAME", help="Which network of an ensemble is meant.", show_default=False
    ),
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json", help="Print one JSON object and nothing else; where it fails, with error and findings."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only results and errors.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Change a setting, for example training.epochs=2; repeatable."
    ),
]
PrecisionOption = Annotated[
    Literal["auto", "fp32", "bf16"] | None,
    typer.Option(
        "--precision",
        help="fp32, bf16, or auto; by default the model's inference.precision, which is fp32 unless it was set.",
        show_default=False,
    ),
]
Resamples = Annotated[
    int | None,
    typer.Option(
        "--resamples",
        min=0,
        max=100_000,
        help="Bootstrap resamples for the intervals; 0 for none. By default evaluation.resamples of the model.",
        show_default=False,
    ),
]
PresetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="A named set of settings, below --config and --set: article or ulmfit; see docs/presets.md.",
        show_default=False,
    ),
]
Config = Annotated[Path | None, typer.Option("--config", help="YAML file with settings.", show_default=False)]


def with_file_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the parameter `data` of a command by one flag for each field of DataSettings.

    Only flags that were given reach the command, as the mapping `data`, so that a file's own settings stay in force.
    """
    own = [parameter for parameter in inspect.signature(command, eval_str=True).parameters.values()]
    flags = [_flag(name) for name in DataSettings.model_fields]

    def run(**values: Any) -> None:  # noqa: ANN401 - typer fills these
        given = {flag.name: values.pop(flag.name) for flag in flags}
        command(
            **values, data={name: _value(name, value) for name, value in given.items() if value is not None}
        )

    parameters = [parameter for parameter in own if parameter.name != "data"] + flags
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__doc__ = command.__doc__
    return run


def _flag(name: str) -> inspect.Parameter:
    """One keyword parameter; None when the user does not give it."""
    description = DataSettings.model_fields[name].description or ""
    if name == "header":
        option = typer.Option("--header/--no-header", help=description, show_default=False)
        annotation: Any = Annotated[bool | None, option]
    else:
        help_text = description + (" Separate several by commas." if _is_list(name) else "")
        annotation = Annotated[
            str | None, typer.Option(f"--{name.replace('_', '-')}", help=help_text, show_default=False)
        ]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _is_list(name: str) -> bool:
    annotation = DataSettings.model_fields[name].annotation
    members = get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return any(getattr(member, "__origin__", None) is tuple for member in members)


def _value(name: str, value: Any) -> Any:  # noqa: ANN401 - str, bool or tuple
    """A comma-separated list as a tuple; a typed backslash-t as a tab."""
    if _is_list(name):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value.replace("\\t", "\t") if name == "label_separator" else value


def settings_from(
    config: Path | None,
    overrides: list[str] | None,
    data: dict[str, Any],
    *,
    typed: dict[str, object] | None = None,
    presets: list[str] | None = None,
) -> RunSettings:
    """The settings of a run: the preset, the file, then `--set`, then the flags for files and others as `typed`."""
    from manylabel.config.load import load_settings
    from manylabel.config.presets import one_preset

    flags = {f"data.{name}": value for name, value in data.items()}
    typed = {**flags, **(typed or {})}
    return load_settings(config, overrides or (), typed=typed, preset=one_preset(presets or ()))
