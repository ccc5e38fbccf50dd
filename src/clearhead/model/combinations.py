"""Which parts have a meaning together. A rule names what is wrong; the recipe is refused when it is read."""

from typing import TYPE_CHECKING, cast

import torch

from clearhead.core.errors import ConfigError
from clearhead.model.attention import ATTENTIONS, PROJECTIONS, Kernel
from clearhead.model.position import POSITIONS, Position

if TYPE_CHECKING:
    from clearhead.model.config import ModelConfig


def refuse_meaningless(config: "ModelConfig") -> None:
    """Raise a ConfigError for parts that cannot work together."""
    for attention in (config.attention.kind, config.crossing.kind):
        _refuse_dropout(config, attention)
    _refuse_position(config)
    _refuse_masks(config)
    _refuse_crossing(config)
    _refuse_sizes(config)


def _refuse_dropout(config: "ModelConfig", attention: str) -> None:
    if config.attention_dropout and not _kernel(attention).drops:
        raise ConfigError(
            f"attention {attention} draws no weights that could be dropped",
            found=f"attention_dropout {config.attention_dropout}",
            remedy="set model.attention_dropout: 0",
        )


def _refuse_position(config: "ModelConfig") -> None:
    """A scheme may need inner products, a score for each pair, or a weight for each pair."""
    position, attention = cast(type[Position], POSITIONS.get(config.position.kind)), _kernel(config.attention.kind)
    needs = {
        "scores that are inner products": (position.rotates, attention.products),
        "a score for each pair": (position.biases, attention.biases),
        "a weight for each pair": (position.relates_values, attention.relates_values),
    }
    for what, (needed, given) in needs.items():
        if needed and not given:
            raise ConfigError(
                f"position {config.position.kind} needs {what}, which attention {config.attention.kind} does not have",
                remedy="choose another position or another attention",
            )


def _refuse_masks(config: "ModelConfig") -> None:
    if _kernel(config.attention.kind).any_mask:
        return
    name = f"attention {config.attention.kind} can hide nothing but padding"
    if config.decoder_layers:
        found, remedy = f"decoder_layers {config.decoder_layers}", "choose another attention, or an encoder alone"
        raise ConfigError(f"{name}; a decoder hides the future", found=found, remedy=remedy)
    if config.window is not None:
        raise ConfigError(name, found=f"window {config.window}", remedy="leave window out")


def _refuse_crossing(config: "ModelConfig") -> None:
    if config.kind == "encoder-decoder" and not _kernel(config.crossing.kind).crosses:
        raise ConfigError(
            f"attention {config.crossing.kind} cannot read another sequence", remedy="set model.cross_attention: dot"
        )


def _refuse_sizes(config: "ModelConfig") -> None:
    """What a part refuses when it is made is refused here, by making it without memory."""
    sizes = config.sizes
    with torch.device("meta"):
        POSITIONS.build(config.position, sizes.d_model, sizes.heads, sizes.d_head, config.length)
        projections = PROJECTIONS.build(config.projections, sizes, config.bias)
        for each in (config.attention, config.crossing):
            ATTENTIONS.build(each, sizes.heads, sizes.d_head, 0.0)
    if config.qkv_initialisation.kind != "standard" and not projections.matrices():
        what = f"projections {config.projections.kind} have no matrices to initialise"
        raise ConfigError(what, found=config.qkv_initialisation.kind, remedy="leave qkv_initialisation out")


def _kernel(name: str) -> type[Kernel]:
    return cast(type[Kernel], ATTENTIONS.get(name))
