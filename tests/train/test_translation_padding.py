"""Padding of the target changes nothing of what is learned, whatever the norm; and it costs nothing where it cannot."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clearhead.core.registry import Choice
from clearhead.data.batches import TranslationBatch, translation_batch
from clearhead.model import AttentionMask, ModelConfig, Transformer
from clearhead.model.norm import NORMS
from clearhead.train.objectives import OBJECTIVES

SIZES = {"encoder_layers": 1, "decoder_layers": 2, "d_model": 12, "heads": 2, "d_ff": 20, "dropout": 0.0}
SIZES |= {"source_vocab": 23, "target_vocab": 23}
NOISE = {"noisy_batchnorm": {"noise": 0.0}}  # draws of another shape would differ
DECODING = [name for name in NORMS.names() if NORMS.get(name).decodes]  # type: ignore[attr-defined]
ACROSS = [name for name in DECODING if NORMS.get(name).across_tokens]  # type: ignore[attr-defined]
EACH_NORM = pytest.mark.parametrize("name", DECODING)
EACH_RESIDUAL = pytest.mark.parametrize("residual", ["post", "pre"])

OBJECTIVE = OBJECTIVES.build(Choice(kind="translation"))


def model(name: str, residual: str = "post") -> Transformer:
    torch.manual_seed(5)
    norm = {"kind": name, **NOISE.get(name, {})}
    return Transformer(ModelConfig(**SIZES, norm=norm, residual=residual, embedding_norm=True)).double().train()


def batch() -> TranslationBatch:
    return translation_batch([[5, 6, 7], [8], [9, 10]], [[11, 12], [13, 14, 15, 16], [17]], pad=0, bos=1, eos=2)


def wider(given: TranslationBatch, more: int) -> TranslationBatch:
    """The same pairs with more padding behind the targets."""
    target, labels = (F.pad(each, (0, more), value=3) for each in (given.target, given.labels))
    return TranslationBatch(given.source, given.source_valid, target, labels, F.pad(given.counted, (0, more)))


def learned(made: Transformer, given: TranslationBatch) -> list[Tensor]:
    """Loss, gradients, and what the norms remember."""
    loss = OBJECTIVE(made, given)
    loss.value.backward()
    return [loss.value.detach(), *(each.grad for each in made.parameters()), *made.buffers()]


@EACH_NORM
@EACH_RESIDUAL
@pytest.mark.parametrize("more", [1, 5])
def test_more_padding_changes_nothing(name, residual, more):
    found, expected = (learned(model(name, residual), each) for each in (wider(batch(), more), batch()))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ACROSS)
def test_a_norm_across_tokens_would_see_padding_that_it_is_not_told_of(name, monkeypatch):
    """The test above can fail: without word of the padding it does."""
    monkeypatch.setattr(ModelConfig, "norm_across_tokens", False)
    found, expected = (learned(model(name), each) for each in (wider(batch(), 5), batch()))
    assert not torch.allclose(found[0], expected[0])


@EACH_NORM
def test_a_norm_that_looks_at_one_token_says_so(name):
    """What a token becomes depends on another one exactly in the norms that declare it."""
    torch.manual_seed(1)
    norm = NORMS.build(Choice(kind=name, options=NOISE.get(name, {})), 12).double().train()
    hidden = torch.randn(3, 7, 12, dtype=torch.float64)
    other = hidden.clone()
    other[2, 6] += 1.0
    depends = not torch.allclose(norm(hidden)[0, 0], norm(other)[0, 0])
    assert depends == NORMS.get(name).across_tokens


@EACH_NORM
def test_the_mask_of_training_is_only_causal_unless_the_norm_needs_more(name, monkeypatch):
    made, masks = model(name), []
    forward = made.decoder.forward

    def seen(tokens: Tensor, positions: Tensor, mask: AttentionMask, *rest: object) -> Tensor:
        masks.append(mask)
        return forward(tokens, positions, mask, *rest)

    monkeypatch.setattr(made.decoder, "forward", seen)
    OBJECTIVE(made, batch())
    assert [each.only_causal for each in masks] == [name not in ACROSS]
