"""T5 (Raffel et al., 2020, arXiv:1910.10683)."""

from collections.abc import Mapping
from typing import Any

from clearhead.bundle.exchange.architecture import ARCHITECTURES, Architecture
from clearhead.bundle.exchange.architectures.words import VOCAB
from clearhead.bundle.exchange.flat import Flat
from clearhead.bundle.exchange.rules import STORED, Custom, Field, Free, Needs, Rate, Theirs, fixed
from clearhead.bundle.exchange.tensors import Entry, linear, one, projections
from clearhead.core.errors import BundleError
from clearhead.model import ModelConfig

NETWORKS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "silu": "silu",
    "gated-gelu": "geglu_tanh",
    "gated-silu": "swiglu",
}


def _output(theirs: Theirs) -> Flat:
    """Tied tables scale the last states by d_model^-0.5; version 1.1 has a matrix of its own and no scale."""
    scaled = theirs.get("scale_decoder_outputs", theirs.get("tie_word_embeddings") is not False)
    own = "lm_head.weight" in theirs[STORED] and not scaled
    return {"tie": "none" if own else "all", "head.scale": theirs.get("d_model", 512) ** -0.5 if scaled else 1.0}


def _scale(ours: Mapping[str, Any]) -> dict[str, Any]:
    scale, tie = ours["head.scale"], ours["tie"]
    tied = {"tie_word_embeddings": tie == "all", "scale_decoder_outputs": scale != 1}
    if tie == "none" and scale == 1:
        return tied
    if tie == "all" and scale in (1, ours["d_model"] ** -0.5):
        return tied
    expected = "tie all with scale 1 or d_model^-0.5, or tie none with scale 1"
    raise BundleError("tie and head.scale have no words", found=f"tie {tie} with scale {scale}", expected=expected)


def _stack(side: str, networks: int, inner: str) -> tuple[Entry, ...]:
    """The tensors of the encoder or the decoder.

    Args:
        side: its name.
        networks: the number of the feed-forward sub-layer.
        inner: the name of its first map, of the ungated one if it has a gate.
    """
    theirs, ours = f"{side}.block.{{layer}}.layer", f"{side}.blocks.{{layer}}"
    dense = f"{theirs}.{networks}.DenseReluDense"
    return (
        one(
            f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            f"{side}.embedding_sum.position.table",
        ),
        *projections(f"{theirs}.0.SelfAttention.*", "qkv", f"{ours}.attention.projections"),
        *linear(f"{theirs}.0.SelfAttention.o", f"{ours}.attention.output"),
        *linear(f"{theirs}.0.layer_norm", f"{ours}.attention_residual.norm"),
        *projections(f"{theirs}.1.EncDecAttention.*", "qkv", f"{ours}.cross.projections"),
        *linear(f"{theirs}.1.EncDecAttention.o", f"{ours}.cross.output"),
        *linear(f"{theirs}.1.layer_norm", f"{ours}.cross_residual.norm"),
        *linear(f"{dense}.wi_0", f"{ours}.feedforward.gate"),
        *linear(f"{dense}.{inner}", f"{ours}.feedforward.inner"),
        *linear(f"{dense}.wo", f"{ours}.feedforward.outer"),
        *linear(f"{theirs}.{networks}.layer_norm", f"{ours}.feedforward_residual.norm"),
        *linear(f"{side}.final_layer_norm", f"{side}.last"),
    )


TABLES = (
    one("shared.weight", "encoder.embedding.table"),
    one("shared.weight", "decoder.embedding.table"),
    one("encoder.embed_tokens.weight", "encoder.embedding.table"),
    one("decoder.embed_tokens.weight", "decoder.embedding.table"),
    one("lm_head.weight", "head.matrix"),
)
PLAIN = (*TABLES, *_stack("encoder", 1, "wi"), *_stack("decoder", 2, "wi"))
GATED = (*TABLES, *_stack("encoder", 1, "wi_1"), *_stack("decoder", 2, "wi_1"))


@ARCHITECTURES.register("T5ForConditionalGeneration")
class T5(Architecture):
    """Norm before the sub-layers, biases of the scores by distance, scores without a scale, no biases in the maps."""

    model_type = "t5"
    start = "decoder_start_token_id"
    ignored = (r"^decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight$",)
    rules = (
        *fixed(
            {
                "position.kind": "t5",
                "residual.kind": "pre",
                "norm.kind": "rmsnorm",
                "attention.scale": 1.0,
                "bias": False,
                "scale_embedding": False,
            }
        ),
        Needs({"is_encoder_decoder": True}),
        Custom(("tie", "head.scale"), _output, _scale),
        Field("vocab_size", VOCAB, 32_128),
        Field("num_layers", "encoder_layers", 6),
        Field("num_decoder_layers", "decoder_layers", lambda theirs: theirs.get("num_layers", 6)),
        Field("d_model", "d_model", 512),
        Field("d_kv", "d_head", 64),
        Field("d_ff", "d_ff", 2048),
        Field("num_heads", "heads", 8),
        Field("relative_attention_num_buckets", "position.buckets", 32),
        Field("relative_attention_max_distance", "position.distance", 128),
        Field("feed_forward_proj", "feedforward.kind", "relu", codes=NETWORKS),
        Field("layer_norm_epsilon", "norm.epsilon", 1e-6),
        Field("pad_token_id", "pad", 0),
        Rate(("dropout_rate",), "dropout", 0.1),
        Free({"length": 512, "attention_dropout": 0.0, "feedforward_dropout": 0.0}),
    )
    tensors = PLAIN

    def entries(self, config: ModelConfig) -> tuple[Entry, ...]:
        gated = config.feedforward.kind in ("geglu_tanh", "swiglu")
        return GATED if gated else PLAIN
