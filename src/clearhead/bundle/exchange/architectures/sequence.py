"""What the encoder-decoders of the BART family share: names of tensors, sizes, and the order of features in the stream.

The weights of a Transformer may have the features of its stream in any order, as long as all have the same. Models of
ours whose sinusoids stand in pairs are stored with the features in the order of halves, which is the one known there.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from clearhead.bundle.exchange.architectures.words import ACTIVATIONS
from clearhead.bundle.exchange.rules import Field, Free, Needs, Rate, Rule, fixed
from clearhead.bundle.exchange.tensors import HEADS, ROW, Entry, Form, Heads, linear, one, projections
from clearhead.model import ModelConfig


class Stream(Form):
    """A tensor with the features of the stream along `axis`."""

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def join(self, parts: Sequence[Tensor], config: ModelConfig) -> Tensor:
        return reordered(parts[0], torch.argsort(stream_order(config)), self.axis)

    def split(self, tensor: Tensor, config: ModelConfig) -> list[Tensor]:
        return [reordered(tensor, stream_order(config), self.axis)]


class StreamHeads(Heads):
    """W_Q, W_K and W_V that read the stream."""

    def join(self, parts: Sequence[Tensor], config: ModelConfig) -> Tensor:
        return reordered(super().join(parts, config), torch.argsort(stream_order(config)), 1)

    def split(self, tensor: Tensor, config: ModelConfig) -> list[Tensor]:
        return super().split(reordered(tensor, stream_order(config), 1), config)

    def of_bias(self) -> Form:
        return HEADS


def stream_order(config: ModelConfig) -> Tensor:
    """Which of our features stands at each of their places, (d_model,)."""
    places = torch.arange(config.d_model, device="cpu")
    pairs = config.position.kind == "sinusoidal" and config.position.options.get("layout", "pairs") == "pairs"
    return torch.cat([places[0::2], places[1::2]]) if pairs else places


def reordered(tensor: Tensor, order: Tensor, axis: int) -> Tensor:
    """The same tensor with its features along an axis in another order."""
    return tensor.index_select(axis, order.to(tensor.device))


READS, WRITES, READ_BY_HEADS = Stream(1), Stream(0), StreamHeads()  # maps from the stream, into it, into heads


def stack(side: str) -> tuple[Entry, ...]:
    """The tensors of the encoder or the decoder, but for those of tokens and positions."""
    theirs, ours = f"model.{side}.layers.{{layer}}", f"{side}.blocks.{{layer}}"
    attentions = {"self_attn": "attention", "encoder_attn": "cross"}
    entries: list[Entry] = []
    for name, own in attentions.items():
        entries += projections(f"{theirs}.{name}.*_proj", "qkv", f"{ours}.{own}.projections", READ_BY_HEADS)
        entries += linear(f"{theirs}.{name}.out_proj", f"{ours}.{own}.output", WRITES, WRITES)
        entries += linear(f"{theirs}.{name}_layer_norm", f"{ours}.{own}_residual.norm", WRITES, WRITES)
    entries += linear(f"{theirs}.fc1", f"{ours}.feedforward.inner", READS)
    entries += linear(f"{theirs}.fc2", f"{ours}.feedforward.outer", WRITES, WRITES)
    entries += linear(f"{theirs}.final_layer_norm", f"{ours}.feedforward_residual.norm", WRITES, WRITES)
    entries += linear(f"model.{side}.layernorm_embedding", f"{side}.embedding_sum.norm", WRITES, WRITES)
    entries += linear(f"model.{side}.layer_norm", f"{side}.last", WRITES, WRITES)
    entries += [one(f"model.{side}.embed_positions.weight", f"{side}.embedding_sum.position.table", READS)]
    return tuple(entries)


ONE_TABLE = (one("model.shared.weight", "encoder.embedding.table", READS),)
TABLES = (
    one("model.encoder.embed_tokens.weight", "encoder.embedding.table", READS),
    one("model.decoder.embed_tokens.weight", "decoder.embedding.table", READS),
    one("lm_head.weight", "head.matrix", READS),
)
REST = (one("final_logits_bias", "head.bias", ROW), *stack("encoder"), *stack("decoder"))

SIZES: tuple[Rule, ...] = (
    *fixed({"norm.kind": "layernorm", "norm.epsilon": 1e-5, "bias": True}),
    Needs({"is_encoder_decoder": True}),
    Free({"head.bias": True}),  # without one, theirs is all zeros
    Field("encoder_layers", "encoder_layers", 12),
    Field("decoder_layers", "decoder_layers", 12),
    Field("d_model", "d_model", 1024),
    Field(("encoder_attention_heads", "decoder_attention_heads"), "heads", 16),
    Field(("encoder_ffn_dim", "decoder_ffn_dim"), "d_ff", 4096),
    Field("max_position_embeddings", "length", 1024),
    Field("activation_function", "feedforward.kind", "gelu", codes=ACTIVATIONS),
    Field("scale_embedding", "scale_embedding", default=False),
    Rate(("dropout",), "dropout", 0.1),
    Rate(("attention_dropout",), "attention_dropout", 0.0),
    Rate(("activation_dropout",), "feedforward_dropout", 0.0),
)


def no_bias(config: ModelConfig) -> Mapping[str, Tensor]:
    """The bias of the output where a file, or a model of ours, has none."""
    return {"final_logits_bias": torch.zeros(1, config.target_vocab)}
