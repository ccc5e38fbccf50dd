"""RoBERTa (Liu et al., 2019, arXiv:1907.11692).

Its positions are counted from pad + 1 on, over the tokens that are not padding.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from clearhead.bundle.exchange.architecture import ARCHITECTURES, Architecture, Headless
from clearhead.bundle.exchange.architectures.encoders import (
    SEGMENTS,
    SIZES,
    activation,
    dense,
    embeddings,
    last_map,
    no_head,
    scores,
    sequence_labels,
    stack,
    token_labels,
    words,
)
from clearhead.bundle.exchange.batch import Batch
from clearhead.bundle.exchange.batch import words as random_words
from clearhead.bundle.exchange.flat import Flat
from clearhead.bundle.exchange.rules import Custom, Needs, Rule, Theirs, fixed
from clearhead.core.errors import BundleError
from clearhead.model import ModelConfig


def _rows(theirs: Theirs) -> Flat:
    before = theirs.get("pad_token_id", 1) + 1  # rows that no token uses
    positions = {"position.kind": "learned", "position.offset": before}
    return {**positions, "length": theirs.get("max_position_embeddings", 512) - before, "pad": before - 1}


def _words(ours: Mapping[str, Any]) -> dict[str, Any]:
    offset, expected = ours.get("position.offset"), ours["pad"] + 1
    if ours["position.kind"] != "learned" or offset != expected:
        found = f"{ours['position.kind']} with offset {offset}"
        raise BundleError("position must be learned with offset pad + 1", found=found, expected=f"offset {expected}")
    return {"max_position_embeddings": ours["length"] + expected, "pad_token_id": ours["pad"]}


POSITIONS = Custom(("position.kind", "position.offset", "length", "pad"), _rows, _words)
RULES: tuple[Rule, ...] = (
    *(rule for rule in SIZES if not {"length", "pad"} & set(rule.ours)),
    POSITIONS,
    Needs({"position_embedding_type": "absolute"}),
    SEGMENTS,
)
TENSORS = (*embeddings("roberta.embeddings"), *stack("roberta.encoder.layer.{layer}"))


class Roberta(Architecture):
    """BERT with positions that begin behind the id of padding."""

    model_type = "roberta"
    prefix = "roberta."
    ignored = (r"position_ids$", r"^(roberta\.)?pooler\.")

    def batch(self, config: ModelConfig) -> Batch:
        """Their positions are told by the ids: what is padding has its id, and nothing else has."""
        batch = random_words(config)
        assert batch.source is not None
        assert batch.source_valid is not None
        other = torch.where(batch.source == config.pad, (config.pad + 1) % config.source_vocab, batch.source)
        return replace(batch, source=other.masked_fill(~batch.source_valid, config.pad))


@ARCHITECTURES.register("RobertaForMaskedLM")
class RobertaWords(Roberta):
    """Scores of masked words; the activation of the head is gelu, whatever that of the layers."""

    rules = (*RULES, *words(), *fixed({"head.activation": "gelu"}), activation("hidden_act"))
    tensors = (*TENSORS, *scores("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder", "lm_head.bias"))


@ARCHITECTURES.register("RobertaForSequenceClassification")
class RobertaLabels(Roberta):
    """Scores of labels of a text."""

    rules = (*RULES, *sequence_labels(dense="tanh"), activation("hidden_act"))
    tensors = (*TENSORS, *dense("classifier.dense"), *last_map("classifier.out_proj"))


@ARCHITECTURES.register("RobertaForTokenClassification")
class RobertaTokens(Roberta):
    """Scores of labels of each token."""

    rules = (*RULES, *token_labels(), activation("hidden_act"))
    tensors = (*TENSORS, *last_map("classifier"))


@ARCHITECTURES.register("RobertaModel")
class RobertaBody(Headless, Roberta):
    """Hidden states."""

    rules = (*RULES, *no_head(), activation("hidden_act"))
    tensors = TENSORS
