"""The decoders that llama.cpp knows and we can say: settings of their metadata, names of their tensors.

`llama` stands for Llama, Mistral without a window and Qwen2: it takes biases wherever there are some. Scalings of
rotary positions are written as a factor for each frequency, so that every kind is the same there.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from clearhead.bundle.exchange.architecture import Architecture
from clearhead.bundle.exchange.architectures.rope import ROTARY_PAIRS
from clearhead.bundle.exchange.engines.shape import ONLY_TRAINING, Says, says
from clearhead.bundle.exchange.rules import Free, Rule, fixed
from clearhead.bundle.exchange.tensors import Entry, linear, one, projections
from clearhead.core.errors import BundleError
from clearhead.core.registry import Registry
from clearhead.model import ModelConfig
from clearhead.model.position.scaling import SCALINGS, Scaling

BLOCK, OURS = "blk.{layer}", "decoder.blocks.{layer}"

COMMON: tuple[Rule, ...] = (
    *ONLY_TRAINING,
    *fixed({"encoder_layers": 0, "residual.kind": "pre", "scale_embedding": False, "head.kind": "lm"}),
    *fixed({"attention.kind": "dot", "embedding.kind": "table", "stack.kind": "transformer"}),
    Free(dict.fromkeys(("source_vocab", "target_vocab", "pad", "tie", "layer_groups", "shared"))),
    says("block_count", "decoder_layers"),
    says("embedding_length", "d_model"),
    says("feed_forward_length", "d_ff"),
    says("context_length", "length"),
    says("attention.head_count", "heads"),
)


class Shape(Architecture):
    """One architecture of llama.cpp, under its own name."""


SHAPES: Registry[Shape] = Registry("architecture of llama.cpp")


def _rotary(ours: Mapping[str, Any]) -> dict[str, Any]:
    if ours["position.fraction"] != 1:
        raise BundleError("position.fraction must be 1", found=ours["position.fraction"])
    amplitude = _scaling(ours["position.scaling"], ours["position.base"]).amplitude
    words = {"rope.freq_base": ours["position.base"], "rope.dimension_count": ours["d_head"]}
    return words | ({} if amplitude == 1 else {"rope.scaling.attn_factor": amplitude})


def _scaling(choice: Any, base: float) -> Scaling:
    return SCALINGS.build(choice, base)


@SHAPES.register("llama")
class Llama(Shape):
    """RMS norms, rotary positions in pairs of neighbours, a gated network."""

    rules = (
        *COMMON,
        *fixed({"norm.kind": "rmsnorm", "position.kind": "rope", "feedforward.kind": "swiglu"}),
        Free(dict.fromkeys(("bias", "qkv_bias", "feedforward.two_thirds", "feedforward.multiple"))),
        says("attention.layer_norm_rms_epsilon", "norm.epsilon"),
        says("attention.head_count_kv", "kv_heads"),
        says("attention.key_length", "d_head"),
        says("attention.value_length", "d_head"),
        Says(("position.base", "position.fraction", "position.scaling", "position.layout"), _rotary),
    )
    tensors = (
        one("token_embd.weight", "decoder.embedding.table"),
        *linear(f"{BLOCK}.attn_norm", f"{OURS}.attention_residual.norm"),
        *projections(f"{BLOCK}.attn_*", "qkv", f"{OURS}.attention.projections", ROTARY_PAIRS),
        *linear(f"{BLOCK}.attn_output", f"{OURS}.attention.output"),
        *linear(f"{BLOCK}.ffn_norm", f"{OURS}.feedforward_residual.norm"),
        *linear(f"{BLOCK}.ffn_gate", f"{OURS}.feedforward.gate"),
        *linear(f"{BLOCK}.ffn_up", f"{OURS}.feedforward.inner"),
        *linear(f"{BLOCK}.ffn_down", f"{OURS}.feedforward.outer"),
        *linear("output_norm", "decoder.last"),
    )

    def entries(self, config: ModelConfig) -> tuple[Entry, ...]:
        return (*self.tensors, *_output(config))

    def constants(self, config: ModelConfig) -> dict[str, Tensor]:
        """Factors of the frequencies, where they are not all 1."""
        options = config.position.options
        base, d_head = options.get("base", 10_000.0), config.sizes.d_head
        if "scaling" not in options or options["scaling"].kind == "none":
            return {}
        plain = base ** (-torch.arange(0, d_head, 2, dtype=torch.float64) / d_head)  # (d_head / 2,)
        return {"rope_freqs.weight": (plain / _scaling(options["scaling"], base)(plain)).float()}


@SHAPES.register("gpt2")
class Gpt2(Shape):
    """Layer norms, learned positions, biases everywhere."""

    rules = (
        *COMMON,
        *fixed({"norm.kind": "layernorm", "position.kind": "learned", "position.offset": 0}),
        *fixed({"feedforward.kind": "gelu_tanh", "bias": True, "qkv_bias": True}),
        says("attention.layer_norm_epsilon", "norm.epsilon"),
    )
    tensors = (
        one("token_embd.weight", "decoder.embedding.table"),
        one("position_embd.weight", "decoder.embedding_sum.position.table"),
        *linear(f"{BLOCK}.attn_norm", f"{OURS}.attention_residual.norm"),
        *linear(f"{BLOCK}.attn_qkv", f"{OURS}.attention.projections"),
        *linear(f"{BLOCK}.attn_output", f"{OURS}.attention.output"),
        *linear(f"{BLOCK}.ffn_norm", f"{OURS}.feedforward_residual.norm"),
        *linear(f"{BLOCK}.ffn_up", f"{OURS}.feedforward.inner"),
        *linear(f"{BLOCK}.ffn_down", f"{OURS}.feedforward.outer"),
        *linear("output_norm", "decoder.last"),
    )

    def entries(self, config: ModelConfig) -> tuple[Entry, ...]:
        return (*self.tensors, *_output(config))


def _output(config: ModelConfig) -> tuple[Entry, ...]:
    """The matrix of the output; without one it is the table."""
    return (one("output.weight", "head.matrix"),) if config.tie == "none" else ()
