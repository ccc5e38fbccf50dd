"""What the encoders of the BERT family share: rules of the body and of the heads, names of tensors."""

from collections.abc import Mapping
from typing import Any

from clearhead.bundle.exchange.architectures.words import ACTIVATIONS, VOCAB
from clearhead.bundle.exchange.flat import Flat
from clearhead.bundle.exchange.rules import Custom, Field, Free, Needs, Rate, Rule, Theirs, fixed
from clearhead.bundle.exchange.tensors import HEADS, Entry, Form, linear, one, projections
from clearhead.core.errors import BundleError

BODY: tuple[Rule, ...] = (
    *fixed(
        {
            "decoder_layers": 0,
            "residual.kind": "post",
            "norm.kind": "layernorm",
            "bias": True,
            "scale_embedding": False,
            "embedding_norm": True,
        }
    ),
    Needs({"is_decoder": False, "add_cross_attention": False}),
    Free({"feedforward_dropout": 0.0}),
)
SIZES: tuple[Rule, ...] = (
    *BODY,
    Field("vocab_size", VOCAB, 30_522),
    Field("num_hidden_layers", "encoder_layers", 12),
    Field("hidden_size", "d_model", 768),
    Field("num_attention_heads", "heads", 12),
    Field("intermediate_size", "d_ff", 3072),
    Field("max_position_embeddings", "length", 512),
    Field("layer_norm_eps", "norm.epsilon", 1e-12),
    Field("pad_token_id", "pad", 0),
    Rate(("hidden_dropout_prob",), "dropout", 0.1),
    Rate(("attention_probs_dropout_prob",), "attention_dropout", 0.1),
)
LEARNED: tuple[Rule, ...] = (
    *fixed({"position.kind": "learned", "position.offset": 0}),
    Needs({"position_embedding_type": "absolute"}),
)


def _segments(theirs: Theirs) -> Flat:
    return {"segments": theirs.get("type_vocab_size", 2)}


def _types(ours: Mapping[str, Any]) -> dict[str, Any]:
    if not ours["segments"]:
        raise BundleError("segments must be at least 1", found=0)
    return {"type_vocab_size": ours["segments"]}


SEGMENTS = Custom(("segments",), _segments, _types)


def _labels(theirs: Theirs) -> Flat:
    names = theirs.get("id2label")
    return {"head.labels": len(names) if names else theirs.get("num_labels", 2)}


LABELS = Custom(("head.labels",), _labels, lambda ours: {"num_labels": ours["head.labels"]})


def activation(key: str, default: str = "gelu", *, also: str | None = None) -> Field:
    """The activation of the feed-forward networks, and of a part of the head where that has the same."""
    keys = ("feedforward.kind", also) if also else ("feedforward.kind",)
    return Field(key, keys, default, codes=ACTIVATIONS)


def words(kind: str = "mlm") -> tuple[Rule, ...]:
    """A head that scores words by the table of the embedding."""
    return *fixed({"head.kind": kind, "tie": "output"}), Needs({"tie_word_embeddings": True})


def no_head() -> tuple[Rule, ...]:
    """A body alone; our logits are then products with the table, which theirs does not compute."""
    return fixed({"head.kind": "lm", "tie": "output"})


def sequence_labels(**dense: str) -> tuple[Rule, ...]:
    """A head that scores labels of a sequence by its first token."""
    about = {"head.kind": "classify", "head.pooling": "first", "head.bias": True}
    return *fixed(about | {f"head.{key}": value for key, value in dense.items()}), LABELS, Free({"tie": "output"})


def token_labels() -> tuple[Rule, ...]:
    """A head that scores labels of each token."""
    return *fixed({"head.kind": "tokens", "head.dense": "none", "head.bias": True}), LABELS, Free({"tie": "output"})


def stack(theirs: str, heads: Form = HEADS) -> tuple[Entry, ...]:
    """The tensors of the layers, named as BERT names them; `theirs` is one layer."""
    ours = "encoder.blocks.{layer}"
    return (
        *projections(f"{theirs}.attention.self.*", ("query", "key", "value"), f"{ours}.attention.projections", heads),
        *linear(f"{theirs}.attention.output.dense", f"{ours}.attention.output"),
        *linear(f"{theirs}.attention.output.LayerNorm", f"{ours}.attention_residual.norm"),
        *linear(f"{theirs}.intermediate.dense", f"{ours}.feedforward.inner"),
        *linear(f"{theirs}.output.dense", f"{ours}.feedforward.outer"),
        *linear(f"{theirs}.output.LayerNorm", f"{ours}.feedforward_residual.norm"),
    )


def embeddings(theirs: str) -> tuple[Entry, ...]:
    """The tensors before the layers; `theirs` is the module that holds them."""
    return (
        one(f"{theirs}.word_embeddings.weight", "encoder.embedding.table"),
        one(f"{theirs}.position_embeddings.weight", "encoder.embedding_sum.position.table"),
        one(f"{theirs}.token_type_embeddings.weight", "encoder.embedding_sum.segments.table"),
        *linear(f"{theirs}.LayerNorm", "encoder.embedding_sum.norm"),
    )


def scores(dense: str, norm: str, matrix: str, bias: str) -> tuple[Entry, ...]:
    """The tensors of a head that scores words; `matrix` is the linear map that the table is tied to."""
    return (
        *linear(dense, "head.dense"),
        *linear(norm, "head.norm"),
        one(bias, "head.bias"),
        one(f"{matrix}.bias", "head.bias"),
        one(f"{matrix}.weight", "head.matrix"),
    )


WORDS = "cls.predictions"  # as BERT calls its head
SCORES = scores(f"{WORDS}.transform.dense", f"{WORDS}.transform.LayerNorm", f"{WORDS}.decoder", f"{WORDS}.bias")


def last_map(theirs: str) -> tuple[Entry, ...]:
    """The tensors of the linear map to labels."""
    return one(f"{theirs}.weight", "head.matrix"), one(f"{theirs}.bias", "head.bias")


def dense(theirs: str) -> tuple[Entry, ...]:
    """The tensors of the map before it."""
    return tuple(linear(theirs, "head.dense.1"))
