"""Llama and its kin: pre-norm decoders with RMS norms, rotary positions, gated networks and grouped heads.

Llama: Touvron et al., 2023, arXiv:2302.13971; Grattafiori et al., 2024, arXiv:2407.21783. Mistral: Jiang et al., 2023,
arXiv:2310.06825. Qwen2: Yang et al., 2024, arXiv:2407.10671.
"""

from collections.abc import Mapping
from typing import Any

from clearhead.bundle.exchange.architecture import ARCHITECTURES, Architecture, Headless
from clearhead.bundle.exchange.architectures.rope import ROPE, ROTARY_HALVES
from clearhead.bundle.exchange.architectures.words import GATED, PAD, TIES, VOCAB
from clearhead.bundle.exchange.rules import Custom, Field, Free, Needs, Rate, Rule, Theirs, fixed
from clearhead.bundle.exchange.tensors import linear, one, projections
from clearhead.core.errors import BundleError

BLOCK, OURS = "model.layers.{layer}", "decoder.blocks.{layer}"

BODY: tuple[Rule, ...] = fixed(
    {
        "encoder_layers": 0,
        "position.kind": "rope",
        "position.fraction": 1.0,
        "residual.kind": "pre",
        "norm.kind": "rmsnorm",
        "scale_embedding": False,
    }
)
SIZES: tuple[Rule, ...] = (
    *BODY,
    ROPE,
    Field("vocab_size", VOCAB, 32_000),
    Field("num_hidden_layers", "decoder_layers", 32),
    Field("hidden_size", "d_model", 4096),
    Field("num_attention_heads", "heads", 32),
    Field("max_position_embeddings", "length", 2048),
    Field("hidden_act", "feedforward.kind", "silu", codes=GATED),
    Field("rms_norm_eps", "norm.epsilon", 1e-6),
    PAD,
    Rate(("attention_dropout",), "attention_dropout", 0.0),
    Free({"dropout": 0.0, "feedforward_dropout": 0.0}),
)


TIE = Field("tie_word_embeddings", "tie", default=False, codes=TIES)
NO_HEAD = fixed({"tie": "output"})  # our logits are then products with the table; theirs has none


def heads(theirs: Theirs) -> int:
    """Key and value heads where the config names none."""
    return int(theirs["num_attention_heads"])


def _divisible(ours: Mapping[str, Any]) -> dict[str, Any]:
    """LlamaConfig refuses what its model could compute."""
    if ours["d_model"] % ours["heads"]:
        raise BundleError("heads must divide d_model", found=f"{ours['heads']} and {ours['d_model']}")
    return {}


def width(theirs: Theirs) -> int:
    """Features of a head where the config names none."""
    return int(theirs["hidden_size"] // theirs["num_attention_heads"])


def _qwen_window(theirs: Theirs) -> dict[str, int | None]:
    """A window holds from layer max_window_layers on; ours is for all layers."""
    if not theirs.get("use_sliding_window", False) or theirs.get("sliding_window", 4096) is None:
        return {"window": None}
    full, layers = theirs.get("max_window_layers", 28), theirs["num_hidden_layers"]
    if full >= layers:
        return {"window": None}
    if full > 0:
        raise BundleError("a window in some layers only has no counterpart", found=f"max_window_layers {full}")
    return {"window": theirs.get("sliding_window", 4096)}


def _qwen_words(ours: Mapping[str, Any]) -> dict[str, Any]:
    if ours["window"] is None:
        return {"use_sliding_window": False}
    return {"use_sliding_window": True, "sliding_window": ours["window"], "max_window_layers": 0}


LLAMA: tuple[Rule, ...] = (
    *SIZES,
    Needs({"pretraining_tp": 1}),
    Field("intermediate_size", "d_ff", 11_008),
    Field("num_key_value_heads", "kv_heads", heads),
    Field("head_dim", "d_head", width),
    Custom((), lambda theirs: {}, _divisible),
    Field(("attention_bias", "mlp_bias"), ("bias", "qkv_bias"), default=False),
)
MISTRAL: tuple[Rule, ...] = (
    *SIZES,
    *fixed({"bias": False, "qkv_bias": False}),
    Field("intermediate_size", "d_ff", 14_336),
    Field("num_key_value_heads", "kv_heads", 8),
    Field("head_dim", "d_head", width),
    Field("sliding_window", "window", 4096),
)
QWEN2: tuple[Rule, ...] = (
    *SIZES,
    *fixed({"bias": False, "qkv_bias": True}),
    Field("intermediate_size", "d_ff", 22_016),
    Field("num_key_value_heads", "kv_heads", 32),
    Custom(("window",), _qwen_window, _qwen_words),
)
TENSORS = (
    one("model.embed_tokens.weight", "decoder.embedding.table"),
    *linear(f"{BLOCK}.input_layernorm", f"{OURS}.attention_residual.norm"),
    *projections(f"{BLOCK}.self_attn.*_proj", "qkv", f"{OURS}.attention.projections", ROTARY_HALVES),
    *linear(f"{BLOCK}.self_attn.o_proj", f"{OURS}.attention.output"),
    *linear(f"{BLOCK}.post_attention_layernorm", f"{OURS}.feedforward_residual.norm"),
    *linear(f"{BLOCK}.mlp.gate_proj", f"{OURS}.feedforward.gate"),
    *linear(f"{BLOCK}.mlp.up_proj", f"{OURS}.feedforward.inner"),
    *linear(f"{BLOCK}.mlp.down_proj", f"{OURS}.feedforward.outer"),
    *linear("model.norm", "decoder.last"),
)


@ARCHITECTURES.register("LlamaForCausalLM")
class Llama(Architecture):
    """Biases in all maps or in none."""

    model_type = "llama"
    prefix = "model."
    ignored = (r"rotary_emb\.inv_freq$",)  # follows from the config; in files of old versions
    rules = (*LLAMA, TIE)
    tensors = (*TENSORS, one("lm_head.weight", "head.matrix"))


@ARCHITECTURES.register("MistralForCausalLM")
class Mistral(Llama):
    """No biases; self-attention in a sliding window."""

    model_type = "mistral"
    rules = (*MISTRAL, TIE)


@ARCHITECTURES.register("Qwen2ForCausalLM")
class Qwen2(Llama):
    """Biases of queries, keys and values only."""

    model_type = "qwen2"
    rules = (*QWEN2, TIE)


@ARCHITECTURES.register("LlamaModel")
class LlamaBody(Headless, Llama):
    """Hidden states."""

    rules = (*LLAMA, *NO_HEAD)
    tensors = TENSORS


@ARCHITECTURES.register("MistralModel")
class MistralBody(Headless, Mistral):
    """Hidden states."""

    rules = (*MISTRAL, *NO_HEAD)
    tensors = TENSORS


@ARCHITECTURES.register("Qwen2Model")
class Qwen2Body(Headless, Qwen2):
    """Hidden states."""

    rules = (*QWEN2, *NO_HEAD)
    tensors = TENSORS
