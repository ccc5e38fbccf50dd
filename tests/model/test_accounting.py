"""Closed forms of what a model costs against what is measured: counted elements, and torch's own counter of FLOPs."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from clearhead.core.errors import ClearheadError
from clearhead.core.registry import Registry
from clearhead.generate import DenseCache
from clearhead.model import ModelConfig, Transformer
from clearhead.model.accounting import account, activation_bytes, activations, cache_elements, flops, parameters
from clearhead.model.attention import ATTENTIONS, PROJECTIONS, short
from clearhead.model.embedding import EMBEDDING_JOINS, EMBEDDINGS
from clearhead.model.feedforward import FEEDFORWARDS
from clearhead.model.fused.library import library, why_not
from clearhead.model.head import HEADS
from clearhead.model.norm import NORMS
from clearhead.model.position import POSITIONS
from clearhead.model.residual import RESIDUALS
from clearhead.model.stack import STACKS

FAMILIES: dict[str, Registry[Any]] = {
    "position": POSITIONS,
    "attention": ATTENTIONS,
    "projections": PROJECTIONS,
    "embedding": EMBEDDINGS,
    "embedding_join": EMBEDDING_JOINS,
    "norm": NORMS,
    "residual": RESIDUALS,
    "feedforward": FEEDFORWARDS,
    "stack": STACKS,
    "head": HEADS,
}
needs_compiler = pytest.mark.skipif(library() is None, reason=why_not() or "")
LAYERS = {"encoder-decoder": (2, 3), "encoder-only": (2, 0), "decoder-only": (0, 3)}
SIZES = {"d_model": 12, "heads": 2, "d_ff": 20, "length": 256, "source_vocab": 23, "target_vocab": 23}
SOURCE, TARGET = 5, 7


def choices() -> Iterator[dict[str, Any]]:
    """Every part of every family, its needed options filled in."""
    for family, registry in FAMILIES.items():
        for name in registry.names():
            options = registry.options(name)
            needed = {key: 3 for key, each in options.items() if each.default is each.empty}
            blocks = {key: 8 for key in ("window", "chunk", "block") if key in options}
            yield {family: {"kind": name, **needed, **blocks}}


def config_or_none(kind: str, **changes: Any) -> ModelConfig | None:
    """A tiny config, or None where a kind of model cannot have a part."""
    encoder, decoder = LAYERS[kind]
    free = {} if "embedding" not in changes else {"tie": "none"}
    free |= {"cross_attention": "dot"} if "attention" in changes else {}
    try:
        return ModelConfig(**{**SIZES, "encoder_layers": encoder, "decoder_layers": decoder, **free, **changes})
    except (ClearheadError, ValueError):
        return None


def config(kind: str, **changes: Any) -> ModelConfig:
    """The same, or a skip."""
    found = config_or_none(kind, **changes)
    if found is None:
        pytest.skip("this kind of model cannot have this part")
    return found


EACH_KIND = pytest.mark.parametrize("kind", LAYERS)
EACH_PART = pytest.mark.parametrize("part", list(choices()), ids=str)
MORE = [
    {"kv_heads": 1},
    {"heads": 3, "d_head": 8},
    {"tie": "none", "source_vocab": 23, "target_vocab": 23, "bias": False},
    {"layer_groups": 1},
    {"layer_groups": 1, "shared": "feedforward"},
    {"window": 3},
    {"segments": 2, "embedding_norm": True},
]
EACH_CHANGE = pytest.mark.parametrize("change", MORE, ids=str)


def run(model: Transformer, source: int, target: int) -> Tensor:
    """One sequence, all logits."""
    hidden = model(activations.sample(model, source)[0], activations.sample(model, target)[1])
    return model.logits(hidden)


def places(model: Transformer) -> int:
    """Positions that the source takes."""
    source = activations.sample(model, SOURCE)[0]
    return SOURCE if source is None else model.encoder.embedding.length(source)


def native() -> AbstractContextManager[None]:
    """Recurrent layers by torch's own loops."""
    context: AbstractContextManager[None] = torch.backends.mkldnn.flags(enabled=False)
    return context


def counted(model: Transformer) -> tuple[int, int]:
    """FLOPs forward and backward as torch counts them, attention and recurrence by plain formulas that it knows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(short, "can_attend", lambda *_: False)  # torch counts none that are not its own
        with sdpa_kernel(SDPBackend.MATH), native(), FlopCounterMode(display=False) as forward:
            loss = run(model, SOURCE, TARGET).sum()
    with sdpa_kernel(SDPBackend.MATH), native(), FlopCounterMode(display=False) as backward:
        loss.backward()
    return forward.get_total_flops(), backward.get_total_flops()


def agree(found: ModelConfig) -> None:
    model = Transformer(found)
    costs = flops(model, places(model), TARGET).values()
    assert (sum(each.forward for each in costs), sum(each.backward for each in costs)) == counted(model)
    assert sum(parameters(found).values()) == sum(each.numel() for each in model.parameters())


@EACH_KIND
@EACH_PART
def test_flops_and_parameters_are_those_that_are_counted(kind, part):
    agree(config(kind, **part))


@EACH_KIND
@EACH_CHANGE
def test_flops_and_parameters_follow_the_sizes(kind, change):
    agree(config(kind, **change))


def test_an_encoder_layer_of_the_paper():
    one, none = (ModelConfig(source_vocab=9, target_vocab=9, encoder_layers=n, decoder_layers=0) for n in (2, 1))
    layer = sum(parameters(one).values()) - sum(parameters(none).values())
    assert layer == 3_152_384
    assert layer == (4 * 512**2 + 4 * 512) + (2 * 512 * 2048 + 2048 + 512) + 2 * 2 * 512


@pytest.mark.parametrize("heads", [1, 2, 4, 8, 16, 512])
def test_the_number_of_heads_costs_nothing(heads):
    base = ModelConfig(source_vocab=9, target_vocab=9, encoder_layers=1, decoder_layers=0, heads=heads)
    assert parameters(base)["attention"] == 4 * 512**2 + 4 * 512
    forward = flops(Transformer(base), 10, 0)["attention"].forward
    assert forward == 10 * 8 * 512**2 + 4 * 10 * 10 * 512  # four maps, and two products of every pair


def test_the_base_model_of_the_paper():
    """63 to 65 million with the 37,000 byte-pair tokens that Vaswani et al., 2017, section 5.1 share."""
    counts = parameters(ModelConfig(source_vocab=37_000, target_vocab=37_000))
    d, ff, vocab = 512, 2048, 37_000
    attention, feedforward = 4 * d * d + 4 * d, 2 * d * ff + ff + d
    assert counts == {
        "embedding": vocab * d,
        "attention": 12 * attention,
        "cross": 6 * attention,
        "feedforward": 12 * feedforward,
        "norm": (6 * 2 + 6 * 3) * 2 * d,
    }
    assert 63e6 < sum(counts.values()) < 65e6


def test_a_token_costs_two_operations_for_each_weight_it_meets():
    """The rule of thumb 2 N forward and 6 N in all (Kaplan et al., 2020), once attention is small beside the maps."""
    gpt = ModelConfig(source_vocab=0, target_vocab=4_000, encoder_layers=0, d_model=256, heads=4, d_ff=1024, bias=False)
    total = account(gpt, 8).total
    assert total.forward_flops == pytest.approx(2 * total.parameters, rel=0.01)
    assert total.backward_flops == 2 * total.forward_flops


@EACH_KIND
@EACH_CHANGE
def test_cache_elements_are_those_of_a_cache(kind, change):
    model = Transformer(config(kind, **change)).eval()
    expected = cache_elements(model, SOURCE, TARGET)
    if kind == "encoder-only":
        assert not expected
        return
    memory = model.encode(torch.full((1, SOURCE), 2)) if kind == "encoder-decoder" else None
    cache = DenseCache(model.config.decoder_layers)
    model.decode(torch.full((1, TARGET), 2), memory, cache=cache, positions=torch.arange(TARGET)[None])
    layers = [cache.layer(index) for index in range(model.config.decoder_layers)]
    own = sum(each.key[:, :, : each.length].numel() + each.value[:, :, : each.length].numel() for each in layers)
    cross = sum(tensor.numel() for each in layers for tensor in each.source or ())
    assert expected == {"attention": own} | ({"cross": cross} if cross else {})


def test_optimizer_bytes_are_those_of_adam():
    small = config("encoder-decoder")
    model = Transformer(small)
    optimizer = torch.optim.Adam(model.parameters())
    run(model, SOURCE, TARGET).sum().backward()
    optimizer.step()
    moments = [each[name] for each in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert account(small, 7).total.optimizer_bytes == sum(each.numel() * each.element_size() for each in moments)


def activations_agree(part: dict[str, Any], length: int) -> None:
    kinds = ("encoder-decoder", "encoder-only")
    whole = next(each for each in (config_or_none(kind, **part) for kind in kinds) if each)
    model = Transformer(whole).train()
    direct = activations.held(model, lambda: model.head.transform(model(*activations.sample(model, length))))
    found = {name: each for name, each in activation_bytes(whole, length).items() if each}
    assert found == (pytest.approx(direct, rel=0.01) if "stack" in part else direct)  # dilated layers differ a little


@EACH_PART
def test_activations_are_those_that_autograd_holds(part):
    """From one and two layers to all of them."""
    activations_agree(part, 29)


@pytest.mark.parametrize("part", [each for each in choices() if {"position", "attention"} & each.keys()], ids=str)
def test_activations_of_a_long_text_follow_from_shorter_ones(part, monkeypatch):
    """From texts of 48, 64 and 80 tokens to one of 96, for the parts that look at pairs of tokens."""
    monkeypatch.setattr(activations, "STEP", 16)
    activations_agree(part, 96)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=needs_compiler)])
def test_activations_of_a_layer_of_the_paper_in_closed_form(compiled, monkeypatch):
    """By hand, for one encoder layer without dropout, in numbers of float32."""
    if not compiled:
        monkeypatch.setattr(short, "can_attend", lambda *_: False)
    d, ff, heads, length = 512, 2048, 8, 48
    sizes = {"source_vocab": 9, "target_vocab": 9, "decoder_layers": 0, "dropout": 0.0}
    two, one = (activation_bytes(ModelConfig(encoder_layers=n, **sizes), length) for n in (2, 1))
    found = {name: (two[name] - one[name]) / 4 for name in two if two[name] != one[name]}
    of_heads = (
        heads + d if compiled else heads * length + d + d
    )  # sums of scores; or weights, mix; then its heads joined
    assert found == {
        "attention": length * (d + 3 * d + of_heads),  # input; Q, K, V
        "feedforward": length * (d + ff),  # input, and what the ReLU has let through
        "norm": 2 * length * (d + 2),  # the sum before each, and mean and deviation of each row
    }


def test_an_account_adds_up():
    found = account(config("encoder-decoder"), 16)
    for name in ("parameters", "forward_flops", "activation_bytes", "cache_bytes", "optimizer_bytes"):
        assert getattr(found.total, name) == sum(getattr(each, name) for each in found.lines.values()) > 0
