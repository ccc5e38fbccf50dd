"""The model computes what torch's own modules compute with the same weights: outputs and all gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch_twin import close, copy, pairs, shake, twin

from clearhead.core.registry import Choice
from clearhead.model import CAUSAL, NO_CACHE, AttentionMask, Memory, ModelConfig, Transformer
from clearhead.model.attention import CrossAttention, Dot, Fused, HeadSizes, SelfAttention
from clearhead.model.feedforward import FEEDFORWARDS
from clearhead.model.feedforward.gated import Gated
from clearhead.model.feedforward.plain import Plain
from clearhead.model.forward_pass import Pass
from clearhead.model.norm import LayerNorm, RMSNorm
from clearhead.model.position import UNRELATED, NoPosition
from clearhead.model.position.sinusoidal import sinusoidal_table

pytestmark = pytest.mark.usefixtures("double")

BATCH, SOURCE, TARGET, VOCAB = 3, 7, 5, 23
LENGTHS = torch.tensor([7, 4, 1])
VALID = torch.arange(SOURCE) < LENGTHS[:, None]  # (batch, source)
EACH_SHAPE = pytest.mark.parametrize(
    ("residual", "feedforward"), [(norm, act) for norm in ("post", "pre") for act in ("relu", "gelu")]
)


def each_feedforward(kind: type) -> pytest.MarkDecorator:
    names = [each for each in FEEDFORWARDS.names() if issubclass(FEEDFORWARDS.get(each), kind)]
    return pytest.mark.parametrize("name", names)


EACH_PLAIN, EACH_GATED = each_feedforward(Plain), each_feedforward(Gated)


def source_and_target() -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.randint(1, VOCAB, (BATCH, SOURCE)).masked_fill(~VALID, 0)
    return source, torch.randint(1, VOCAB, (BATCH, TARGET))


def later(length: int) -> torch.Tensor:
    """torch's causal mask: True where a key is hidden, (length, length)."""
    return torch.ones(length, length, dtype=torch.bool).triu(1)


@EACH_SHAPE
def test_the_whole_model_is_that_of_torch(tiny, residual, feedforward):
    ours = tiny(residual=residual, feedforward=feedforward, tie="none")
    theirs, matched = twin(ours)
    own_tables = ours.encoder.embedding.table, ours.decoder.embedding.table
    tables = [each.detach().clone().requires_grad_() for each in own_tables]
    source, target = source_and_target()
    embedded = [
        math.sqrt(12) * F.embedding(ids, table, padding_idx=0) + sinusoidal_table(ids.shape[1], 12)
        for ids, table in zip((source, target), tables, strict=True)
    ]
    expected = theirs(*embedded, tgt_mask=later(TARGET), src_key_padding_mask=~VALID, memory_key_padding_mask=~VALID)
    found = ours(source, target, source_valid=VALID)
    close(found, expected)

    direction = torch.randn_like(expected)
    (found * direction).sum().backward()
    (expected * direction).sum().backward()
    for own, other in [*matched, *zip(own_tables, tables, strict=True)]:
        close(own.grad, other.grad)


@EACH_SHAPE
def test_the_encoder_is_that_of_torch(tiny, residual, feedforward):
    ours = tiny(residual=residual, feedforward=feedforward)
    theirs, _ = twin(ours)
    source, _ = source_and_target()
    embedded = math.sqrt(12) * ours.encoder.embedding.table[source] + sinusoidal_table(SOURCE, 12)
    expected = theirs.encoder(embedded, src_key_padding_mask=~VALID)
    close(ours.encode(source, VALID).hidden[VALID], expected[VALID])


@EACH_SHAPE
def test_the_decoder_is_that_of_torch_with_padded_targets_too(tiny, residual, feedforward):
    ours = tiny(residual=residual, feedforward=feedforward)
    theirs, _ = twin(ours)
    _, target = source_and_target()
    target_valid = torch.arange(TARGET) < torch.tensor([5, 2, 3])[:, None]
    memory = torch.randn(BATCH, SOURCE, 12)
    embedded = math.sqrt(12) * ours.decoder.embedding.table[target] + sinusoidal_table(TARGET, 12)
    expected = theirs.decoder(
        embedded, memory, tgt_mask=later(TARGET), tgt_key_padding_mask=~target_valid, memory_key_padding_mask=~VALID
    )
    found = ours.decode(target, Memory(memory, VALID), valid=target_valid)
    close(found[target_valid], expected[target_valid])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_self_attention_is_that_of_torch(bias, causal):
    ours = SelfAttention(Fused(SIZES, bias), Dot(2, 6, 0.0), NoPosition(12, 2, 6, 7), bias=bias)
    theirs = nn.MultiheadAttention(12, 2, bias=bias, batch_first=True)
    matched = attention_pairs(ours, theirs)
    hidden = torch.randn(BATCH, SOURCE, 12)
    mask = AttentionMask(causal=causal, valid=VALID)
    found = ours(hidden, Pass(torch.arange(SOURCE)[None], mask), NO_CACHE)
    hidden_too = {"key_padding_mask": ~VALID, "attn_mask": later(SOURCE) if causal else None}
    expected, _ = theirs(hidden, hidden, hidden, **hidden_too)
    agree(found, expected, matched)


@pytest.mark.parametrize("bias", [True, False])
def test_cross_attention_is_that_of_torch(bias):
    ours = CrossAttention(Fused(SIZES, bias), Dot(2, 6, 0.0), bias=bias)
    theirs = nn.MultiheadAttention(12, 2, bias=bias, batch_first=True)
    matched = attention_pairs(ours, theirs)
    hidden, memory = torch.randn(BATCH, TARGET, 12), torch.randn(BATCH, SOURCE, 12)
    found = ours(hidden, Memory(memory, VALID), NO_CACHE)
    expected, _ = theirs(hidden, memory, memory, key_padding_mask=~VALID)
    agree(found, expected, matched)


def test_the_weights_of_each_head_are_those_of_torch():
    ours = SelfAttention(Fused(SIZES, True), Dot(2, 6, 0.0), NoPosition(12, 2, 6, 7), bias=True)
    theirs = nn.MultiheadAttention(12, 2, batch_first=True)
    attention_pairs(ours, theirs)
    hidden = torch.randn(BATCH, SOURCE, 12)
    query, key, _ = ours.projections.all(hidden)
    found = ours.kernel.weights(query, key, AttentionMask(valid=VALID), UNRELATED)
    _, expected = theirs(hidden, hidden, hidden, key_padding_mask=~VALID, average_attn_weights=False)
    close(found, expected)


SIZES = HeadSizes(d_model=12, heads=2, kv_heads=2, d_head=6)


def attention_pairs(ours: nn.Module, theirs: nn.Module) -> list[tuple[nn.Parameter, nn.Parameter]]:
    shake(ours)
    matched = list(zip((*ours.projections.parameters(), *ours.output.parameters()), theirs.parameters(), strict=True))
    copy(matched)
    return matched


def agree(found: torch.Tensor, expected: torch.Tensor, matched: list[tuple[nn.Parameter, nn.Parameter]]) -> None:
    close(found, expected)
    direction = torch.randn_like(found)
    (found * direction).sum().backward()
    (expected * direction).sum().backward()
    for own, other in matched:
        close(own.grad, other.grad)


def test_layer_norm_is_its_formula():
    ours, hidden = LayerNorm(12), 5 * torch.randn(BATCH, SOURCE, 12) + 3
    shake(ours)
    centred = hidden - hidden.mean(dim=-1, keepdim=True)
    expected = centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt() * ours.weight + ours.bias
    close(ours(hidden), expected, 1e-12)
    close(ours(hidden), F.layer_norm(hidden, (12,), ours.weight, ours.bias, 1e-5), 1e-12)


def test_rms_norm_is_its_formula():
    ours, hidden = RMSNorm(12), 5 * torch.randn(BATCH, SOURCE, 12) + 3
    shake(ours)
    expected = hidden / (hidden.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt() * ours.weight
    close(ours(hidden), expected, 1e-12)
    close(ours(hidden), F.rms_norm(hidden, (12,), ours.weight, 1e-6), 1e-12)


@EACH_PLAIN
def test_a_feed_forward_network_is_two_convolutions_of_width_one(name):
    ours = FEEDFORWARDS.build(Choice(kind=name), 12, 20, 0.0, True)
    shake(ours)
    inner, outer = nn.Conv1d(12, 20, 1), nn.Conv1d(20, 12, 1)
    for conv, linear in ((inner, ours.inner), (outer, ours.outer)):
        conv.weight.data, conv.bias.data = linear.weight.data[:, :, None], linear.bias.data
    hidden = torch.randn(BATCH, SOURCE, 12)
    close(ours(hidden), outer(ours.activation(inner(hidden.mT))).mT, 1e-12)


@EACH_GATED
def test_a_gate_multiplies_the_inner_map(name):
    ours = FEEDFORWARDS.build(Choice(kind=name), 12, 20, 0.0, True)
    shake(ours)
    hidden = torch.randn(BATCH, SOURCE, 12)
    gate, inner = (hidden @ each.weight.T + each.bias for each in (ours.gate, ours.inner))
    expected = (ours.activation(gate) * inner) @ ours.outer.weight.T + ours.outer.bias
    close(ours(hidden), expected, 1e-12)


ACTIVATIONS = {
    "relu": lambda x: max(0.0, x),
    "gelu": lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "linear": lambda x: x,
    "silu": lambda x: x / (1 + math.exp(-x)),
    "swiglu": lambda x: x / (1 + math.exp(-x)),
    "geglu": lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))),
}


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_an_activation_is_its_formula(name):
    ours = FEEDFORWARDS.build(Choice(kind=name), 12, 20, 0.0, True)
    points = torch.linspace(-6, 6, 49)
    close(ours.activation(points), torch.tensor([ACTIVATIONS[name](x) for x in points.tolist()]), 1e-12)


def test_a_layer_of_the_base_encoder_has_3152384_parameters():
    with torch.device("meta"):
        base = Transformer(ModelConfig(encoder_layers=1, decoder_layers=1, source_vocab=37_000, target_vocab=37_000))
    count = sum(each.numel() for each in base.encoder.blocks[0].parameters())
    assert count == 4 * (512 * 512 + 512) + (512 * 2048 + 2048) + (2048 * 512 + 512) + 2 * 2 * 512 == 3_152_384


def test_the_base_model_has_about_63_million_parameters():
    with torch.device("meta"):
        base = Transformer(ModelConfig(source_vocab=37_000, target_vocab=37_000))
    decoder_layer = 3_152_384 + 4 * (512 * 512 + 512) + 2 * 512
    assert sum(each.numel() for each in base.parameters()) == 6 * (3_152_384 + decoder_layer) + 37_000 * 512


def test_stacks_are_matched_to_the_last_parameter(tiny):
    model = tiny()
    layer = nn.TransformerEncoderLayer(12, 2, 20, batch_first=True)
    assert len(pairs(model.encoder, nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))) == 2 * 12


def test_causal_attention_is_the_fused_kernel_of_torch():
    query, key, value = torch.randn(3, BATCH, 2, SOURCE, 6).unbind()
    expected = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    close(Dot(2, 6, 0.0)(query, key, value, CAUSAL, UNRELATED), expected)
    close(Dot(2, 6, 0.0).weights(query, key, CAUSAL, UNRELATED) @ value, expected)
