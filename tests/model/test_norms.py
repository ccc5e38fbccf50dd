"""Norms and residuals compute what torch or a loop computes; padding does not count."""

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn
from torch_twin import close, shake

from clearhead.core.errors import ConfigError, ModelError
from clearhead.core.registry import Choice
from clearhead.model.attention import PROJECTIONS
from clearhead.model.norm import NORMS, BatchNorm, GroupNorm, NoisyBatchNorm, PositionalBatchNorm, PowerNorm
from clearhead.model.residual import RESIDUALS, Depth

pytestmark = pytest.mark.usefixtures("double")

LENGTHS = torch.tensor([7, 4, 1])
VALID = torch.arange(7) < LENGTHS[:, None]  # (batch, length)
EACH_NORM = pytest.mark.parametrize("name", NORMS.names())
EACH_RESIDUAL = pytest.mark.parametrize("name", RESIDUALS.names())


def twin(ours: BatchNorm) -> nn.BatchNorm1d:
    """torch's batch norm with our gain and bias."""
    shake(ours)
    theirs = nn.BatchNorm1d(12)
    theirs.weight.data, theirs.bias.data = ours.weight.data.clone(), ours.bias.data.clone()
    return theirs


def test_batch_norm_is_that_of_torch_while_training_and_after():
    ours = BatchNorm(12)
    theirs = twin(ours)
    for hidden in 3 * torch.randn(4, 3, 7, 12) + 1:
        close(ours(hidden), theirs(hidden.mT).mT, 1e-12)  # theirs: (batch, features, length)
        close(ours(hidden.flatten(0, 1)), theirs(hidden.flatten(0, 1)), 1e-12)  # (tokens, features)
    close(ours.mean[0], theirs.running_mean, 1e-12)
    close(ours.variance[0], theirs.running_var, 1e-12)
    ours.eval(), theirs.eval()
    close(ours(hidden), theirs(hidden.mT).mT, 1e-12)


def test_batch_norm_leaves_padding_out():
    ours = BatchNorm(12)
    theirs, hidden = twin(ours), 3 * torch.randn(3, 7, 12) + 1
    close(ours(hidden, VALID)[VALID], theirs(hidden[VALID]), 1e-12)
    close(ours.variance[0], theirs.running_var, 1e-12)


def test_the_gradients_of_batch_norm_are_those_of_torch():
    ours = BatchNorm(12)
    theirs, hidden, direction = twin(ours), torch.randn(3, 7, 12, requires_grad=True), torch.randn(12, 12)
    found = torch.autograd.grad((ours(hidden, VALID)[VALID] * direction).sum(), (hidden, ours.weight, ours.bias))
    other = (hidden, theirs.weight, theirs.bias)
    wanted = torch.autograd.grad((theirs(hidden[VALID]) * direction).sum(), other)
    for mine, expected in zip(found, wanted, strict=True):
        close(mine, expected)


def test_statistics_by_position_are_those_of_each_column():
    ours, hidden = PositionalBatchNorm(12, length=9), torch.randn(3, 7, 12)
    found = ours(hidden, VALID)
    for column in range(7):
        tokens = hidden[VALID[:, column], column]  # (rows that reach it, features)
        expected = (tokens - tokens.mean(dim=0)) / (tokens.var(dim=0, unbiased=False) + 1e-5).sqrt()
        close(found[VALID[:, column], column], expected, 1e-12)
    close(ours.mean[:7], torch.stack([0.1 * hidden[VALID[:, c], c].mean(dim=0) for c in range(7)]), 1e-12)
    assert not ours.mean[7:].any()
    assert (ours.variance[7:] == 1).all()
    with pytest.raises(ModelError, match="found 10 tokens; expected 9; shorten"):
        ours(torch.randn(1, 10, 12))


def test_statistics_by_position_cannot_serve_a_decoder(tiny):
    with pytest.raises(ValidationError, match="cannot serve a decoder"):
        tiny(norm="positional_batchnorm")


def test_power_norm_divides_by_the_quadratic_mean():
    ours, hidden = PowerNorm(12), torch.randn(3, 7, 12) + 2
    close(ours(hidden), hidden / (hidden.square().mean(dim=(0, 1)) + 1e-5).sqrt(), 1e-12)


def test_noise_comes_only_while_training():
    ours, plain, hidden = NoisyBatchNorm(12), BatchNorm(12), torch.randn(3, 7, 12)
    assert not torch.allclose(ours(hidden), plain(hidden))
    close(ours.eval()(hidden), plain.eval()(hidden))


@pytest.mark.parametrize("groups", [1, 2, 3, 12])
def test_group_norm_is_that_of_torch(groups):
    ours, theirs, hidden = GroupNorm(12, groups=groups), nn.GroupNorm(groups, 12), torch.randn(3, 7, 12)
    shake(ours)
    theirs.weight.data, theirs.bias.data = ours.weight.data, ours.bias.data
    close(ours(hidden).flatten(0, 1), theirs(hidden.flatten(0, 1)), 1e-12)


def test_groups_must_divide_the_features():
    with pytest.raises(ConfigError, match="found 5 groups, 12 features"):
        GroupNorm(12, groups=5)


@EACH_NORM
def test_every_norm_takes_any_leading_shape_and_keeps_it(name):
    norm = NORMS.build(Choice(kind=name), 12).eval()
    hidden = torch.randn(3, 7, 12)
    close(norm(hidden).flatten(0, 1), norm(hidden.flatten(0, 1)))


@EACH_NORM
def test_the_gradient_of_a_norm_is_right_while_training(name):
    norm = NORMS.build(Choice(kind=name), 6)
    shake(norm)

    def run(hidden: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(5)
        return norm(hidden, VALID)[VALID]

    assert torch.autograd.gradcheck(run, torch.randn(3, 7, 6, requires_grad=True), fast_mode=True)


def residual(name: str, *, decodes: bool = True) -> nn.Module:
    depth = Depth(encoder_layers=6, decoder_layers=18, decodes=decodes)
    return RESIDUALS.build(Choice(kind=name), lambda: NORMS.build(Choice(kind="layernorm"), 12), 0.0, depth)


FORMULAS = {
    "post": lambda x, f, n: n(x + f(x)),
    "pre": lambda x, f, n: x + f(n(x)),
    "sandwich": lambda x, f, n: x + n(f(n(x))),
    "none": lambda x, f, n: n(f(x)),
    "deepnorm": lambda x, f, n: n((3 * 18) ** 0.25 * x + f(x)),
}


@EACH_RESIDUAL
def test_a_residual_is_its_formula(name):
    hidden, linear = torch.randn(3, 7, 12), nn.Linear(12, 12)
    close(residual(name)(hidden, linear), FORMULAS[name](hidden, linear, lambda x: F.layer_norm(x, (12,))), 1e-12)


def test_the_jacobian_of_pre_norm_is_the_identity_and_that_of_the_sublayer():
    joined, linear, hidden = residual("pre"), nn.Linear(12, 12), torch.randn(12)
    whole = torch.autograd.functional.jacobian(lambda x: joined(x, linear), hidden)
    inner = torch.autograd.functional.jacobian(lambda x: linear(joined.norm(x)), hidden)
    close(whole, torch.eye(12) + inner)


DEPTHS = {  # encoder, decoder, decodes -> alpha, beta: Wang et al., 2022, figure 2
    (16, 0, False): (32**0.25, 128**-0.25),
    (0, 16, True): (32**0.25, 128**-0.25),
    (6, 18, True): (54**0.25, 216**-0.25),
    (6, 18, False): (0.81 * (6**4 * 18) ** 0.0625, 0.87 * (6**4 * 18) ** -0.0625),
}


@pytest.mark.parametrize("depth", DEPTHS)
def test_deepnorm_has_the_constants_of_the_paper(depth):
    encoder, decoder, decodes = depth
    depth_of = Depth(encoder_layers=encoder, decoder_layers=decoder, decodes=decodes)
    ours = RESIDUALS.build(Choice(kind="deepnorm"), lambda: nn.Identity(), 0.0, depth_of)
    assert (ours.alpha, ours.beta) == pytest.approx(DEPTHS[depth])


@pytest.mark.parametrize("projections", PROJECTIONS.names())
def test_deepnorm_starts_with_smaller_values_outputs_and_feed_forward_networks(tiny, projections):
    torch.manual_seed(1)
    plain = tiny(residual="post", projections=projections)
    torch.manual_seed(1)
    model, hidden = tiny(residual="deepnorm", projections=projections), torch.randn(3, 7, 12)
    beta = {"encoder": 0.87 * (2**4 * 2) ** -0.0625, "decoder": (12 * 2) ** -0.25}
    before = dict(plain.named_parameters())
    for name, parameter in model.named_parameters():
        if name.endswith(("output.weight", "inner.weight", "outer.weight")):
            close(parameter, beta[name[:7]] * before[name])
        elif ".projections." not in name:
            close(parameter, before[name])
    own, other = (each.decoder.blocks[0].attention.projections.all(hidden) for each in (model, plain))
    close(own[0], other[0])
    close(own[1], other[1])
    close(own[2], other[2] if projections == "identity" else beta["decoder"] * other[2])


def test_a_token_type_table_and_norm_stand_before_the_first_block(tiny):
    model, ids, kinds = tiny(segments=2, embedding_norm=True), torch.randint(1, 23, (3, 7)), torch.randint(2, (3, 7))
    stack = model.encoder
    table, rows = stack.embedding.table, stack.embedding_sum.segments.table
    positions = stack.embedding_sum.position.add(torch.zeros(12), torch.arange(7)[None])
    expected = F.layer_norm(12**0.5 * table[ids] + positions + rows[kinds], (12,))
    close(stack.embedding_sum(stack.embedding(ids), torch.arange(7)[None], kinds), expected)
    assert not torch.allclose(model.encode(ids).hidden, model.encode(ids, segments=kinds).hidden)
    close(model.encode(ids).hidden, model.encode(ids, segments=torch.zeros_like(kinds)).hidden)
    with pytest.raises(ModelError, match="no token types"):
        tiny().encode(ids, segments=kinds)
