"""Attention of transformers with our weights: Longformer's window, Reformer's keys, GPT-2's matrix, XLNet's streams."""

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers")

from transformers import GPT2Config, LongformerConfig, ReformerConfig, XLNetConfig
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention
from transformers.models.longformer.modeling_longformer import LongformerSelfAttention
from transformers.models.reformer.modeling_reformer import LSHSelfAttention
from transformers.models.xlnet.modeling_xlnet import XLNetModel

from clearhead.core.registry import Choice
from clearhead.model import CAUSAL, NO_CACHE, OPEN, AttentionMask
from clearhead.model.attention import PROJECTIONS, Dot, Fused, HeadSizes, Local, SelfAttention
from clearhead.model.attention.layouts import from_fused, to_fused
from clearhead.model.forward_pass import Pass
from clearhead.model.position import POSITIONS, NoPosition
from clearhead.model.two_streams import two_streams

pytestmark = pytest.mark.peers
BATCH, HEADS, LENGTH = 3, 2, 16
SIZES = HeadSizes(d_model=12, heads=HEADS, kv_heads=HEADS, d_head=6)
NOWHERE = NoPosition(12, HEADS, 6, LENGTH)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-5)


def test_a_window_is_that_of_longformer():
    config = LongformerConfig(
        hidden_size=12, num_attention_heads=HEADS, attention_window=[4], attention_probs_dropout_prob=0.0
    )
    theirs, ours = LongformerSelfAttention(config, 0).eval(), Fused(SIZES, True)
    parts = theirs.query, theirs.key, theirs.value
    ours.weight.data = to_fused(tuple(each.weight.data for each in parts))
    ours.bias.data = to_fused(tuple(each.bias.data for each in parts))
    hidden, valid = torch.randn(BATCH, LENGTH, 12), torch.arange(LENGTH) < torch.tensor([16, 11, 5])[:, None]
    blocked = torch.zeros(BATCH, LENGTH).masked_fill(~valid, -10_000.0)
    expected = theirs(
        hidden,
        attention_mask=blocked,
        is_index_masked=~valid,
        is_index_global_attn=torch.zeros_like(valid),
        is_global_attn=False,
    )[0]
    kernel = Local(HEADS, 6, 0.0, window=3)  # two slots on a side and its own
    found = kernel(*ours.all(hidden), AttentionMask(valid=valid), NOWHERE.relate(hidden, hidden, valid, valid))
    close(found.transpose(1, 2).flatten(2)[valid], expected[valid])


def test_the_fused_matrix_of_gpt2_is_ours_transposed():
    theirs = GPT2Attention(GPT2Config(n_embd=12, n_head=HEADS, attn_pdrop=0.0, resid_pdrop=0.0), layer_idx=0).eval()
    theirs.config._attn_implementation = "eager"
    ours = SelfAttention(Fused(SIZES, True), Dot(HEADS, 6, 0.0), NOWHERE, bias=True)
    ours.projections.weight.data = to_fused(from_fused(theirs.c_attn.weight.data.T, SIZES))
    ours.projections.bias.data = theirs.c_attn.bias.data
    ours.output.weight.data, ours.output.bias.data = theirs.c_proj.weight.data.T, theirs.c_proj.bias.data
    hidden = torch.randn(BATCH, LENGTH, 12)
    blocked = torch.full((LENGTH, LENGTH), -torch.inf).triu(1)[None, None]
    close(ours(hidden, Pass(torch.arange(LENGTH)[None], CAUSAL), NO_CACHE), theirs(hidden, attention_mask=blocked)[0])


def test_normalised_shared_keys_are_those_of_reformer():
    config = ReformerConfig(hidden_size=12, num_attention_heads=HEADS, attention_head_size=6)
    theirs, query = LSHSelfAttention(config), torch.randn(BATCH, HEADS, LENGTH, 6)
    part = PROJECTIONS.build(Choice(kind="shared_qk"), SIZES, False)
    part.weight.data[:12] = torch.eye(12)
    own_query, key, _ = part.all(query.transpose(1, 2).flatten(2))
    expected = query @ theirs._len_and_dim_norm(query, torch.tensor(6**0.5)).transpose(-1, -2)
    close(Dot(HEADS, 6, 0.0).scores(own_query, key), expected)


def test_two_streams_are_those_of_xlnet():
    theirs = XLNetModel(XLNetConfig(vocab_size=23, d_model=12, n_layer=1, n_head=HEADS, d_inner=20, dropout=0.0)).eval()
    core, layer = theirs.layer[0].rel_attn, POSITIONS.build(Choice(kind="xl"), 12, HEADS, 6, 16).layer(causal=False)
    ours = SelfAttention(Fused(SIZES, False), Dot(HEADS, 6, 0.0), layer, bias=False)
    with torch.no_grad():
        for each in core.parameters():
            each.normal_(std=0.3)
        ours.projections.weight.copy_(torch.cat([each.reshape(12, 12).T for each in (core.q, core.k, core.v)]))
        ours.output.weight.copy_(core.o.reshape(12, 12))
        layer.project.weight.copy_(core.r.reshape(12, 12).T)
        layer.content.copy_(core.r_w_bias)
        layer.distance.copy_(core.r_r_bias)
    content, empty = torch.randn(2, BATCH, 5, 12).unbind()
    order = torch.stack([torch.randperm(5) for _ in range(BATCH)])
    order[:, 0] = -1  # a first context: in their code a row without any key is not zero
    sees, earlier = order[:, None, :] <= order[:, :, None], order[:, None, :] < order[:, :, None]
    masks = [(~each).float().permute(1, 2, 0)[..., None] for each in (sees, earlier)]
    places = theirs.relative_positional_encoding(5, 5, bsz=BATCH)
    expected = core(content.transpose(0, 1), empty.transpose(0, 1), *masks, places, None)
    both = torch.cat([content, empty], dim=1)
    mixed = core.layer_norm(both + ours(both, Pass(torch.arange(5)[None].repeat(1, 2), two_streams(order)), NO_CACHE))
    close(mixed[:, :5], expected[0].transpose(0, 1))
    close(mixed[:, 6:], expected[1].transpose(0, 1)[:, 1:])
    assert OPEN.only_padding_and_causal
