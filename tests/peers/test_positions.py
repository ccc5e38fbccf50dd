"""Position schemes give what transformers computes: buckets, slopes, rotations, scalings, four-term scores."""

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers")

from transformers import LlamaConfig, XLNetConfig
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb
from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding
from transformers.models.roformer.modeling_roformer import (
    RoFormerSelfAttention,
    RoFormerSinusoidalPositionalEmbedding,
)
from transformers.models.t5.modeling_t5 import T5Attention
from transformers.models.xlnet.modeling_xlnet import XLNetModel

from clearhead.core.registry import Choice
from clearhead.model import NO_CACHE, OPEN, AttentionMask
from clearhead.model.attention import Dot, Fused, HeadSizes, SelfAttention
from clearhead.model.forward_pass import Pass
from clearhead.model.position import POSITIONS, Position
from clearhead.model.position.t5 import bucket

pytestmark = pytest.mark.peers
BATCH, HEADS, LENGTH, WIDTH = 3, 2, 7, 6


def scheme(name: str, heads: int = HEADS, d_head: int = WIDTH, **options: object) -> Position:
    return POSITIONS.build(Choice(kind=name, options=options), heads * d_head, heads, d_head, 16)


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, rtol=0.0, atol=tolerance)


@pytest.mark.parametrize(("buckets", "distance"), [(32, 128), (32, 1_000), (8, 20), (10, 37)])
def test_buckets_are_those_of_t5(buckets, distance):
    away = torch.arange(-3_000, 3_001)  # query - key
    two_sided = bucket(away.abs(), buckets // 2, distance) + buckets // 2 * (away < 0)
    one_sided = bucket(away.clamp(min=0), buckets, distance)
    for found, bidirectional in ((two_sided, True), (one_sided, False)):
        expected = T5Attention._relative_position_bucket(-away, bidirectional, buckets, distance)
        assert torch.equal(found, expected)


@pytest.mark.parametrize("heads", [1, 2, 3, 6, 8, 12, 25])
def test_slopes_are_those_of_bloom(heads):
    positions = torch.arange(LENGTH)[None]
    found = scheme("alibi", heads).bias(positions, positions)[0]
    expected = build_alibi_tensor(torch.ones(1, LENGTH), heads, torch.float32)  # (heads, 1, keys), not shifted
    past = torch.ones(LENGTH, LENGTH).tril() > 0
    close((found - found[:, :, :1])[:, past], (expected - expected[:, :, :1]).expand(-1, LENGTH, -1)[:, past], 1e-6)
    rounding = 0.0 if heads in (1, 2, 8) else 1e-7  # their odd slopes are powers of a base rounded to float32
    close(scheme("alibi", heads).slopes, expected[:, 0, 1], rounding)


def rotated(name: str, positions: Tensor, *states: Tensor, **options: object) -> list[Tensor]:
    rope = scheme(name, d_head=states[0].shape[-1], **options)
    return [rope.rotate(each, rope.turns(positions, each.dtype)) for each in states]


SCALINGS = {
    "default": None,
    "linear": {"factor": 4.0},
    "llama3": {"factor": 8.0, "low": 1.0, "high": 4.0, "original": 64},
    "yarn": {"factor": 4.0, "original": 64},
}
THEIRS = {"low": "low_freq_factor", "high": "high_freq_factor", "original": "original_max_position_embeddings"}


@pytest.mark.parametrize("name", SCALINGS)
def test_rotations_are_those_of_llama(name):
    own = SCALINGS[name]
    theirs = {"rope_type": name, "rope_theta": 50_000.0} | {THEIRS.get(k, k): v for k, v in (own or {}).items()}
    config = LlamaConfig(
        hidden_size=64, num_attention_heads=2, head_dim=32, rope_parameters=theirs, max_position_embeddings=256
    )
    query, key = torch.randn(2, BATCH, HEADS, LENGTH, 32).unbind()
    positions = torch.tensor([[0, 1, 2, 3, 4, 5, 6], [0, 0, 0, 1, 2, 3, 4], [9, 40, 3, 60, 55, 28, 1]])
    cosine, sine = LlamaRotaryEmbedding(config)(query, positions)
    options = {} if own is None else {"scaling": {"kind": name, **own}}
    found = rotated("rope", positions, query, key, base=50_000.0, **options)
    for each, expected in zip(found, apply_rotary_pos_emb(query, key, cosine, sine), strict=True):
        close(each, expected)


def test_rotations_in_pairs_are_those_of_roformer():
    query, key = torch.randn(2, BATCH, HEADS, LENGTH, WIDTH).unbind()
    table = RoFormerSinusoidalPositionalEmbedding(LENGTH, WIDTH)
    table.weight = torch.nn.Parameter(table.create_weight(), requires_grad=False)
    waves = table((BATCH, LENGTH))[None, None]
    expected = RoFormerSelfAttention.apply_rotary_position_embeddings(waves, query, key)
    found = rotated("rope", torch.arange(LENGTH)[None], query, key, layout="pairs")
    for each, other in zip(found, expected, strict=True):
        close(each, other)


def test_sines_in_halves_are_those_of_marian():
    theirs = MarianSinusoidalPositionalEmbedding(16, 12)
    theirs.weight = torch.nn.Parameter(theirs.create_weight(), requires_grad=False)
    found = scheme("sinusoidal", layout="halves").add(torch.zeros(1, LENGTH, 12), torch.arange(LENGTH)[None])
    close(found[0], theirs((1, LENGTH)).detach())


# --- Transformer-XL, by the relative attention of XLNet ---

CONFIG = XLNetConfig(vocab_size=23, d_model=12, n_layer=1, n_head=HEADS, d_inner=20, dropout=0.0)
SIZES = HeadSizes(d_model=12, heads=HEADS, kv_heads=HEADS, d_head=WIDTH)


def twins() -> tuple[SelfAttention, XLNetModel]:
    """Our attention and theirs (the first layer's) with the same random weights."""
    theirs = XLNetModel(CONFIG).eval()
    core, layer = theirs.layer[0].rel_attn, scheme("xl").layer(causal=False)
    ours = SelfAttention(Fused(SIZES, False), Dot(HEADS, WIDTH, 0.0), layer, bias=False)
    with torch.no_grad():
        for each in core.parameters():
            each.normal_(std=0.3)
        ours.projections.weight.copy_(torch.cat([each.reshape(12, 12).T for each in (core.q, core.k, core.v)]))
        ours.output.weight.copy_(core.o.reshape(12, 12))
        layer.project.weight.copy_(core.r.reshape(12, 12).T)
        layer.content.copy_(core.r_w_bias)
        layer.distance.copy_(core.r_r_bias)
    return ours, theirs


def test_relative_attention_is_that_of_xlnet():
    ours, theirs = twins()
    hidden, allowed = torch.randn(BATCH, LENGTH, 12), torch.rand(BATCH, LENGTH, LENGTH) < 0.7
    allowed |= torch.eye(LENGTH, dtype=torch.bool)
    places = theirs.relative_positional_encoding(LENGTH, LENGTH, bsz=BATCH)
    blocked = (~allowed).float().permute(1, 2, 0)[..., None]  # (queries, keys, batch, 1)
    core, turned = theirs.layer[0].rel_attn, hidden.transpose(0, 1)
    expected, _ = core(turned, None, blocked, None, places, None)
    mask, positions = AttentionMask(allowed=allowed[:, None]), torch.arange(LENGTH)[None]
    found = core.layer_norm(hidden + ours(hidden, Pass(positions, mask), NO_CACHE))
    close(found, expected.transpose(0, 1))


def test_a_segment_with_memory_is_that_of_xlnet():
    ours, theirs = twins()
    core, hidden, memory = theirs.layer[0].rel_attn, torch.randn(BATCH, LENGTH, 12), torch.randn(BATCH, 4, 12)
    places = theirs.relative_positional_encoding(LENGTH, LENGTH + 4, bsz=BATCH)
    expected, _ = core(hidden.transpose(0, 1), None, None, None, places, None, mems=memory.transpose(0, 1))
    every, positions = torch.cat([memory, hidden], dim=1), torch.arange(LENGTH + 4)[None]
    found = ours(every, Pass(positions, OPEN), NO_CACHE)[:, 4:]  # memory reads nothing that matters here
    close(core.layer_norm(hidden + found), expected.transpose(0, 1))
