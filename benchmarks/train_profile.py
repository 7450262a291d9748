"""Where our training step spends its time, by kind of work; called by train_speed.py --profile."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from safetensors.torch import load_file
from torch.profiler import ProfilerActivity, profile, record_function

from manylabel.config.schema import TrainingSettings
from manylabel.modeling.native import library as native
from manylabel.modeling.precision import Precision, choose_device
from manylabel.modeling.weights.hugging_face import load_classifier, read_config
from manylabel.recipes.prepare import choose_rates
from manylabel.training.examples import LabelledTexts
from manylabel.training.loop import Trainer
from manylabel.training.objectives import MultiLabelObjective
from manylabel.training.observers import Step, Validated
from train_sample import BATCH_SIZE, Sample, select

KINDS = (
    ("attention", r"kernel attend.*|(badd)?bmm|.*softmax.*|.*attention.*|.*flash.*"),
    ("matrix products", r"(add)?mm|addmm_|linear|matmul|mkldnn.*|.*gemm.*"),
    ("gelu", r"kernel gelu.*|gelu.*|erf|tanh.*"),
    ("layernorm", r"kernel (un)?join|native_layer_norm.*|layer_norm"),
    ("dropout", r"kernel draw_mask|.*dropout.*|random_|bernoulli_?|ge|native_dropout.*"),
    ("compiled", r".*fused_(?!adamw).*|.*CompiledF.*|Torch-Compiled.*"),
    (
        "optimizer",
        r"kernel chunk_squares|.*adam.*|.*Optimizer.*|_foreach_.*|linalg_vector_norm|norm|lerp_|addc.*_|sqrt"
        r"|reciprocal",
    ),
    ("embedding", r".*embedding.*|index_add_?|index_put_?|_index_put_impl_|scatter_add_?"),
    (
        "casts, copies, gathers",
        r"copy_|_to_copy|to|clone|contiguous|cat|stack|index_select|index|.*Memcpy.*",
    ),
    ("clearing, gradient sums", r"zero_|fill_|zeros.*|index_fill_?|add_|sum"),
    ("elementwise", r"add|mul_?|sub|div_?|where|.*elementwise.*"),
)
"""Kind -> names of operators without `aten::`; the first that fits. What fits none is the rest."""
OUTSIDE = "outside operators (Python, autograd, waiting)"
REST = "rest"


def kind_of(operator: str) -> str:
    """The kind of an operator of the profiler."""
    name = operator.removeprefix("aten::")
    return next((kind for kind, pattern in KINDS if re.fullmatch(pattern, name)), REST)


@contextmanager
def named_kernels() -> Iterator[None]:
    """Within the block the profiler sees each C++ kernel as an operator `kernel NAME`; PyTorch does not know them."""
    loaded = native._loaded()
    if loaded is None:
        yield
        return

    def named(name: str, function: Callable[..., object]) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            with record_function(f"kernel {name}"):
                function(*arguments)

        return call

    shown = replace(
        loaded,
        by_format={key: named(key[0], function) for key, function in loaded.by_format.items()},
        **{
            name: named(name, getattr(loaded, name))
            for name in ("attend", "attend_back", "chunk_squares", "adamw")
        },
    )
    with patch.object(native, "_loaded", lambda: shown):
        yield


class _ProfilingObserver:
    """Profiles whole epochs after the first; validations come between and are not timed."""

    def __init__(self, profiler: profile, epoch_steps: int, last_epoch: int) -> None:
        self._profiler, self._epoch_steps, self._last = profiler, epoch_steps, last_epoch * epoch_steps
        self._began = self.seconds = 0.0
        self.steps = 0

    def stage(self, text: str) -> None:
        """Ignore."""

    def step(self, step: Step) -> None:
        """End after the last step of the profiled epoch."""
        if step.step == self._last:
            self.seconds = time.perf_counter() - self._began
            self._profiler.stop()
            self.steps = self._epoch_steps

    def validated(self, result: Validated) -> None:
        """Begin after the validation before the profiled epoch."""
        if result.step == self._last - self._epoch_steps:
            self._profiler.start()
            self._began = time.perf_counter()


def profile_ours(folder: Path, sample: Sample, precision: Precision) -> dict[str, float]:
    """Milliseconds a step of each kind of work in our loop's second epoch over the sample, longest first."""
    num_texts = sample.num_texts
    texts = select(sample.encodings, np.arange(num_texts))
    on_gpu = torch.cuda.is_available()
    profiler = profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu)
    observer = _ProfilingObserver(profiler, len(sample.grouped), last_epoch=2)
    settings = TrainingSettings(epochs=2, batch_size=BATCH_SIZE, patience=0, precision=precision)
    classifier = load_classifier(
        read_config(folder),
        load_file(folder / "model.safetensors"),
        num_labels=sample.targets_NL.shape[1],
        head="cls",
        dropout=0.1,
    ).to(choose_device())
    trainer = Trainer(
        classifier,
        LabelledTexts(texts, sample.targets_NL[:num_texts], tuple(map(str, range(num_texts)))),
        objective=MultiLabelObjective(),
        settings=settings,
        rates=choose_rates(settings, classifier.encoder.hidden_size),
        observer=observer,
        should_stop=lambda: False,
    )
    with named_kernels():
        trainer.fit(lambda: None)
    return _by_kind(profiler, observer.seconds, observer.steps, on_gpu)


def _by_kind(profiler: profile, seconds: float, steps: int, on_gpu: bool) -> dict[str, float]:
    totals: dict[str, float] = {}
    for event in profiler.key_averages():
        microseconds = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        is_wrapper = "Backward" in event.key or "autograd::" in event.key
        kind = OUTSIDE if is_wrapper else kind_of(event.key)
        totals[kind] = totals.get(kind, 0.0) + microseconds / 1000 / steps
    wall = seconds * 1000 / steps
    totals[OUTSIDE] = totals.get(OUTSIDE, 0.0) + max(wall - sum(totals.values()), 0.0)
    return dict(sorted(totals.items(), key=lambda item: -item[1]))
