"""The sizes and parts of a model: frozen, checked when it is read."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, model_validator

from clearhead.core.errors import ConfigError
from clearhead.core.recipe import Section
from clearhead.core.registry import Choice
from clearhead.model.attention import ATTENTIONS
from clearhead.model.attention.multihead import HeadSizes
from clearhead.model.feedforward import FEEDFORWARDS
from clearhead.model.norm import NORMS
from clearhead.model.position import POSITIONS
from clearhead.model.residual import RESIDUALS

Rate = Annotated[float, Field(ge=0.0, lt=1.0)]


class ModelConfig(Section):
    """Everything that determines a model's parameters; the defaults are the base model of Vaswani et al., 2017.

    source ids ─ embed + position ─ [block x encoder_layers] ─▶ memory ─┐
    target ids ─ embed + position ─ [block x decoder_layers ◀───────────┘] ─▶ logits
    """

    encoder_layers: NonNegativeInt = 6  # 0 = decoder-only
    decoder_layers: NonNegativeInt = 6  # 0 = encoder-only
    d_model: PositiveInt = 512  # width of the stream
    heads: PositiveInt = 8  # query heads
    kv_heads: PositiveInt | None = None  # key/value heads; null = heads
    d_head: PositiveInt | None = None  # width of one head; null = d_model / heads
    d_ff: PositiveInt = 2048  # inner width of the feed-forward network
    length: PositiveInt = 512  # tokens a position table is made for; schemes by formula go beyond
    position: Annotated[Choice, AfterValidator(POSITIONS.check)] = Choice(kind="sinusoidal")
    attention: Annotated[Choice, AfterValidator(ATTENTIONS.check)] = Choice(kind="dot")
    norm: Annotated[Choice, AfterValidator(NORMS.check)] = Choice(kind="layernorm")
    residual: Annotated[Choice, AfterValidator(RESIDUALS.check)] = Choice(kind="post")
    feedforward: Annotated[Choice, AfterValidator(FEEDFORWARDS.check)] = Choice(kind="relu")
    bias: bool = True  # biases in the linear maps of the blocks
    scale_embedding: bool = True  # multiply embeddings by sqrt(d_model)
    tie: Literal["none", "output", "all"] = "all"  # output = embedding of the last stack; all = of both
    dropout: Rate = 0.1  # of sub-layer outputs and of the embedding sums
    attention_dropout: Rate = 0.0  # of attention weights
    feedforward_dropout: Rate = 0.0  # inside the feed-forward network
    source_vocab: NonNegativeInt = 0  # tokens; 0 = taken from the tokenizer
    target_vocab: NonNegativeInt = 0  # tokens; 0 = taken from the tokenizer
    pad: NonNegativeInt = 0  # id of the padding token

    @model_validator(mode="after")
    def _fits_together(self) -> "ModelConfig":
        if self.encoder_layers + self.decoder_layers == 0:
            raise ConfigError("a model needs at least one layer in encoder_layers or decoder_layers")
        if self.d_head is None and self.d_model % self.heads:
            raise ConfigError(
                "d_model is not divisible by heads",
                found=f"d_model {self.d_model}, heads {self.heads}",
                remedy="change one of them or set d_head",
            )
        if self.heads % self.sizes.kv_heads:
            divisors = [str(each) for each in range(1, self.heads + 1) if self.heads % each == 0]
            found = f"kv_heads {self.kv_heads}, heads {self.heads}"
            raise ConfigError("kv_heads must divide heads", found=found, expected=f"one of {', '.join(divisors)}")
        one_stack = self.kind != "encoder-decoder"
        known = (self.source_vocab and self.target_vocab) or not one_stack
        if self.one_table and known and self.source_vocab != self.target_vocab:
            raise ConfigError(
                f"tie: {self.tie} needs one vocabulary for source and target",
                found=f"{self.source_vocab} and {self.target_vocab} tokens",
                remedy="set model.tie: none" if one_stack else "set tokenizer.joint, or model.tie: output",
            )
        return self

    @property
    def kind(self) -> str:
        """encoder-decoder, encoder-only or decoder-only."""
        if self.encoder_layers and self.decoder_layers:
            return "encoder-decoder"
        return "encoder-only" if self.encoder_layers else "decoder-only"

    @property
    def one_table(self) -> bool:
        """True if source and target, or the input and the output of an only stack, share one embedding table."""
        return self.tie == "all" or (self.tie == "output" and self.kind != "encoder-decoder")

    @property
    def sizes(self) -> HeadSizes:
        """How d_model is cut into heads."""
        return HeadSizes(
            d_model=self.d_model,
            heads=self.heads,
            kv_heads=self.kv_heads or self.heads,
            d_head=self.d_head or self.d_model // self.heads,
        )
