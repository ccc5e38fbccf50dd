"""Feed-forward networks of Llama and Mixtral, with the loss that balances experts: the numbers of transformers."""

import pytest
import torch
from peer_parts import shaken

from clearhead.core.registry import Choice
from clearhead.model.feedforward import FEEDFORWARDS, balance, routings

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.peers


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_swiglu_is_the_network_of_llama():
    from transformers.models.llama.modeling_llama import LlamaMLP

    theirs = shaken(LlamaMLP(transformers.LlamaConfig(hidden_size=12, intermediate_size=20, num_attention_heads=2)))
    ours = FEEDFORWARDS.build(Choice(kind="swiglu"), 12, 20, 0.0, False).double()
    pairs = ((ours.gate, theirs.gate_proj), (ours.inner, theirs.up_proj), (ours.outer, theirs.down_proj))
    for own, other in pairs:
        own.weight.data = other.weight.data
    hidden = torch.randn(3, 7, 12, dtype=torch.float64)
    close(ours(hidden), theirs(hidden))


def test_a_mixture_is_that_of_mixtral():
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock, load_balancing_loss_func

    sizes = {"hidden_size": 12, "intermediate_size": 20, "num_local_experts": 4, "num_experts_per_tok": 2}
    theirs = shaken(MixtralSparseMoeBlock(transformers.MixtralConfig(**sizes)))
    for each in theirs.parameters():  # this block alone does not fill its weights
        torch.nn.init.normal_(each, std=0.3)
    ours = FEEDFORWARDS.build(Choice(kind="mixture"), 12, 20, 0.0, False).double()
    ours.router.scores.weight.data = theirs.gate.weight.data
    for index, expert in enumerate(ours.experts):
        gate, inner = theirs.experts.gate_up_proj.data[index].chunk(2)
        expert.gate.weight.data, expert.inner.weight.data = gate, inner
        expert.outer.weight.data = theirs.experts.down_proj.data[index]
    hidden = torch.randn(3, 7, 12, dtype=torch.float64)
    with routings(ours) as seen:
        found = ours(hidden)
    # their router computes probabilities in float32 whatever it is given
    torch.testing.assert_close(found, theirs(hidden), rtol=0, atol=1e-6)
    scores = (ours.router.scores(hidden.flatten(0, 1)),)
    valid = torch.arange(7) < torch.tensor([7, 4, 1])[:, None]
    expected = load_balancing_loss_func(scores, 4, 2), load_balancing_loss_func(scores, 4, 2, valid.long())
    for found, their in zip((balance(seen), balance(seen, valid)), expected, strict=True):
        torch.testing.assert_close(found.float(), their, rtol=0, atol=1e-6)
