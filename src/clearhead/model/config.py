"""The sizes and parts of a model: frozen, checked when it is read."""

from typing import Annotated, Literal, cast

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, model_validator

from clearhead.core.errors import ConfigError
from clearhead.core.recipe import Section
from clearhead.core.registry import Choice
from clearhead.model.attention import ATTENTIONS, INITIALISATIONS, PROJECTIONS, HeadSizes
from clearhead.model.combinations import refuse_meaningless
from clearhead.model.embedding import EMBEDDING_JOINS, EMBEDDINGS, Embedding
from clearhead.model.feedforward import FEEDFORWARDS
from clearhead.model.head import HEADS
from clearhead.model.norm import NORMS, Norm
from clearhead.model.position import POSITIONS
from clearhead.model.residual import RESIDUALS
from clearhead.model.stack import STACKS, Stack

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
    cross_attention: Annotated[Choice, AfterValidator(ATTENTIONS.check)] | None = None  # null = attention
    projections: Annotated[Choice, AfterValidator(PROJECTIONS.check)] = Choice(kind="fused")
    window: PositiveInt | None = None  # slots on a side that self-attention sees, its own included; null = all
    embedding: Annotated[Choice, AfterValidator(EMBEDDINGS.check)] = Choice(kind="table")
    embedding_join: Annotated[Choice, AfterValidator(EMBEDDING_JOINS.check)] = Choice(kind="sum")  # with position, type
    segments: NonNegativeInt = 0  # token types, such as BERT's two sentences; 0 = none
    embedding_norm: bool = False  # a norm over the sum of token, position and type
    norm: Annotated[Choice, AfterValidator(NORMS.check)] = Choice(kind="layernorm")
    residual: Annotated[Choice, AfterValidator(RESIDUALS.check)] = Choice(kind="post")
    feedforward: Annotated[Choice, AfterValidator(FEEDFORWARDS.check)] = Choice(kind="relu")
    stack: Annotated[Choice, AfterValidator(STACKS.check)] = Choice(kind="transformer")
    head: Annotated[Choice, AfterValidator(HEADS.check)] = Choice(kind="lm")
    layer_groups: PositiveInt | None = None  # distinct layers of a stack, each used several times; null = all
    shared: Literal["block", "feedforward"] = "block"  # what the layers of a group share
    removed_heads: dict[str, tuple[NonNegativeInt, ...]] = Field(default={})  # attention -> what it lacks
    bias: bool = True  # biases in the linear maps of the blocks
    qkv_bias: bool | None = None  # biases of W_Q, W_K and W_V; null = bias
    qkv_initialisation: Annotated[Choice, AfterValidator(INITIALISATIONS.check)] = Choice(kind="standard")
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
        refuse_meaningless(self)
        if self.layer_groups is not None and not cast(type[Stack], STACKS.get(self.stack.kind)).shares:
            raise ConfigError(f"stack {self.stack.kind} shares no layers", remedy="leave model.layer_groups out")
        for family, part in self._sided().items():
            if self.decoder_layers and not part.decodes:
                what = f"{family} {getattr(self, family).kind} cannot serve a decoder"
                raise ConfigError(what, remedy="set model.decoder_layers: 0")
        return self

    def _sided(self) -> dict[str, type[Norm | Embedding | Stack]]:
        """The chosen parts that may be for encoders alone."""
        norm, embedding, stack = (
            registry.get(choice.kind)
            for registry, choice in ((NORMS, self.norm), (EMBEDDINGS, self.embedding), (STACKS, self.stack))
        )
        return {
            "norm": cast(type[Norm], norm),
            "embedding": cast(type[Embedding], embedding),
            "stack": cast(type[Stack], stack),
        }

    @property
    def norm_across_tokens(self) -> bool:
        """True if the norm looks at more than one token, so that it must be told of padding."""
        return cast(type[Norm], NORMS.get(self.norm.kind)).across_tokens

    @property
    def crossing(self) -> Choice:
        """The kernel of cross-attention."""
        return self.cross_attention or self.attention

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
