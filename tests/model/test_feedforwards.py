"""Feed-forward networks beyond the plain one: formulas, parameters, routing of tokens to experts."""

import pytest
import torch
import torch.nn.functional as F
from learning import all_move, memorise, right_gradients
from pydantic import ValidationError
from torch import nn
from torch_twin import close, shake

from clearhead.core.errors import ConfigError
from clearhead.core.registry import Choice
from clearhead.model import ModelConfig
from clearhead.model.feedforward import FEEDFORWARDS, FeedForward, balance, routings
from clearhead.model.feedforward.low_rank import Factored

pytestmark = pytest.mark.usefixtures("double")

EACH = pytest.mark.parametrize("name", FEEDFORWARDS.names())


def build(name: str, d_ff: int = 20, **options: object) -> FeedForward:
    network = FEEDFORWARDS.build(Choice(kind=name, options=options), 12, d_ff, 0.0, True)
    shake(network)
    return network


def count(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())


@EACH
def test_each_token_goes_through_by_itself(name):
    network, hidden = build(name), torch.randn(3, 7, 12)
    together = network(hidden)
    for row in range(3):
        for column in range(7):
            close(together[row, column], network(hidden[row : row + 1, column : column + 1])[0, 0])


@EACH
def test_the_gradients_are_right(name):
    network, hidden = build(name), torch.randn(2, 3, 12)
    assert torch.autograd.gradcheck(network, hidden.clone().requires_grad_(), fast_mode=True)
    right_gradients(network, hidden)


@EACH
def test_no_token_is_no_work(name):
    assert build(name)(torch.empty(3, 0, 12)).shape == (3, 0, 12)


def test_two_thirds_of_a_width_keep_the_parameters(tiny):
    plain, gated = build("relu", 24), build("swiglu", 24, two_thirds=True)
    assert gated.gate.weight.shape == (16, 12)
    weights = [sum(each.numel() for each in net.parameters() if each.dim() == 2) for net in (plain, gated)]
    assert weights[0] == weights[1]
    assert build("geglu", 4 * 12, two_thirds=True, multiple=10).gate.weight.shape == (40, 12)
    assert build("swiglu", 20).gate.weight.shape == (20, 12)


def test_a_low_rank_network_is_a_plain_one_with_its_products():
    ours, plain = build("low_rank", rank=3), build("relu")
    for own, other in ((ours.inner, plain.inner), (ours.outer, plain.outer)):
        other.weight.data, other.bias.data = own.up.weight.data @ own.down.weight.data, own.up.bias.data
    hidden = torch.randn(3, 7, 12)
    close(ours(hidden), plain(hidden), 1e-12)
    assert count(ours) == 2 * 3 * (12 + 20) + 20 + 12


def test_the_best_approximation_misses_the_smaller_singular_values():
    dense, hidden = nn.Linear(12, 20), torch.randn(5, 12)
    values = torch.linalg.svdvals(dense.weight)
    for rank in range(1, 13):
        low = Factored(12, 20, rank, bias=True)
        low.approximate(dense)
        error = low.up.weight @ low.down.weight - dense.weight
        close(error.square().sum(), values[rank:].square().sum(), 1e-10)
        close(torch.linalg.matrix_norm(error, ord=2), values[rank] if rank < 12 else torch.tensor(0.0), 1e-10)
    close(low(hidden), dense(hidden))


def test_a_grouped_network_is_a_plain_one_with_blocks():
    ours, plain = build("grouped", groups=4), build("relu")
    order = torch.arange(20).view(4, 5).T.flatten()  # unit j of the second map was unit order[j] of the first
    plain.inner.weight.data = torch.block_diag(*ours.inner.weight.mT)[order]
    plain.inner.bias.data = ours.inner.bias.data[order]
    plain.outer.weight.data, plain.outer.bias.data = torch.block_diag(*ours.outer.weight.mT), ours.outer.bias.data
    hidden = torch.randn(3, 7, 12)
    close(ours(hidden), plain(hidden), 1e-12)
    assert count(ours) == 2 * 12 * 20 // 4 + 20 + 12
    with pytest.raises(ConfigError, match="groups must divide"):
        build("grouped", groups=5)


def test_a_mixture_is_the_weighted_sum_of_each_tokens_experts():
    ours, hidden = build("mixture", experts=5, active=2, expert="relu"), torch.randn(3, 7, 12)
    found = ours(hidden)
    for row in range(3):
        for column in range(7):
            token = hidden[row, column]
            scores = (ours.router.scores.weight @ token).tolist()
            best = sorted(range(5), key=lambda expert: -scores[expert])[:2]
            weights = torch.tensor([scores[each] for each in best]).softmax(dim=0)
            expected = sum(
                w * ours.experts[each](token[None, None])[0, 0] for w, each in zip(weights, best, strict=True)
            )
            close(found[row, column], expected)


def test_one_expert_is_no_mixture():
    ours, plain = build("mixture", experts=1, active=1, expert="gelu"), build("gelu")
    plain.load_state_dict(ours.experts[0].state_dict())
    hidden = torch.randn(3, 7, 12)
    close(ours(hidden), plain(hidden))


def test_balance_is_its_formula_and_leaves_padding_out(tiny):
    model, ids = tiny(feedforward={"kind": "mixture", "experts": 3, "active": 2}), torch.randint(1, 23, (3, 7))
    valid = torch.arange(7) < torch.tensor([7, 4, 1])[:, None]
    with routings(model) as seen:
        model.encode(ids, valid)
    assert len(seen) == 2
    expected = 0.0
    for routing in seen:
        kept = [index for index, real in enumerate(valid.flatten().tolist()) if real]
        for expert in range(3):
            share = sum(expert in routing.chosen[each].tolist() for each in kept) / len(kept)
            expected += 3 * share * sum(routing.probabilities[each, expert].item() for each in kept) / len(kept) / 2
    assert balance(seen, valid).item() == pytest.approx(expected, abs=1e-12)


def test_balance_teaches_the_router_and_stops_with_the_block(tiny):
    model, ids = tiny(feedforward="mixture", decoder_layers=0), torch.randint(1, 23, (3, 7))
    with routings(model) as seen:
        model.encode(ids)
    balance(seen).backward()
    routers = [each for name, each in model.named_parameters() if ".router." in name]
    assert len(routers) == 2
    assert all(each.grad.any() for each in routers)
    model.encode(ids)
    assert len(seen) == 2


def test_too_many_active_experts_are_refused():
    with pytest.raises(ConfigError, match="3 active of 2 experts"):
        build("mixture", experts=2, active=3)
    with pytest.raises(ValidationError, match="did you mean 'swiglu'"):
        ModelConfig(feedforward={"kind": "mixture", "expert": "swigl"})


def test_a_mixture_survives_the_config_file():
    config = ModelConfig(feedforward={"kind": "mixture", "expert": {"kind": "swiglu", "two_thirds": True}})
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(("groups", "shared"), [(1, "block"), (2, "block"), (1, "feedforward"), (3, "feedforward")])
def test_layers_of_a_group_are_one(tiny, groups, shared):
    model = tiny(encoder_layers=5, decoder_layers=0, layer_groups=groups, shared=shared)
    blocks = model.encoder.blocks
    for index, block in enumerate(blocks):
        group = int(index / (5 / groups))  # as ALBERT counts
        for other, another in enumerate(blocks):
            together = int(other / (5 / groups)) == group
            assert (block.feedforward is another.feedforward) == together
            assert (block is another) == (together if shared == "block" else index == other)
    ids = torch.randint(1, 23, (3, 7))
    memorise(model, lambda: F.cross_entropy(model.logits(model(ids, None)).flatten(0, 1), (ids % 22 + 1).flatten()))


def test_shared_layers_are_copies_with_summed_gradients(tiny):
    shared, plain = tiny(decoder_layers=0, layer_groups=1, tie="none"), tiny(decoder_layers=0, tie="none")
    plain.load_state_dict(shared.state_dict())
    ids = torch.randint(1, 23, (3, 7))
    for each in (shared, plain):
        each(ids, None).square().sum().backward()
    close(shared(ids, None), plain(ids, None))
    own, other = dict(shared.named_parameters()), dict(plain.named_parameters())
    name = "encoder.blocks.0.feedforward.inner.weight"
    close(own[name].grad, other[name].grad + other[name.replace("0", "1")].grad)


def test_more_groups_than_layers_share_nothing(tiny):
    model = tiny(layer_groups=5)
    assert model.encoder.blocks[0] is not model.encoder.blocks[1]


def test_every_parameter_of_shared_layers_moves(tiny):
    for shared in ("block", "feedforward"):
        model = tiny(layer_groups=1, shared=shared)
        ids = torch.randint(1, 23, (3, 7))
        all_move(model, model.logits(model(ids, ids)).square().mean())
