"""One fine-tuning without a model folder, its test figures: the step that recipes.py and adaptation.py repeat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from manylabel.config.schema import RunSettings
from manylabel.evaluation.evaluate import evaluate
from manylabel.inference.backends.torch_backend import TorchBackend
from manylabel.modeling.lora import add_lora, merge_lora
from manylabel.modeling.precision import resolve_precision
from manylabel.modeling.weights.locate import locate_encoder
from manylabel.recipes.corpora import Corpora
from manylabel.recipes.judge import decide_on, validation_score
from manylabel.recipes.prepare import (
    choose_rates,
    has_trained_pooler,
    new_classifier,
    predictor_of,
    tokenizer_for,
)
from manylabel.training.examples import LabelledTexts
from manylabel.training.head_start import start_head
from manylabel.training.loop import Trainer
from manylabel.training.objectives import build_objective
from manylabel.training.observers import SilentObserver
from manylabel.training.processes import Processes

FIGURES = ("average_precision", "roc_auc", "f1")


@dataclass(frozen=True, eq=False)
class FineTuned:
    """What a run leaves: macro figures and probabilities of the test rows, seconds and steps of training."""

    figures: dict[str, float]
    probabilities_NL: npt.NDArray[np.float32]
    seconds: float
    steps: int


def fine_tune(corpora: Corpora, settings: RunSettings, *, keep_pooler: bool | None = None) -> FineTuned:
    """Train and score as `manylabel train` does; `keep_pooler` None keeps a pooler that its maker says was trained."""
    processes, folder = Processes.alone(), locate_encoder(settings.model.encoder)
    classifier = new_classifier(folder, len(corpora.train.labels), settings, processes.device)
    tokenizer = tokenizer_for(folder, classifier, settings)
    data = LabelledTexts(tokenizer.encode(corpora.train.texts), corpora.train.targets_NL, corpora.train.ids)
    kept = has_trained_pooler(folder) if keep_pooler is None else keep_pooler
    seed = settings.training.seed
    start_head(classifier, data, seed=seed, keep_pooler=kept)
    if settings.lora.rank:
        generator = torch.Generator().manual_seed(seed)
        add_lora(classifier, settings.lora.rank, alpha=settings.lora.alpha, generator=generator)
    trainer = Trainer(
        classifier,
        data,
        objective=build_objective(settings.loss, data.targets_NL),
        settings=settings.training,
        rates=choose_rates(settings.training, classifier.encoder.hidden_size),
        observer=SilentObserver(),
        should_stop=lambda: False,
    )
    validate = validation_score(
        TorchBackend(classifier, dtype=resolve_precision("auto", processes.device)),
        tokenizer.encode(corpora.validation.texts),
        corpora.validation,
        token_budget=settings.inference.token_budget,
        processes=processes,
    )
    outcome = trainer.fit(validate)
    merge_lora(classifier)
    predictor = predictor_of(classifier, tokenizer, corpora, settings, precision="auto")
    predictor, _ = decide_on(predictor, corpora.calibration, settings)
    assert corpora.test is not None
    probabilities_NL = predictor.predict(corpora.test.texts).probabilities_BL
    macro = evaluate(corpora.test.targets_NL, probabilities_NL, predictor.thresholds).macro
    figures = {name: round(float(getattr(macro, name)), 5) for name in FIGURES}
    return FineTuned(figures, probabilities_NL, round(outcome.seconds, 1), outcome.steps)
