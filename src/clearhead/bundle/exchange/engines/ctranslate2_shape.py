"""The models that CTranslate2 knows: settings of its specifications, names of its tensors.

Tables of positions are written out, so that any base, layout or offset is the same there. Its numbers of one layer
stand under `encoder/layer_0/...`; tied tensors stand under each of their names, and its own writer makes them one.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clearhead.bundle.exchange.architecture import Architecture
from clearhead.bundle.exchange.engines.shape import (
    IN_WEIGHTS,
    ONLY_TRAINING,
    QUERIES_APART,
    After,
    Copies,
    Says,
    coded,
    says,
)
from clearhead.bundle.exchange.rules import Free, Rule, fixed
from clearhead.bundle.exchange.tensors import Entry, linear, one
from clearhead.core.errors import BundleError
from clearhead.model import ModelConfig
from clearhead.model.attention.dot import dot_scale
from clearhead.model.position.sinusoidal import sinusoidal_table

NETWORKS = {  # kind -> activation, gated
    "relu": ("RELU", False),
    "gelu": ("GELU", False),
    "gelu_tanh": ("GELUTanh", False),
    "silu": ("SWISH", False),
    "swiglu": ("SWISH", True),
    "geglu": ("GELU", True),
    "geglu_tanh": ("GELUTanh", True),
}
SIDES = {"encoder": "encoder_layers", "decoder": "decoder_layers"}


def _network(ours: Mapping[str, Any]) -> dict[str, Any]:
    activation, gated = coded("feedforward.kind", ours["feedforward.kind"], NETWORKS)
    return {"activation": activation, "ffn_glu": gated}


def _heads(ours: Mapping[str, Any]) -> dict[str, Any]:
    """None stands for the usual sizes there."""
    grouped, wide = ours["kv_heads"] != ours["heads"], ours["d_head"] * ours["heads"] != ours["d_model"]
    if grouped and ours["encoder_layers"]:
        raise BundleError("kv_heads must be heads in a model with an encoder", found=ours["kv_heads"])
    kv_heads, d_head = ours["kv_heads"] if grouped else None, ours["d_head"] if wide else None
    return {"num_heads": ours["heads"], "num_heads_kv": kv_heads, "head_dim": d_head}


def _rotary(ours: Mapping[str, Any]) -> dict[str, Any]:
    scaling = ours["position.scaling"]
    if scaling.kind not in ("none", "linear"):
        raise BundleError("position.scaling has no word there", found=scaling.kind, expected="none or linear")
    turned = int(ours["d_head"] * ours["position.fraction"])
    words = {"rotary_dim": turned, "rotary_base": ours["position.base"]}
    words |= {"rotary_interleave": ours["position.layout"] == "pairs"}
    factor = {"rotary_scaling_type": "Linear", "rotary_scaling_factor": scaling.options.get("factor")}
    return words | (factor if scaling.kind == "linear" else {})


def _alibi(ours: Mapping[str, Any]) -> dict[str, Any]:
    if ours["encoder_layers"]:
        raise BundleError("position.kind alibi is known in decoder-only models alone")
    return {"alibi": True}


POSITIONS = {
    "none": lambda ours: {},
    "sinusoidal": lambda ours: {},
    "learned": lambda ours: {},
    "rope": _rotary,
    "alibi": _alibi,
    "shaw": lambda ours: {"relative_position": True},
    "t5": lambda ours: {"relative_attention_bias": True},
}
POSITION_KEYS = ("kind", "base", "layout", "offset", "fraction", "scaling", "clip", "buckets", "distance")
TABLES = ("none", "sinusoidal", "learned")  # positions that are a table there


def _position(ours: Mapping[str, Any]) -> dict[str, Any]:
    words: dict[str, Any] = coded("position.kind", ours["position.kind"], POSITIONS)(ours)
    return words


def _needs_decoder(ours: Mapping[str, Any]) -> dict[str, Any]:
    if not ours["decoder_layers"]:
        raise BundleError("it computes hidden states of encoders, but has no head for words or labels")
    return {}


RULES: tuple[Rule, ...] = (
    *ONLY_TRAINING,
    *IN_WEIGHTS,
    *fixed({"attention.kind": "dot", "head.kind": "lm", "stack.kind": "transformer", "embedding.kind": "table"}),
    Free(dict.fromkeys(("attention.scale", "attention.exponent", "head.bias", "head.scale", "scale_embedding"))),
    Free(dict.fromkeys(("bias", "qkv_bias", "length", "norm.epsilon"))),
    Says(("encoder_layers", "decoder_layers"), _needs_decoder),
    Says(("heads", "kv_heads", "d_head"), _heads),
    Says(tuple(f"position.{key}" for key in POSITION_KEYS), _position),
    Says(("feedforward.kind",), _network),
    says("pre_norm", "residual.kind", {"pre": True, "post": False}),
    says("rms_norm", "norm.kind", {"layernorm": False, "rmsnorm": True}),
    says("layernorm_embedding", "embedding_norm"),
)


def _norm(theirs: str, ours: str) -> Iterator[Entry]:
    yield one(f"{theirs}/gamma", f"{ours}.weight")
    yield one(f"{theirs}/beta", f"{ours}.bias")


def _map(theirs: str, ours: str) -> Iterator[Entry]:
    return (Entry((each.theirs[0].replace(".", "/"),), each.ours) for each in linear(theirs, ours))


def _layer(side: str, gated: bool) -> Iterator[Entry]:  # noqa: FBT001 (a fact of the model)
    theirs, ours = f"{side}/layer_{{layer}}", f"{side}.blocks.{{layer}}"
    own, cross, network = f"{theirs}/self_attention", f"{theirs}/attention", f"{theirs}/ffn"
    yield from _map(f"{own}/linear_0", f"{ours}.attention.projections")
    yield from _map(f"{own}/linear_1", f"{ours}.attention.output")
    yield one(f"{own}/relative_position_keys", f"{ours}.attention.position.keys")
    yield one(f"{own}/relative_position_values", f"{ours}.attention.position.values")
    yield from _norm(f"{own}/layer_norm", f"{ours}.attention_residual.norm")
    for part in ("weight", "bias"):
        names = (f"{cross}/linear_0/{part}", f"{cross}/linear_1/{part}")
        yield Entry(names, f"{ours}.cross.projections.{part}", QUERIES_APART)
    yield from _map(f"{cross}/linear_2", f"{ours}.cross.output")
    yield from _norm(f"{cross}/layer_norm", f"{ours}.cross_residual.norm")
    yield from _map(f"{network}/linear_0", f"{ours}.feedforward.{'gate' if gated else 'inner'}")
    yield from _map(f"{network}/linear_0_noact", f"{ours}.feedforward.inner") if gated else ()
    yield from _map(f"{network}/linear_1", f"{ours}.feedforward.outer")
    yield from _norm(f"{network}/layer_norm", f"{ours}.feedforward_residual.norm")


def _side(side: str, config: ModelConfig) -> Iterator[Entry]:
    table = "embeddings_0" if side == "encoder" else "embeddings"
    yield one(f"{side}/{table}/weight", f"{side}.embedding.table")
    yield from _norm(f"{side}/layernorm_embedding", f"{side}.embedding_sum.norm")
    yield from _norm(f"{side}/layer_norm", f"{side}.last")
    yield from _layer(side, NETWORKS[config.feedforward.kind][1])
    positions = f"{side}.embedding_sum.position.table"
    if config.position.kind == "t5":
        names = _layers(side, config, "relative_attention_bias")
        yield Entry(names, positions, Copies(len(names)))
    else:
        offset = config.position.options.get("offset", 0)
        yield one(f"{side}/position_encodings/encodings", positions, After(offset))


def _layers(side: str, config: ModelConfig, name: str) -> tuple[str, ...]:
    """A name of self-attention in each layer."""
    layers = getattr(config, SIDES[side])
    return tuple(f"{side}/layer_{layer}/self_attention/{name}" for layer in range(layers))


class CTranslate2Shape(Architecture):
    """Encoder-decoders and decoders from blocks of attention and a feed-forward network, the norm before or after."""

    rules = RULES

    def entries(self, config: ModelConfig) -> tuple[Entry, ...]:
        sides = [side for side in SIDES if getattr(config, SIDES[side])]
        head = (one("decoder/projection/weight", "head.matrix"), one("decoder/projection/bias", "head.bias"))
        return tuple(entry for side in sides for entry in _side(side, config)) + head

    def constants(self, config: ModelConfig) -> dict[str, Tensor]:
        """Tables of positions that are no weights of ours."""
        options = config.position.options
        tables = {
            "none": lambda: torch.zeros(config.length, config.d_model),
            "sinusoidal": lambda: sinusoidal_table(config.length, config.d_model, **options),
        }
        if config.position.kind not in tables:
            return {}
        table = tables[config.position.kind]()
        return {f"{side}/position_encodings/encodings": table for side in SIDES if getattr(config, SIDES[side])}


def numbers(config: ModelConfig) -> dict[str, Any]:
    """Single numbers by the name that they have there."""
    found: dict[str, Any] = {}
    for side in SIDES:
        layers = getattr(config, SIDES[side])
        if not layers:
            continue
        found[f"{side}/scale_embeddings"] = config.scale_embedding
        if config.position.kind == "t5":
            distance = config.position.options.get("distance", 128)
            found |= dict.fromkeys(_layers(side, config, "relative_attention_max_distance"), np.int32(distance))
        if scale := _queries_scale(config):
            found |= dict.fromkeys(_layers(side, config, "queries_scale"), scale)
            crossing = [each.replace("self_attention", "attention") for each in _layers(side, config, "queries_scale")]
            found |= dict.fromkeys(crossing if side == "decoder" and config.encoder_layers else (), scale)
    scale = config.head.options.get("scale", 1.0)
    return found | ({"decoder/scale_outputs": scale} if scale != 1 else {})


def _queries_scale(config: ModelConfig) -> float | None:
    """The factor of the scores, if it is not the usual one."""
    options = config.attention.options
    scale, exponent = options.get("scale"), options.get("exponent")
    return None if scale is None and exponent is None else dot_scale(config.sizes.d_head, scale, exponent)
