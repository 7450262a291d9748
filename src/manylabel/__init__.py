"""Multi-label text classification with BERT: from a CSV to a model whose numbers can be believed.

    import manylabel
    model = manylabel.fit("mails.csv", out="model")
    model.predict(["where is my parcel?"])

The names below are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from manylabel.errors import ManylabelError
    from manylabel.recipes.api import Model, evaluate, fit, load
    from manylabel.values import Predictions

__version__ = "0.1.0"
__all__ = ["ManylabelError", "Model", "Predictions", "evaluate", "fit", "load"]

_HOMES = {
    "ManylabelError": "manylabel.errors",
    "Model": "manylabel.recipes.api",
    "Predictions": "manylabel.values",
    "evaluate": "manylabel.recipes.api",
    "fit": "manylabel.recipes.api",
    "load": "manylabel.recipes.api",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name not in _HOMES:
        raise AttributeError(f"module 'manylabel' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
