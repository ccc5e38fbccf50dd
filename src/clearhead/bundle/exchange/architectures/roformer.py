"""RoFormer (Su et al., 2021, arXiv:2104.09864): BERT with rotary positions."""

from torch import Tensor

from clearhead.bundle.exchange.architecture import ARCHITECTURES, Architecture
from clearhead.bundle.exchange.architectures.encoders import (
    SCORES,
    SEGMENTS,
    SIZES,
    activation,
    dense,
    embeddings,
    last_map,
    sequence_labels,
    stack,
    token_labels,
    words,
)
from clearhead.bundle.exchange.architectures.narrow import NARROW
from clearhead.bundle.exchange.architectures.rope import ROTARY_PAIRS
from clearhead.bundle.exchange.rules import Free, Needs, Rule, fixed
from clearhead.bundle.exchange.tensors import linear
from clearhead.model import ModelConfig
from clearhead.model.position.sinusoidal import sinusoidal_table

RULES: tuple[Rule, ...] = (
    *SIZES,
    SEGMENTS,
    NARROW,
    *fixed({"position.kind": "rope", "position.base": 10_000.0, "position.fraction": 1.0}),
    Free({"position.layout": "halves"}),  # the order of features in a head, see rope.py; halves turn faster
    Needs({"rotary_value": False}),
)
TENSORS = (
    *embeddings("roformer.embeddings"),
    *linear("roformer.embeddings_project", "encoder.embedding.projection"),
    *stack("roformer.encoder.layer.{layer}", ROTARY_PAIRS),
)


class RoFormer(Architecture):
    """The body."""

    model_type = "roformer"
    prefix = "roformer."

    def constants(self, config: ModelConfig) -> dict[str, Tensor]:
        table = sinusoidal_table(config.length, config.sizes.d_head, layout="halves")
        return {"roformer.encoder.embed_positions.weight": table}


@ARCHITECTURES.register("RoFormerForMaskedLM")
class RoFormerWords(RoFormer):
    """Scores of masked words."""

    rules = (*RULES, *words(), activation("hidden_act", also="head.activation"))
    tensors = (*TENSORS, *SCORES)


@ARCHITECTURES.register("RoFormerForSequenceClassification")
class RoFormerLabels(RoFormer):
    """Scores of labels of a text; the head has the activation of the networks."""

    rules = (
        *RULES,
        *sequence_labels(),
        activation("hidden_act", also="head.dense"),
    )
    tensors = (*TENSORS, *dense("classifier.dense"), *last_map("classifier.out_proj"))


@ARCHITECTURES.register("RoFormerForTokenClassification")
class RoFormerTokens(RoFormer):
    """Scores of labels of each token."""

    rules = (*RULES, *token_labels(), activation("hidden_act"))
    tensors = (*TENSORS, *last_map("classifier"))
