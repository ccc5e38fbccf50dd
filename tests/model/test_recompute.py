"""Recomputation keeps less and changes no gradient."""

import copy

import pytest
import torch
from torch import Tensor

from clearhead.model import Transformer
from clearhead.model.recompute import recompute

KINDS = {"encoder-decoder": {}, "encoder-only": {"decoder_layers": 0}, "decoder-only": {"encoder_layers": 0}}
EACH_KIND = pytest.mark.parametrize("kind", KINDS)


def loss(model: Transformer) -> Tensor:
    torch.manual_seed(1)
    ids = torch.randint(1, 23, (3, 7), generator=torch.Generator().manual_seed(2))
    kind = model.config.kind
    hidden = model(None if kind == "decoder-only" else ids, None if kind == "encoder-only" else ids.flip(1))
    return model.logits(hidden).square().sum()


def kept(model: Transformer) -> int:
    """Bytes of what the forward pass keeps for the backward pass, parameters left out."""
    own, seen = {each.untyped_storage().data_ptr() for each in model.parameters()}, {}

    def pack(tensor: Tensor) -> Tensor:
        seen[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda each: each):
        loss(model)
    return sum(each.untyped_storage().nbytes() for place, each in seen.items() if place not in own)


@EACH_KIND
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_gradients_are_the_same_bit_for_bit(tiny, kind, dropout):
    plain = tiny(**KINDS[kind], dropout=dropout, attention_dropout=dropout, feedforward_dropout=dropout).train()
    forgetful = copy.deepcopy(plain)
    recompute(forgetful)
    for model in (plain, forgetful):
        loss(model).backward()
    for (name, one), other in zip(plain.named_parameters(), forgetful.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad), name


@EACH_KIND
def test_much_less_is_kept(tiny, kind):
    plain = tiny(**KINDS[kind]).train()
    forgetful = copy.deepcopy(plain)
    recompute(forgetful)
    assert kept(forgetful) < 0.5 * kept(plain)


def test_it_may_be_asked_for_twice_and_copied(tiny):
    model = tiny().train()
    recompute(model)
    once = [block.forward for block in model.decoder.blocks]
    recompute(model)
    assert [block.forward for block in model.decoder.blocks] == once
    copied = copy.deepcopy(model)
    loss(copied).backward()
    assert all(each.grad is None for each in model.parameters())
    assert all(each.grad is not None for each in copied.parameters())


def test_names_and_evaluation_are_as_before(tiny):
    plain = tiny()
    forgetful = copy.deepcopy(plain)
    recompute(forgetful)
    assert forgetful.state_dict().keys() == plain.state_dict().keys()
    with torch.inference_mode():
        assert torch.equal(loss(forgetful), loss(plain))
