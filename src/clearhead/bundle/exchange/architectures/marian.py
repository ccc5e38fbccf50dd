"""Marian (Junczys-Dowmunt et al., 2018, arXiv:1804.00344), which OPUS-MT uses, and Pegasus (Zhang et al., 2020).

Pegasus: arXiv:1912.08777.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from clearhead.bundle.exchange.architecture import ARCHITECTURES, Architecture
from clearhead.bundle.exchange.architectures.bart import ONE_VOCABULARY
from clearhead.bundle.exchange.architectures.sequence import ONE_TABLE, REST, SIZES, TABLES, no_bias
from clearhead.bundle.exchange.flat import Flat
from clearhead.bundle.exchange.rules import Custom, Field, Free, Rule, Theirs, fixed
from clearhead.bundle.exchange.tensors import Entry
from clearhead.core.errors import BundleError
from clearhead.model import ModelConfig
from clearhead.model.position.sinusoidal import sinusoidal_table

SINES: tuple[Rule, ...] = (
    *fixed({"position.kind": "sinusoidal", "position.base": 10_000.0}),
    Free({"position.layout": "halves"}),  # the order of features, see sequence.py
)
TIES = {  # share_encoder_decoder_embeddings, tie_word_embeddings -> ours
    (True, True): "all",
    (False, True): "output",
    (False, False): "none",
}


def _vocabularies(theirs: Theirs) -> Flat:
    source = theirs["vocab_size"]
    shared, tied = theirs.get("share_encoder_decoder_embeddings", True), theirs.get("tie_word_embeddings", True)
    if (shared, tied) not in TIES:
        raise BundleError("shared embeddings without tied ones have no counterpart", found="tie_word_embeddings false")
    target = source if shared else theirs.get("decoder_vocab_size") or source
    return {"source_vocab": source, "target_vocab": target, "tie": TIES[shared, tied]}


def _words(ours: Mapping[str, Any]) -> dict[str, Any]:
    shared, tied = next(each for each, tie in TIES.items() if tie == ours["tie"])
    words = {"share_encoder_decoder_embeddings": shared, "tie_word_embeddings": tied}
    return {**words, "vocab_size": ours["source_vocab"], "decoder_vocab_size": ours["target_vocab"]}


@ARCHITECTURES.register("MarianMTModel")
class Marian(Architecture):
    """The model of 2017 with other activations: norm after the sum, sinusoids."""

    model_type = "marian"
    prefix = "model."
    start = "decoder_start_token_id"
    rules = (
        *SIZES,
        *SINES,
        *fixed({"residual.kind": "post"}),
        Custom(("source_vocab", "target_vocab", "tie"), _vocabularies, _words),
        Field("pad_token_id", "pad", 58_100),
    )
    tensors = (*ONE_TABLE, *TABLES, *REST)

    def entries(self, config: ModelConfig) -> tuple[Entry, ...]:
        return self.tensors if config.tie == "all" else (*TABLES, *REST)

    def constants(self, config: ModelConfig) -> dict[str, Tensor]:
        table = sinusoidal_table(config.length, config.d_model, layout="halves")
        positions = {f"model.{side}.embed_positions.weight": table.clone() for side in ("encoder", "decoder")}
        return {**no_bias(config), **positions}


@ARCHITECTURES.register("PegasusForConditionalGeneration")
class Pegasus(Marian):
    """Norm before the sub-layers."""

    model_type = "pegasus"
    rules = (*SIZES, *SINES, *ONE_VOCABULARY, *fixed({"residual.kind": "pre"}))
