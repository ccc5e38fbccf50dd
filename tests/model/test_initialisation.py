"""W_Q, W_K and W_V before training: each kind has the numbers it promises, and the standard one changes nothing."""

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch_twin import close

from clearhead.core.errors import ConfigError
from clearhead.core.registry import Choice
from clearhead.model import NO_CACHE, OPEN, ModelConfig, Transformer
from clearhead.model.attention import INITIALISATIONS, PROJECTIONS, Dot, Projections, SelfAttention
from clearhead.model.forward_pass import Pass
from clearhead.model.position import NoPosition
from clearhead.model.residual.base import Depth
from clearhead.model.residual.deepnorm import constants

SIZES = {"encoder_layers": 1, "decoder_layers": 1, "heads": 2, "d_ff": 20, "source_vocab": 23, "target_vocab": 23}
OTHERS = [each for each in INITIALISATIONS.names() if each != "standard"]
EACH_PROJECTIONS = pytest.mark.parametrize("projections", PROJECTIONS.names())


def matrices(model: Transformer) -> list[dict[str, Tensor]]:
    """Of self-attention and cross-attention in turn."""
    return [each.matrices() for each in model.modules() if isinstance(each, Projections)]


def made(d_model: int, **changes: object) -> Transformer:
    return Transformer(ModelConfig(**{**SIZES, "d_model": d_model, **changes}))


@EACH_PROJECTIONS
def test_matrices_are_what_the_projections_multiply_with(tiny, projections):
    made = tiny(projections=projections, bias=False).encoder.blocks[0].attention.projections
    hidden, found = torch.randn(3, 7, 12), made.matrices()
    query, (key, value) = made.queries(hidden), made.keys_values(hidden)
    states = {"query": query, "key": key, "value": value}
    assert found.keys() <= states.keys()
    for name, weight in found.items():
        close(states[name], made.split(hidden @ weight.T), 1e-6)


@pytest.mark.parametrize("projections", ["fused", "separate", "shared_qk"])
@pytest.mark.parametrize(
    ("initialisation", "deviation"),
    [
        ("glorot", 64**-0.5),
        ({"kind": "glorot", "gain": 0.5}, 0.5 * 64**-0.5),
        ("normal", 0.02),
        ({"kind": "normal", "deviation": None}, 64**-0.5),
        ("orthogonal", 64**-0.5),
    ],
    ids=str,
)
def test_the_deviation_is_that_of_the_formula(projections, initialisation, deviation):
    for each in matrices(made(64, projections=projections, qkv_initialisation=initialisation)):
        for weight in each.values():
            assert weight.std().item() == pytest.approx(deviation, rel=0.05)
            assert abs(weight.mean().item()) < 0.05 * deviation


def test_standard_rows_of_one_matrix_are_smaller_by_the_root_of_two():
    for fused in matrices(made(64)):
        for weight in fused.values():
            assert weight.std().item() == pytest.approx((2 * 64) ** -0.5, rel=0.05)


def test_grouped_heads_have_their_own_fan():
    (own, *_) = matrices(made(64, kv_heads=1, qkv_initialisation="glorot"))
    assert own["query"].std().item() == pytest.approx(64**-0.5, rel=0.05)
    assert own["key"].std().item() == pytest.approx((2 / 96) ** 0.5, rel=0.05)  # 64 inputs, 32 outputs


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_orthogonal_rows_are_orthogonal(double, kv_heads):
    for each in matrices(made(12, kv_heads=kv_heads, qkv_initialisation={"kind": "orthogonal", "gain": 3.0})):
        for weight in each.values():
            close(weight @ weight.T, 9 * torch.eye(len(weight)))


@pytest.mark.parametrize("stack", ["transformer", "lstm"])  # the second one's attention stands in no block
def test_identity_is_attention_without_projections(double, stack):
    model = made(12, stack=stack, qkv_initialisation="identity")
    assert len(matrices(model)) == (3 if stack == "transformer" else 1)
    for each in matrices(model):
        assert all(torch.equal(weight, torch.eye(12)) for weight in each.values())


def test_a_model_that_starts_with_the_identity_attends_as_one_without_projections(tiny, double):
    start = tiny(qkv_initialisation="identity")
    other = tiny(projections="identity")
    weights = start.state_dict()
    other.load_state_dict({key: value for key, value in weights.items() if "projections" not in key})
    source, target = torch.randint(23, (3, 7)), torch.randint(23, (3, 5))
    close(start(source, target), other(source, target), 1e-12)


@pytest.mark.parametrize("initialisation", OTHERS)
@pytest.mark.parametrize("projections", ["fused", "separate", "shared_qk"])
def test_nothing_else_changes(tiny, initialisation, projections):
    """Biases stay zero; the other tensors of the model have the kinds of numbers they had."""
    model = tiny(projections=projections, qkv_initialisation=initialisation)
    usual = tiny(projections=projections)
    for (name, weight), before in zip(model.named_parameters(), usual.parameters(), strict=True):
        assert weight.shape == before.shape
        if weight.dim() == 1:
            assert torch.equal(weight, before), name
        elif "projections" not in name:
            assert weight.std().item() == pytest.approx(before.std().item(), rel=0.5), name


def test_the_standard_choice_draws_nothing_and_changes_nothing():
    for projections in PROJECTIONS.names():
        torch.manual_seed(3)
        config = ModelConfig(**SIZES, d_model=12, projections=projections)
        given, after = Transformer(config), torch.rand(1)
        torch.manual_seed(3)
        other = Transformer(ModelConfig.model_validate(config.model_dump(mode="json")))
        assert torch.equal(after, torch.rand(1))
        assert all(torch.equal(a, b) for a, b in zip(given.parameters(), other.parameters(), strict=True))
    torch.manual_seed(3)
    fused = PROJECTIONS.build(Choice(kind="fused"), ModelConfig(**SIZES, d_model=12).sizes, True)
    torch.manual_seed(3)
    assert torch.equal(fused.weight, torch.nn.init.xavier_uniform_(torch.empty(36, 12)))
    weight = torch.randn(6, 5)
    before, state = weight.clone(), torch.get_rng_state()
    INITIALISATIONS.build(Choice(kind="standard"))(weight)
    assert torch.equal(weight, before)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("projections", ["fused", "separate", "shared_qk"])
def test_deepnorm_scales_values_after_any_initialisation(double, projections):
    model = made(12, residual="deepnorm", projections=projections, qkv_initialisation="orthogonal")
    _, beta = constants(Depth(encoder_layers=1, decoder_layers=1, decodes=False))
    own = model.encoder.blocks[0].attention.projections.matrices()
    close(own["query"] @ own["query"].T, torch.eye(12))
    close(own["value"] @ own["value"].T, beta**2 * torch.eye(12))


def test_what_has_no_matrices_is_refused():
    with pytest.raises(
        (ConfigError, ValidationError), match="projections identity have no matrices to initialise; found normal"
    ):
        ModelConfig(**SIZES, d_model=12, projections="identity", qkv_initialisation="normal")


def test_a_wrong_name_is_refused_with_the_nearest():
    with pytest.raises(
        (ConfigError, ValidationError),
        match=r"no qkv_initialisation of kind 'orthogonl'; .*did you mean 'orthogonal'\?",
    ):
        ModelConfig(**SIZES, d_model=12, qkv_initialisation="orthogonl")


@EACH_PROJECTIONS
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_of_the_projections_are_finite_differences(double, projections, bias):
    """Every element of W_Q, W_K, W_V and their biases: central differences, relative error below 1e-6."""
    sizes = ModelConfig(**{**SIZES, "d_model": 6}).sizes
    parts = PROJECTIONS.build(Choice(kind=projections), sizes, bias)
    attention = SelfAttention(parts, Dot(2, 3, 0.0), NoPosition(6, 2, 3, 7), bias=bias)
    for each in parts.parameters():
        torch.nn.init.normal_(each)
    hidden, direction, places = torch.randn(3, 5, 6), torch.randn(3, 5, 6), torch.arange(5)[None]

    def run() -> Tensor:
        return (attention(hidden, Pass(places, OPEN), NO_CACHE.layer(0)) * direction).sum()

    run().backward()
    for parameter in parts.parameters():
        found = torch.zeros_like(parameter)
        with torch.no_grad():
            for index in range(parameter.numel()):
                element, step = parameter.view(-1)[index : index + 1], 1e-5
                values = []
                for move in (step, -2 * step):
                    element += move
                    values.append(run().item())
                element += step
                found.view(-1)[index] = (values[0] - values[1]) / (2 * step)
        size = max(parameter.grad.norm(), 1e-3)  # that of a key bias is zero: it moves all scores of a query alike
        assert (found - parameter.grad).norm() < 1e-6 * size
