"""ALBERT (Lan et al., 2020, arXiv:1909.11942): BERT with a factorised table and layers that share their weights."""

from collections.abc import Mapping
from typing import Any, ClassVar

from clearhead.bundle.exchange.architecture import ARCHITECTURES, Architecture
from clearhead.bundle.exchange.architectures.encoders import (
    LEARNED,
    SEGMENTS,
    SIZES,
    activation,
    dense,
    embeddings,
    last_map,
    scores,
    sequence_labels,
    token_labels,
    words,
)
from clearhead.bundle.exchange.flat import Flat
from clearhead.bundle.exchange.rules import Custom, Field, Needs, Rule, Theirs, fixed
from clearhead.bundle.exchange.tensors import linear, projections
from clearhead.core.errors import BundleError

LAYER, OURS = "albert.encoder.albert_layer_groups.{group}.albert_layers.0", "encoder.blocks.{layer}"


def _groups(theirs: Theirs) -> Flat:
    return {"layer_groups": theirs.get("num_hidden_groups", 1)}


def _hidden_groups(ours: Mapping[str, Any]) -> dict[str, Any]:
    layers = ours["encoder_layers"]
    groups = ours["layer_groups"] or max(layers, 1)
    if layers % groups:
        raise BundleError("layer_groups must divide encoder_layers", found=f"{groups} and {layers}")
    return {"num_hidden_groups": groups}


RULES: tuple[Rule, ...] = (
    *SIZES,
    *LEARNED,
    SEGMENTS,
    *fixed({"embedding.kind": "factorised", "shared": "block"}),
    Needs({"inner_group_num": 1}),
    Field("embedding_size", "embedding.width", 128),
    Custom(("layer_groups",), _groups, _hidden_groups),
)
TENSORS = (
    *embeddings("albert.embeddings"),
    *linear("albert.encoder.embedding_hidden_mapping_in", "encoder.embedding.projection"),
    *projections(f"{LAYER}.attention.*", ("query", "key", "value"), f"{OURS}.attention.projections"),
    *linear(f"{LAYER}.attention.dense", f"{OURS}.attention.output"),
    *linear(f"{LAYER}.attention.LayerNorm", f"{OURS}.attention_residual.norm"),
    *linear(f"{LAYER}.ffn", f"{OURS}.feedforward.inner"),
    *linear(f"{LAYER}.ffn_output", f"{OURS}.feedforward.outer"),
    *linear(f"{LAYER}.full_layer_layer_norm", f"{OURS}.feedforward_residual.norm"),
)
SCORES = scores("predictions.dense", "predictions.LayerNorm", "predictions.decoder", "predictions.bias")


class Albert(Architecture):
    """The body."""

    model_type = "albert"
    prefix = "albert."
    ignored: ClassVar[tuple[str, ...]] = (r"position_ids$", r"^(albert\.)?pooler\.", r"^sop_classifier\.")


@ARCHITECTURES.register("AlbertForMaskedLM")
class AlbertWords(Albert):
    """Scores of masked words."""

    rules = (*RULES, *words(), activation("hidden_act", "gelu_new", also="head.activation"))
    tensors = (*TENSORS, *SCORES)


@ARCHITECTURES.register("AlbertForSequenceClassification")
class AlbertLabels(Albert):
    """Scores of labels of a text."""

    ignored = (r"position_ids$",)
    rules = (*RULES, *sequence_labels(dense="tanh"), activation("hidden_act", "gelu_new"))
    tensors = (*TENSORS, *dense("albert.pooler"), *last_map("classifier"))


@ARCHITECTURES.register("AlbertForTokenClassification")
class AlbertTokens(Albert):
    """Scores of labels of each token."""

    rules = (*RULES, *token_labels(), activation("hidden_act", "gelu_new"))
    tensors = (*TENSORS, *last_map("classifier"))
