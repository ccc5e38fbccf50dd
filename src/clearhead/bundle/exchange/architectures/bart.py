"""BART (Lewis et al., 2020, arXiv:1910.13461) and mBART (Liu et al., 2020, arXiv:2001.08210)."""

from typing import ClassVar

from torch import Tensor

from clearhead.bundle.exchange.architecture import ARCHITECTURES, Architecture
from clearhead.bundle.exchange.architectures.sequence import ONE_TABLE, REST, SIZES, TABLES, no_bias
from clearhead.bundle.exchange.architectures.words import VOCAB
from clearhead.bundle.exchange.rules import Field, Rule, fixed
from clearhead.model import ModelConfig

LEARNED: tuple[Rule, ...] = fixed(
    {"position.kind": "learned", "position.offset": 2, "embedding_norm": True}  # 2 rows that no token uses
)
ONE_VOCABULARY: tuple[Rule, ...] = (
    Field("vocab_size", VOCAB, 50_265),
    Field("tie_word_embeddings", "tie", default=True, codes={True: "all"}),
    Field("pad_token_id", "pad", 1),
)


@ARCHITECTURES.register("BartForConditionalGeneration")
class Bart(Architecture):
    """Norm after the sum, learned positions, a norm over the embeddings; one table for everything."""

    model_type = "bart"
    prefix = "model."
    start = "decoder_start_token_id"
    opens: ClassVar[str | None] = "cls"
    rules = (*SIZES, *ONE_VOCABULARY, *LEARNED, *fixed({"residual.kind": "post"}))
    tensors = (*ONE_TABLE, *TABLES, *REST)

    def constants(self, config: ModelConfig) -> dict[str, Tensor]:
        return dict(no_bias(config))


@ARCHITECTURES.register("MBartForConditionalGeneration")
class MBart(Bart):
    """BART with the norm before the sub-layers."""

    model_type = "mbart"
    opens = None  # a source ends with its language; the tokenizer's files say which
    rules = (*SIZES, *ONE_VOCABULARY, *LEARNED, *fixed({"residual.kind": "pre"}))
