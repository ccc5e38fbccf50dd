"""Every position scheme with every attention: the same result cached or not, padded or not, alone or in a batch.

Generated from the registries: a new part is tested without an edit here. What has no meaning is refused by name.
"""

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch_twin import close, shake

from clearhead.generate import DenseCache
from clearhead.model import CAUSAL, AttentionMask, Memory, ModelConfig, Transformer
from clearhead.model.attention import ATTENTIONS
from clearhead.model.position import POSITIONS

PROMPT, NEW = 5, 2
LENGTHS = [5, 2, 3]  # of the prompts
EACH_POSITION = pytest.mark.parametrize("position", POSITIONS.names())
EACH_SIDE = pytest.mark.parametrize("side", ["left", "right"])
double = pytest.mark.usefixtures("double")


def options(attention: str) -> dict[str, str]:
    """What a recipe says to have this attention, if need be beside another cross-attention."""
    return {"attention": attention} | ({} if ATTENTIONS.get(attention).crosses else {"cross_attention": "dot"})


def padding(side: str) -> Tensor:
    """Which slots of the prompts hold tokens, (batch, PROMPT)."""
    slot, lengths = torch.arange(PROMPT), torch.tensor(LENGTHS)[:, None]
    return slot >= PROMPT - lengths if side == "left" else slot < lengths


def texts(side: str) -> tuple[Tensor, Tensor]:
    """Padded prompts with NEW further tokens behind them, and which slots hold tokens: (batch, PROMPT + NEW)."""
    valid = torch.cat([padding(side), torch.ones(3, NEW, dtype=torch.bool)], dim=1)
    return torch.randint(1, 23, valid.shape).masked_fill(~valid, 0), valid


def in_steps(model: Transformer, tokens: Tensor, valid: Tensor, memory: Memory | None) -> Tensor:
    """The prompts at once, then token after token, with a cache."""
    cache, positions, hidden, start = DenseCache(1), (valid.long().cumsum(dim=1) - 1).clamp(min=0), [], 0
    for end in (PROMPT, *range(PROMPT + 1, PROMPT + NEW + 1)):
        new = slice(start, end)
        step = {"valid": valid[:, :end], "positions": positions[:, new], "cache": cache}
        hidden.append(model.decode(tokens[:, new], memory, **step))
        start = end
    return torch.cat(hidden, dim=1)


def agrees(model: Transformer, side: str) -> None:
    """Uncached = cached = each text alone and unpadded, at all its tokens."""
    shake(model)
    (tokens, valid), memory, source = texts(side), None, torch.randint(1, 23, (3, PROMPT))
    reads = bool(model.config.encoder_layers)
    with torch.inference_mode():
        if reads:
            memory = model.encode(source.masked_fill(~padding(side), 0), padding(side))
        together, stepwise = model.decode(tokens, memory, valid=valid), in_steps(model, tokens, valid, memory)
        close(stepwise[valid], together[valid])
        for row in range(3):
            own = model.encode(source[row : row + 1, padding(side)[row]]) if reads else None
            close(together[row, valid[row]], model.decode(tokens[row : row + 1, valid[row]], own)[0])


@double
@EACH_POSITION
@EACH_SIDE
@pytest.mark.parametrize("encoder", [0, 1], ids=["self", "cross"])
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_a_scheme_gives_the_same_in_every_setting(tiny, position, side, encoder, kv_heads):
    agrees(tiny(position=position, encoder_layers=encoder, decoder_layers=1, kv_heads=kv_heads), side)


def refusal(**changes: object) -> str | None:
    """What is said of a recipe with these parts, or None."""
    try:
        ModelConfig(source_vocab=23, target_vocab=23, **changes)
    except ValidationError as error:
        return str(error)
    return None


def meaningful(position: str, attention: str) -> bool:
    scheme, kernel = POSITIONS.get(position), ATTENTIONS.get(attention)
    needs = (scheme.rotates, kernel.products), (scheme.biases, kernel.biases)
    return all(given or not needed for needed, given in (*needs, (scheme.relates_values, kernel.relates_values)))


PAIRS = [(position, attention) for position in POSITIONS.names() for attention in ATTENTIONS.names()]


@double
@pytest.mark.parametrize(("position", "attention"), [pair for pair in PAIRS if meaningful(*pair)])
def test_every_meaningful_pair_of_parts_gives_the_same_in_every_setting(tiny, position, attention):
    part = {"position": position, **options(attention)}
    if not ATTENTIONS.get(attention).any_mask:
        assert f"attention {attention} can hide nothing but padding" in refusal(**part)
        encoders_agree(tiny(**part, encoder_layers=1, decoder_layers=0))
        return
    for side in ("left", "right"):
        agrees(tiny(**part, encoder_layers=1, decoder_layers=1, kv_heads=1), side)


@pytest.mark.parametrize(("position", "attention"), [pair for pair in PAIRS if not meaningful(*pair)])
def test_every_other_pair_is_refused_by_name(position, attention):
    said = refusal(position=position, decoder_layers=0, **options(attention))
    assert f"position {position} needs" in said
    assert f"attention {attention} does not have" in said


def encoders_agree(model: Transformer) -> None:
    shake(model)
    source = torch.randint(1, 23, (3, PROMPT))
    for side in ("left", "right"):
        together = model.encode(source, padding(side)).hidden
        for row, own in enumerate(padding(side)):
            close(together[row, own], model.encode(source[row : row + 1, own]).hidden[0])


MEANINGLESS = {
    "dropped weights": (
        {"attention": "tiled", "attention_dropout": 0.1},
        "tiled draws no weights .*found attention_dro",
    ),
    "dropped cross weights": (
        {"cross_attention": "linear", "attention_dropout": 0.1},
        "attention linear draws no weig",
    ),
    "a window over sums": ({"attention": "low_rank", "decoder_layers": 0, "window": 3}, "padding; found window 3"),
    "a window across": ({"attention": "local"}, "local cannot read another sequence; set model.cross_attention: dot"),
    "odd rotations": ({"position": "rope", "d_head": 3}, "rope turns pairs of features; found d_head 3"),
    "no such scaling": ({"position": {"kind": "rope", "scaling": "lama3"}}, r"did you mean 'llama3'\?"),
}


@pytest.mark.parametrize("case", MEANINGLESS)
def test_other_meaningless_recipes_are_refused_too(case):
    changes, message = MEANINGLESS[case]
    with pytest.raises(ValidationError, match=message):
        ModelConfig(source_vocab=23, target_vocab=23, **changes)


@double
@pytest.mark.parametrize("attention", [each for each in ATTENTIONS.names() if ATTENTIONS.get(each).any_mask])
def test_a_model_with_a_window_gives_the_same_in_every_setting(tiny, attention):
    """On the left only: a window counts slots, also those of padding between a prompt and its continuation."""
    agrees(tiny(**options(attention), encoder_layers=0, decoder_layers=1, window=3, position="none"), "left")


def test_the_window_of_a_config_is_that_of_a_mask(tiny):
    narrow, wide = tiny(window=3), tiny()
    narrow.load_state_dict(wide.state_dict())
    source, target = torch.randint(1, 23, (3, 7)), torch.randint(1, 23, (3, 7))
    window = AttentionMask(window=3)
    expected = wide.decode(target, wide.encode(source, mask=window), mask=CAUSAL & window)
    close(narrow(source, target), expected, 0)
    assert not torch.allclose(narrow(source, target), wide(source, target))
