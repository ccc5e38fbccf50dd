"""DistilBERT (Sanh et al., 2019, arXiv:1910.01108): BERT without token types, half as deep."""

from clearhead.bundle.exchange.architecture import ARCHITECTURES, Architecture, Headless
from clearhead.bundle.exchange.architectures.encoders import (
    BODY,
    LEARNED,
    activation,
    dense,
    embeddings,
    last_map,
    no_head,
    scores,
    sequence_labels,
    token_labels,
    words,
)
from clearhead.bundle.exchange.architectures.words import VOCAB
from clearhead.bundle.exchange.rules import Field, Rate, Rule, fixed
from clearhead.bundle.exchange.tensors import linear, projections

LAYER, OURS = "distilbert.transformer.layer.{layer}", "encoder.blocks.{layer}"
RULES: tuple[Rule, ...] = (
    *BODY,
    *LEARNED,
    *fixed({"norm.epsilon": 1e-12}),
    Field("vocab_size", VOCAB, 30_522),
    Field("n_layers", "encoder_layers", 6),
    Field("dim", "d_model", 768),
    Field("n_heads", "heads", 12),
    Field("hidden_dim", "d_ff", 3072),
    Field("max_position_embeddings", "length", 512),
    Field("pad_token_id", "pad", 0),
    Rate(("dropout",), "dropout", 0.1),
    Rate(("attention_dropout",), "attention_dropout", 0.1),
)
TENSORS = (
    *embeddings("distilbert.embeddings"),
    *projections(f"{LAYER}.attention.*_lin", "qkv", f"{OURS}.attention.projections"),
    *linear(f"{LAYER}.attention.out_lin", f"{OURS}.attention.output"),
    *linear(f"{LAYER}.sa_layer_norm", f"{OURS}.attention_residual.norm"),
    *linear(f"{LAYER}.ffn.lin1", f"{OURS}.feedforward.inner"),
    *linear(f"{LAYER}.ffn.lin2", f"{OURS}.feedforward.outer"),
    *linear(f"{LAYER}.output_layer_norm", f"{OURS}.feedforward_residual.norm"),
)


class DistilBert(Architecture):
    """The body."""

    model_type = "distilbert"
    prefix = "distilbert."
    ignored = (r"position_ids$",)


@ARCHITECTURES.register("DistilBertForMaskedLM")
class DistilBertWords(DistilBert):
    """Scores of masked words."""

    rules = (*RULES, *words(), activation("activation", also="head.activation"))
    tensors = (*TENSORS, *scores("vocab_transform", "vocab_layer_norm", "vocab_projector", "vocab_projector.bias"))


@ARCHITECTURES.register("DistilBertForSequenceClassification")
class DistilBertLabels(DistilBert):
    """Scores of labels of a text."""

    rules = (*RULES, *sequence_labels(dense="relu"), activation("activation"))
    tensors = (*TENSORS, *dense("pre_classifier"), *last_map("classifier"))


@ARCHITECTURES.register("DistilBertForTokenClassification")
class DistilBertTokens(DistilBert):
    """Scores of labels of each token."""

    rules = (*RULES, *token_labels(), activation("activation"))
    tensors = (*TENSORS, *last_map("classifier"))


@ARCHITECTURES.register("DistilBertModel")
class DistilBertBody(Headless, DistilBert):
    """Hidden states."""

    rules = (*RULES, *no_head(), activation("activation"))
    tensors = TENSORS
