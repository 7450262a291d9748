"""The measures of a BERT-like encoder, read from a transformers `config.json`.

Called by `classifier.build_classifier` and `weights/`; everything that cannot be computed exactly is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from manylabel.errors import EncoderError, Finding

Layout = Literal["bert", "roberta", "xlm-roberta"]

PACKED_LAYOUTS: tuple[Layout, ...] = ("bert", "roberta", "xlm-roberta")
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")
PLACE = "config.json"

REQUIRED_COUNTS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "max_positions": "max_position_embeddings",
}
"""Our field -> the key of config.json; each a positive integer."""

REFUSED_FLAGS = ("is_decoder", "add_cross_attention", "is_encoder_decoder")


@dataclass(frozen=True)
class EncoderShape:
    """Sizes and constants that decide every tensor of the encoder.

    `max_positions` counts the rows of the position table. `pad_id` matters only because RoBERTa counts positions
    from `pad_id + 1`.
    """

    layout: Layout
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    max_positions: int
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    activation: str = "gelu"
    pad_id: int = 0

    @property
    def position_offset(self) -> int:
        """Row of the position table that the first token of a text uses."""
        return 0 if self.layout == "bert" else self.pad_id + 1

    @property
    def max_tokens(self) -> int:
        """Longest text in tokens, special tokens included."""
        return self.max_positions - self.position_offset

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads


def from_config(config: Mapping[str, object]) -> EncoderShape:
    """The shape that a transformers `config.json` describes.

    Raises `EncoderError` with all findings at once when the configuration asks for something else than an encoder
    with absolute positions, or when a size is missing or impossible.
    """
    findings = [*_refused_features(config), *_bad_sizes(config)]
    if findings:
        raise EncoderError(*findings)
    layout = cast(Layout, config["model_type"])
    counts = {field: cast(int, config[key]) for field, key in REQUIRED_COUNTS.items()}
    pad_id = config.get("pad_token_id")
    return EncoderShape(
        layout=layout,
        type_vocab_size=cast(int, config.get("type_vocab_size", 2)),
        layer_norm_eps=cast(float, config.get("layer_norm_eps", 1e-12)),
        activation=cast(str, config.get("hidden_act", "gelu")),
        pad_id=cast(int, pad_id) if pad_id is not None else int(layout != "bert"),
        **counts,
    )


def _refused_features(config: Mapping[str, object]) -> list[Finding]:
    findings = []
    if config.get("model_type") not in PACKED_LAYOUTS:
        findings.append(_finding("E101", "model_type", config.get("model_type"), ", ".join(PACKED_LAYOUTS)))
    positions = config.get("position_embedding_type") or "absolute"
    if positions != "absolute":
        findings.append(_finding("E102", "position_embedding_type", positions, "absolute"))
    findings += [_finding("E103", flag, True, "false") for flag in REFUSED_FLAGS if config.get(flag)]
    activation = config.get("hidden_act", "gelu")
    if activation not in ACTIVATIONS:
        findings.append(_finding("E104", "hidden_act", activation, ", ".join(ACTIVATIONS)))
    return findings


def _bad_sizes(config: Mapping[str, object]) -> list[Finding]:
    findings = [
        _finding("E105", key, config.get(key), "a positive integer")
        for key in (*REQUIRED_COUNTS.values(), "type_vocab_size")
        if not _is_count(config.get(key, 2 if key == "type_vocab_size" else None))
    ]
    pad_id = config.get("pad_token_id")
    if pad_id is not None and (not isinstance(pad_id, int) or isinstance(pad_id, bool) or pad_id < 0):
        findings.append(_finding("E105", "pad_token_id", pad_id, "a non-negative integer"))
    eps = config.get("layer_norm_eps", 1e-12)
    if not isinstance(eps, float) or not 0.0 < eps < 1.0:
        findings.append(_finding("E105", "layer_norm_eps", eps, "a number above 0 and below 1"))
    if not findings and cast(int, config["hidden_size"]) % cast(int, config["num_attention_heads"]):
        allowed = f"a divisor of hidden_size {config['hidden_size']}"
        findings.append(_finding("E106", "num_attention_heads", config["num_attention_heads"], allowed))
    return findings


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _finding(code: str, key: str, value: object, allowed: str) -> Finding:
    shown = repr(value) if isinstance(value, (bool, int, float, str, type(None))) else type(value).__name__
    return Finding(
        code=code,
        place=f'{PLACE}, "{key}"',
        found=f"{shown} cannot be used",
        allowed=allowed,
        next_step="choose another encoder, or --encoder default",
    )
