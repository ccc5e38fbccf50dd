"""One stack under a prefix mask is an encoder on the prefix and a decoder behind it, computed apart."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch_twin import close, shake

from clearhead.model import AttentionMask, Transformer
from clearhead.model.block import Block
from clearhead.train.objectives.prefix import visible

pytestmark = pytest.mark.usefixtures("double")
LENGTH = 7
EACH_LENGTH = pytest.mark.parametrize("prefix", [1, 3, 6])
EACH_RESIDUAL = pytest.mark.parametrize("residual", ["post", "pre"])


def decoder(tiny, residual: str) -> tuple[Transformer, Tensor]:
    model = tiny(encoder_layers=0, residual=residual)
    shake(model)
    return model, torch.randint(1, 23, (3, LENGTH))


def under_the_mask(model: Transformer, tokens: Tensor, prefix: int) -> Tensor:
    inside = (torch.arange(LENGTH) < prefix).expand(3, -1)
    return model.decode(tokens, mask=AttentionMask(causal=True, prefix=inside))


@EACH_LENGTH
@EACH_RESIDUAL
def test_the_prefix_is_an_encoder_with_the_same_weights(tiny, prefix, residual):
    """The encoder is given the prefix alone: nothing behind it may matter."""
    model, tokens = decoder(tiny, residual)
    encoder = tiny(decoder_layers=0, residual=residual)
    renamed = {name.replace("decoder.", "encoder."): each for name, each in model.state_dict().items()}
    encoder.load_state_dict(renamed)
    close(under_the_mask(model, tokens, prefix)[:, :prefix], encoder.encode(tokens[:, :prefix]).hidden, 1e-12)


@EACH_LENGTH
@EACH_RESIDUAL
def test_prefix_and_rest_are_the_two_blocks_computed_apart(tiny, prefix, residual):
    model, tokens = decoder(tiny, residual)
    close(under_the_mask(model, tokens, prefix), apart(model, tokens, prefix), 1e-12)


def apart(model: Transformer, tokens: Tensor, prefix: int) -> Tensor:
    """No mask anywhere: the prefix attends to the whole prefix, each later token to the slice that ends with itself."""
    side = model.decoder
    table = torch.zeros(LENGTH, 12)
    for place in range(LENGTH):
        for pair in range(6):
            angle = place / 10000 ** (2 * pair / 12)
            table[place, 2 * pair], table[place, 2 * pair + 1] = math.sin(angle), math.cos(angle)
    hidden = side.embedding.table[tokens] * math.sqrt(12) + table
    for block in side.blocks:
        hidden = layer(block, hidden, prefix, first=model.config.residual.kind == "pre")
    return normal(side.last, hidden) if model.config.residual.kind == "pre" else hidden


def layer(block: Block, hidden: Tensor, prefix: int, *, first: bool) -> Tensor:
    """Attention and feed-forward network, each with its norm before or after it."""
    network = block.feedforward
    for residual, sublayer in (
        (block.attention_residual, lambda x: attention(block, x, prefix)),
        (block.feedforward_residual, lambda x: network.outer(F.relu(network.inner(x)))),
    ):
        changed = sublayer(normal(residual.norm, hidden) if first else hidden)
        hidden = hidden + changed if first else normal(residual.norm, hidden + changed)
    return hidden


def normal(norm: torch.nn.Module, hidden: Tensor) -> Tensor:
    centred = hidden - hidden.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias


def attention(block: Block, hidden: Tensor, prefix: int) -> Tensor:
    """A loop over heads and places."""
    projections, rows = block.attention.projections, []
    query, key, value = F.linear(hidden, projections.weight, projections.bias).split(12, dim=-1)
    for place in range(LENGTH):
        seen, heads = max(prefix, place + 1), []
        for head in (slice(0, 6), slice(6, 12)):
            scores = torch.einsum("bd,bkd->bk", query[:, place, head], key[:, :seen, head]) / math.sqrt(6)
            heads.append(torch.einsum("bk,bkd->bd", scores.softmax(-1), value[:, :seen, head]))
        rows.append(torch.cat(heads, dim=-1))
    return block.attention.output(torch.stack(rows, dim=1))


def test_an_empty_prefix_is_a_decoder_and_a_whole_one_an_encoder(tiny):
    model, tokens = decoder(tiny, "post")
    close(under_the_mask(model, tokens, 0), model.decode(tokens), 1e-12)
    close(under_the_mask(model, tokens, LENGTH), model.decode(tokens, mask=AttentionMask()), 1e-12)


def test_the_objective_draws_the_same_mask():
    """Several pieces in a row, each with a prefix of its own."""
    prefix = torch.rand(3, LENGTH) < 0.4
    segments = torch.tensor([[1, 1, 1, 2, 2, 2, 0], [1] * 7, [1, 2, 2, 2, 3, 3, 3]])
    of_the_objective = AttentionMask(segments=segments, allowed=visible(prefix))
    of_the_model = AttentionMask(causal=True, prefix=prefix, segments=segments)
    first, second = (each.dense(LENGTH, LENGTH, torch.device("cpu")) for each in (of_the_objective, of_the_model))
    assert torch.equal(first, second)
