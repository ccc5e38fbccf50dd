"""BERT (Devlin et al., 2019, arXiv:1810.04805)."""

from typing import ClassVar

from clearhead.bundle.exchange.architecture import ARCHITECTURES, Architecture, Headless
from clearhead.bundle.exchange.architectures.encoders import (
    LEARNED,
    SCORES,
    SEGMENTS,
    SIZES,
    activation,
    dense,
    embeddings,
    last_map,
    no_head,
    sequence_labels,
    stack,
    token_labels,
    words,
)
from clearhead.bundle.exchange.rules import Rule
from clearhead.bundle.exchange.tensors import linear

RULES: tuple[Rule, ...] = (*SIZES, *LEARNED, SEGMENTS)
TENSORS = (*embeddings("bert.embeddings"), *stack("bert.encoder.layer.{layer}"))


class Bert(Architecture):
    """Norm after the sum, learned positions, token types, a norm over the embeddings."""

    model_type = "bert"
    prefix = "bert."
    ignored: ClassVar[tuple[str, ...]] = (r"position_ids$", r"^(bert\.)?pooler\.", r"^cls\.seq_relationship\.")
    renamed = ((".gamma", ".weight"), (".beta", ".bias"))


@ARCHITECTURES.register("BertForMaskedLM")
class BertWords(Bert):
    """Scores of masked words."""

    rules = (*RULES, *words(), activation("hidden_act", also="head.activation"))
    tensors = (*TENSORS, *SCORES)


@ARCHITECTURES.register("BertForPreTraining")
class BertPretraining(Bert):
    """Scores of masked words, and of whether the second sentence follows the first."""

    answers = "prediction_logits"
    ignored = (r"position_ids$",)
    rules = (*RULES, *words("pretraining"), activation("hidden_act", also="head.activation"))
    tensors = (
        *TENSORS,
        *SCORES,
        *linear("bert.pooler.dense", "head.pooler"),
        *linear("cls.seq_relationship", "head.relation"),
    )


@ARCHITECTURES.register("BertForSequenceClassification")
class BertLabels(Bert):
    """Scores of labels of a text."""

    ignored = (r"position_ids$",)
    rules = (*RULES, *sequence_labels(dense="tanh"), activation("hidden_act"))
    tensors = (*TENSORS, *dense("bert.pooler.dense"), *last_map("classifier"))


@ARCHITECTURES.register("BertForTokenClassification")
class BertTokens(Bert):
    """Scores of labels of each token."""

    rules = (*RULES, *token_labels(), activation("hidden_act"))
    tensors = (*TENSORS, *last_map("classifier"))


@ARCHITECTURES.register("BertModel")
class BertBody(Headless, Bert):
    """Hidden states; our logits are then their products with the table, which theirs does not compute."""

    rules = (*RULES, *no_head(), activation("hidden_act"))
    tensors = TENSORS
