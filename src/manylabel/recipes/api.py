"""The Python interface: fit, load, evaluate, and the model they give."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypedDict, Unpack

from manylabel.config.describe import setting_fields
from manylabel.config.load import load_data_settings, load_settings
from manylabel.config.schema import Precision
from manylabel.errors import Finding, UsageError
from manylabel.inference.explain import ExplainOptions, explain
from manylabel.inference.explanation import Explanation, Method
from manylabel.inference.load import LoadedModel, load_model
from manylabel.recipes.corpora import Source
from manylabel.recipes.evaluate import evaluate_model
from manylabel.recipes.train import Job, train_model
from manylabel.training.interrupt import StopRequest, stop_on_interrupt
from manylabel.training.observers import ConsoleObserver, Observer, Observers, SilentObserver
from manylabel.values import Predictions


class Model:
    """A trained, verified model; made by `fit` and `load`."""

    def __init__(self, path: Path, loaded: LoadedModel) -> None:
        """Wrap a loaded bundle."""
        self.path = path
        self._loaded = loaded

    def __repr__(self) -> str:
        """Folder and labels, as a notebook shows it."""
        return f"manylabel.Model({str(self.path)!r}, labels={list(self.labels)})"

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names in column order."""
        return self._loaded.bundle.labels

    @property
    def thresholds(self) -> dict[str, float]:
        """The probability from which each label is decided, in [0, 1]."""
        values_L = self._loaded.predictor.thresholds.values_L
        return dict(zip(self.labels, map(float, values_L), strict=True))

    @property
    def evaluation(self) -> Mapping[str, Any] | None:
        """The figures on the test rows at training time, in the form of `manylabel evaluate --json`."""
        return self._loaded.bundle.evaluation

    def predict(self, texts: Iterable[str], pairs: Iterable[str] | None = None) -> Predictions:
        """Probabilities and decisions of each text (with its pair, for a model of pairs), in order."""
        return self._loaded.predictor.predict(texts, pairs)

    def explain(
        self,
        text: str,
        pair: str | None = None,
        *,
        labels: Sequence[str] = (),
        method: Method = "integrated-gradients",
        steps: int = 64,
        member: str | None = None,
    ) -> Explanation:
        """Which words of one text move which label, always in fp32; see `inference.explain.explain`.

        `member` names the network of an ensemble that is meant.
        """
        options = ExplainOptions(tuple(labels), method, steps)
        return explain(self._loaded.bundle, text, pair=pair, options=options, member=member)

    def evaluate(self, source: Source, **columns: Any) -> dict[str, Any]:  # noqa: ANN401 - fields of DataSettings
        """The figures on `source` (as for `fit`), in the form of `manylabel evaluate --json`.

        `columns` are fields of DataSettings, for example text_column="body". Raises DataError.
        """
        options = load_data_settings(columns)
        result: dict[str, Any] = evaluate_model(
            self._loaded, source, options=options, observer=SilentObserver()
        ).to_json()
        return result


class OtherRows(TypedDict, total=False):
    """Rows of their own for a role, in any form that `fit` takes; what is not given is split off."""

    validation: Source
    """Chooses the epoch."""
    calibration: Source
    """Chooses calibration and thresholds; without it the validation rows do, where these were given."""
    test: Source
    """Chooses nothing; the model's figures are computed on it."""


def fit(
    source: Source,
    *,
    out: Path | str,
    settings: Mapping[str, Any] | None = None,
    preset: str | None = None,
    overwrite: bool = False,
    fresh: bool = False,
    quiet: bool = False,
    **others: Unpack[OtherRows],
) -> Model:
    """Train on `source` and save the model as the folder `out`.

    `source`, `validation`, `calibration` and `test` are paths, Arrow tables, pandas frames or (texts, labels), labels
    being a 0/1 matrix or a list of lists of names. What is not given is split off. `settings` maps names to values, for
    example {"training.epochs": 2}; they stand above those of a `preset` ("article" or "ulmfit"). An interruption
    (Ctrl-C) after the first step saves the state of the training in the folder OUT.run and raises TrainingStopped; the
    same call goes on from there, unless `fresh` discards it. Raises
    DataError, EncoderError, ConfigError, UsageError, TrainingError.
    """
    _check_names(others)
    resolved = load_settings(None, typed=settings, preset=preset)
    told: Observer = SilentObserver() if quiet else ConsoleObserver()
    # Only the main thread may handle signals; elsewhere an interruption reaches that thread alone.
    in_main_thread = threading.current_thread() is threading.main_thread()
    with stop_on_interrupt() if in_main_thread else nullcontext(StopRequest()) as should_stop:
        report = train_model(
            Job(source, Path(out), overwrite=overwrite, fresh=fresh, **others),
            settings=resolved,
            observer=Observers((should_stop, told)),
            should_stop=should_stop,
        )
    return load(report.folder)


def _check_names(others: Mapping[str, Any]) -> None:
    """Raise UsageError for every argument that `fit` does not have; a setting belongs into `settings`."""
    own = [name for name in inspect.signature(fit).parameters if name != "others"]
    allowed = [*own, *OtherRows.__annotations__]
    findings = []
    for name in sorted(others.keys() - set(allowed)):
        meant = [path for path in setting_fields() if path.split(".")[1] == name]
        next_step = f'write settings={{"{meant[0]}": ...}}' if meant else "see help(manylabel.fit)"
        found = f"there is no argument {name}"
        findings.append(Finding("U286", "manylabel.fit", found, ", ".join(allowed), next_step))
    if findings:
        raise UsageError(*findings)


def load(folder: Path | str, *, precision: Precision | None = None) -> Model:
    """The model in `folder`, every hash and golden probe verified; raises BundleError when one does not hold.

    `precision` is "fp32" (the default at training: the same numbers everywhere), "bf16" or "auto".
    """
    return Model(Path(folder), load_model(folder, precision=precision))


def evaluate(folder: Path | str, source: Source, **columns: Any) -> dict[str, Any]:  # noqa: ANN401
    """Load the model in `folder` and evaluate it on `source`; see `Model.evaluate`."""
    return load(folder).evaluate(source, **columns)
