"""Token, position and token type as one vector: every join learns; concatenation folds into a sum; untied positions."""

import math

import pytest
import torch
import torch.nn.functional as F
from learning import all_move, memorise, right_gradients
from pydantic import ValidationError
from torch import Tensor
from torch_twin import close

from clearhead.core.errors import ModelError
from clearhead.core.registry import Choice
from clearhead.model import ModelConfig, Transformer
from clearhead.model.embedding import EMBEDDING_JOINS
from clearhead.model.position import POSITIONS

double = pytest.mark.usefixtures("double")
EACH = pytest.mark.parametrize("join", EMBEDDING_JOINS.names())
BERT = {"decoder_layers": 0, "position": "learned", "segments": 2, "embedding_norm": True, "head": "mlm"}
IDS = torch.arange(1, 22).view(3, 7)
KINDS = (torch.arange(7) > torch.tensor([[3], [5], [2]])).long()


def loss(model: Transformer) -> Tensor:
    """Of saying each token, in nats."""
    return F.cross_entropy(model.logits(model.encode(IDS, segments=KINDS).hidden).flatten(0, 1), IDS.flatten())


@EACH
def test_a_model_memorises_one_batch(tiny, join):
    model = tiny(**BERT, embedding_join=join)
    memorise(model, lambda: loss(model))


@EACH
def test_every_parameter_moves(tiny, join):
    model = tiny(**BERT, embedding_join=join)
    all_move(model, loss(model))


@EACH
@double
def test_the_gradients_are_right(tiny, join):
    stack = tiny(**BERT, embedding_join=join).encoder
    right_gradients(stack.embedding_sum, stack.embedding(IDS).detach(), torch.arange(7)[None], KINDS)


@EACH
@double
@pytest.mark.parametrize("position", POSITIONS.names())
def test_every_join_goes_with_every_position_and_without_types(tiny, join, position):
    model = tiny(position=position, embedding_join=join, encoder_layers=1, decoder_layers=1)
    valid = torch.arange(7) < torch.tensor([[7], [4], [1]])
    together = model.encode(IDS, valid).hidden
    for row, length in enumerate(valid.sum(dim=1).tolist()):
        close(together[row, :length], model.encode(IDS[row : row + 1, :length]).hidden[0])


@EACH
def test_a_join_works_in_bfloat16(tiny, join):
    model = tiny(**BERT, embedding_join=join)
    exact = model.encode(IDS, segments=KINDS).hidden
    with torch.autocast("cpu", torch.bfloat16):
        found = model.encode(IDS, segments=KINDS).hidden
    assert F.cosine_similarity(found.float().flatten(), exact.flatten(), dim=0) > 0.99


@double
def test_a_concatenation_and_one_map_is_a_sum_of_maps(tiny):
    stack = tiny(**BERT, embedding_join="concat").encoder
    parts = stack.embedding_sum.linear.weight.split(12, dim=1)
    tables = math.sqrt(12) * stack.embedding.table, stack.embedding_sum.position.table
    rows = tables[0][IDS], tables[1][:7].expand(3, -1, -1), stack.embedding_sum.segments.table[KINDS]
    expected = sum(torch.einsum("bld,od->blo", each, part) for each, part in zip(rows, parts, strict=True))
    found = stack.embedding_sum(stack.embedding(IDS), torch.arange(7)[None], KINDS)
    close(found, F.layer_norm(expected, (12,)), 1e-12)


@double
def test_a_concatenation_folds_into_the_tables_of_a_sum(tiny):
    joined, summed = tiny(**BERT, embedding_join="concat", tie="none"), tiny(**BERT, tie="none")
    state = joined.state_dict()
    weights = state.pop("encoder.embedding_sum.linear.weight").split(12, dim=1)
    tables = ["encoder.embedding.table", "encoder.embedding_sum.position.table", "encoder.embedding_sum.segments.table"]
    summed.load_state_dict(state | {name: state[name] @ w.T for name, w in zip(tables, weights, strict=True)})
    expected = joined.encode(IDS, segments=KINDS).hidden
    close(summed.encode(IDS, segments=KINDS).hidden, expected, 1e-12)
    different = tiny(**BERT, tie="none").encode(IDS, segments=KINDS).hidden
    assert not torch.allclose(different, expected)


def test_a_concatenation_has_three_squares_more(tiny):
    joined, summed = tiny(embedding_join="concat", encoder_layers=0), tiny(encoder_layers=0)
    more = sum(each.numel() for each in joined.parameters()) - sum(each.numel() for each in summed.parameters())
    assert more == 3 * 12 * 12


def test_a_join_has_no_options_but_its_own():
    with pytest.raises(ValidationError, match="no option 'scale'"):
        ModelConfig(embedding_join={"kind": "concat", "scale": 2.0})


@double
def test_untied_positions_are_scored_by_themselves():
    ours = POSITIONS.build(Choice(kind="untied"), 12, 2, 6, 16)
    at, keys = torch.tensor([[3, 0, 15], [1, 1, 7]]), torch.tensor([[0, 1, 2, 9], [4, 15, 15, 0]])
    found = ours.layer(causal=True).bias(at, keys)
    for b, h, i, j in torch.cartesian_prod(*map(torch.arange, (2, 2, 3, 4))).tolist():
        head = slice(6 * h, 6 * h + 6)
        asking, asked = (ours.vectors.table[each[b, n]] for each, n in ((at, i), (keys, j)))
        expected = (ours.query[head] @ asking) @ (ours.key[head] @ asked) / math.sqrt(2 * 6)
        close(found[b, h, i, j], expected, 1e-12)
    close(ours.bias(at[:, 2:], keys), found[:, :, 2:])
    close(ours.bias(at[:1], keys[:1]), found[:1])


@double
def test_untied_attention_is_a_softmax_of_two_scores(tiny):
    """Ke et al., equation 7 without relative distances: both scores over the root of twice the head's width."""
    scale = (2 * 6) ** -0.5
    model = tiny(position="untied", attention={"kind": "dot", "scale": scale}, encoder_layers=1, decoder_layers=0)
    block, scheme = model.encoder.blocks[0], model.encoder.embedding_sum.position
    hidden = math.sqrt(12) * model.encoder.embedding.table[IDS]  # no position is added
    query, key, value = block.attention.projections.all(hidden)
    places = scheme.vectors.table[:7]
    mixed = []
    for head in range(2):
        rows = slice(6 * head, 6 * head + 6)
        apart = (places @ scheme.query[rows].T) @ (places @ scheme.key[rows].T).T
        mixed.append((scale * (query[:, head] @ key[:, head].mT + apart)).softmax(dim=-1) @ value[:, head])
    attended = block.attention.output(torch.cat(mixed, dim=-1))
    after = F.layer_norm(hidden + attended, (12,))
    close(model.encode(IDS).hidden, F.layer_norm(after + block.feedforward(after), (12,)))


def test_untied_positions_cost_a_table_and_two_maps(tiny):
    ours = POSITIONS.build(Choice(kind="untied"), 12, 2, 5, 16)
    assert sum(each.numel() for each in ours.parameters()) == 16 * 12 + 2 * 12 * 2 * 5
    model = tiny(position="untied", length=6)
    with pytest.raises(ModelError, match="longer than the learned position table"):
        model.encode(IDS)
