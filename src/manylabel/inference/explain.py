"""Which words of a text move which label: attribution by one method, occlusion as a check; called by recipes.

Always in fp32 and on logits, so that the parts add up to something; probability, threshold and decision are those of
the predictor in fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import numpy.typing as npt
import torch

from manylabel.bundle.contents import Bundle
from manylabel.errors import Finding, UsageError
from manylabel.inference.backends.torch_backend import TorchBackend
from manylabel.inference.explanation import METHODS, Explanation, LabelExplanation, Measure, Method
from manylabel.inference.integrated_gradients import integrated_gradients
from manylabel.inference.load import build_predictor
from manylabel.inference.occlusion import Occlusion, occlude, rank_correlation
from manylabel.text.words import NO_WORD, TokenizedWords, tokenize_words
from manylabel.values import Predictions

FEWEST_STEPS, MOST_STEPS, DEFAULT_STEPS = 8, 4096, 64


@dataclass(frozen=True)
class ExplainOptions:
    """How to explain: empty `labels` are those the model decides, or the likeliest where it decides none."""

    labels: tuple[str, ...] = ()
    method: Method = "integrated-gradients"
    steps: int = DEFAULT_STEPS


def explain(
    bundle: Bundle,
    text: str,
    *,
    pair: str | None = None,
    options: ExplainOptions | None = None,
    member: str | None = None,
) -> Explanation:
    """Attribute the logits of some labels to the words of `text` (and of its pair, for a model of pairs).

    The same call gives the same numbers. Long texts are cut as in prediction. Of an ensemble one network can be
    explained, named by `member`. Raises UsageError for a label that the model does not have, a number of steps out of
    range, a missing or needless pair, an ensemble without `member`, or without captum.
    """
    options = options or ExplainOptions()
    bundle = bundle.of_network(member)
    check_options(options, bundle.labels)
    predictor = build_predictor(bundle, precision="fp32")
    predictions = predictor.predict([text], None if pair is None else [pair])
    columns = _columns(options.labels, predictions)
    words = tokenize_words(bundle.tokenizer, text, pair)
    occlusion = occlude(
        TorchBackend(bundle.classifier, dtype=torch.float32),
        words,
        token_budget=bundle.settings.inference.token_budget,
    )
    explained = []
    for column in columns:
        attributed = _attribute(bundle, words, occlusion, column, options)
        explained.append(
            LabelExplanation(
                name=bundle.labels[column],
                probability=float(predictions.probabilities_BL[0, column]),
                threshold=float(predictor.thresholds.values_L[column]),
                decided=bool(predictions.decisions_BL[0, column]),
                logit=float(occlusion.logits_L[column]),
                baseline_logit=float(occlusion.baseline_logits_L[column]),
                attributions_W=attributed.words_W,
                other_tokens=attributed.other_tokens,
                occlusion_W=occlusion.differences_WL[:, column],
                completeness_error=attributed.completeness_error,
                rank_correlation=attributed.rank_correlation,
            )
        )
    return Explanation(
        method=options.method,
        steps=options.steps if options.method == "integrated-gradients" else None,
        mask_token=words.mask_token,
        num_tokens=len(words.ids_T),
        truncated=words.truncated,
        words=words.words,
        labels=tuple(explained),
        member=member,
    )


def check_options(options: ExplainOptions, labels: Sequence[str]) -> None:
    """Raise UsageError with every option that does not fit the model's `labels`."""
    findings = [_unknown_label(name, labels) for name in options.labels if name not in labels]
    if options.method not in METHODS:
        findings.append(Finding("U263", "--method", f"{options.method!r}", ", ".join(METHODS)))
    if not FEWEST_STEPS <= options.steps <= MOST_STEPS:
        allowed = f"{FEWEST_STEPS} to {MOST_STEPS:,}"
        findings.append(Finding("U264", "--steps", f"{options.steps}", allowed))
    if findings:
        raise UsageError(*findings)


@dataclass(frozen=True, eq=False)
class _Attributed:
    """One label's attributions by the chosen method, and what they can be judged by."""

    words_W: npt.NDArray[np.float64]
    other_tokens: float
    completeness_error: float | None
    rank_correlation: Measure


def _attribute(
    bundle: Bundle, words: TokenizedWords, occlusion: Occlusion, column: int, options: ExplainOptions
) -> _Attributed:
    masked_W = occlusion.differences_WL[:, column]
    if options.method == "occlusion":
        return _Attributed(masked_W, 0.0, None, Measure(None, "occlusion is not compared with itself"))
    tokens_T = integrated_gradients(bundle.classifier, words, label=column, steps=options.steps)
    has_word_T = words.words_T != NO_WORD
    words_W = np.bincount(
        words.words_T[has_word_T], weights=tokens_T[has_word_T], minlength=len(words.words)
    ).astype(np.float64)
    change = float(occlusion.logits_L[column] - occlusion.baseline_logits_L[column])
    return _Attributed(
        words_W=words_W,
        other_tokens=float(tokens_T[~has_word_T].sum()),
        completeness_error=abs(float(tokens_T.sum()) - change),
        rank_correlation=rank_correlation(words_W, masked_W),
    )


def _columns(chosen: Sequence[str], predictions: Predictions) -> list[int]:
    """Columns of the labels to explain, each once and in the order asked for."""
    names = predictions.labels
    if chosen:
        return list(dict.fromkeys(names.index(name) for name in chosen))
    decided = np.flatnonzero(predictions.decisions_BL[0]).tolist()
    return decided or [int(predictions.probabilities_BL[0].argmax())]


def _unknown_label(name: str, labels: Sequence[str]) -> Finding:
    near = get_close_matches(name, labels, n=1)
    next_step = f"did you mean {near[0]!r}?" if near else "choose one of the model's labels"
    return Finding("U262", "--label", f"the model has no label {name!r}", ", ".join(labels), next_step)
