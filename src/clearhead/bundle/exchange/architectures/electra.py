"""ELECTRA (Clark et al., 2020, arXiv:2003.10555): a discriminator of replaced tokens, and its generator."""

from torch import Tensor

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
    stack,
    token_labels,
    words,
)
from clearhead.bundle.exchange.architectures.narrow import NARROW
from clearhead.bundle.exchange.batch import Batch
from clearhead.bundle.exchange.rules import Free, Rule, fixed
from clearhead.bundle.exchange.tensors import linear
from clearhead.model import Transformer

RULES: tuple[Rule, ...] = (*SIZES, *LEARNED, SEGMENTS, NARROW)
TENSORS = (
    *embeddings("electra.embeddings"),
    *linear("electra.embeddings_project", "encoder.embedding.projection"),
    *stack("electra.encoder.layer.{layer}"),
)
GENERATOR = "generator_predictions"


class Electra(Architecture):
    """The body."""

    model_type = "electra"
    prefix = "electra."
    ignored = (r"position_ids$",)


@ARCHITECTURES.register("ElectraForPreTraining")
class Discriminator(Electra):
    """One score for each token: was it replaced?"""

    rules = (
        *RULES,
        *fixed({"head.kind": "tokens", "head.labels": 1, "head.bias": True}),
        Free({"tie": "output"}),
        activation("hidden_act", also="head.dense"),
    )
    tensors = (
        *TENSORS,
        *dense("discriminator_predictions.dense"),
        *last_map("discriminator_predictions.dense_prediction"),
    )

    def answer(self, model: Transformer, batch: Batch) -> tuple[Tensor, Tensor]:
        scores, told = super().answer(model, batch)
        return scores[..., 0], told


@ARCHITECTURES.register("ElectraForMaskedLM")
class Generator(Electra):
    """Scores of masked words."""

    rules = (*RULES, *words(), *fixed({"head.activation": "gelu"}), activation("hidden_act"))
    tensors = (
        *TENSORS,
        *scores(f"{GENERATOR}.dense", f"{GENERATOR}.LayerNorm", "generator_lm_head", "generator_lm_head.bias"),
    )


@ARCHITECTURES.register("ElectraForSequenceClassification")
class ElectraLabels(Electra):
    """Scores of labels of a text."""

    rules = (*RULES, *sequence_labels(dense="gelu"), activation("hidden_act"))
    tensors = (*TENSORS, *dense("classifier.dense"), *last_map("classifier.out_proj"))


@ARCHITECTURES.register("ElectraForTokenClassification")
class ElectraTokens(Electra):
    """Scores of labels of each token."""

    rules = (*RULES, *token_labels(), activation("hidden_act"))
    tensors = (*TENSORS, *last_map("classifier"))
