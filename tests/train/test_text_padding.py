"""Padding changes nothing of what is learned from text, whatever the norm; and it is not named where nobody looks."""

import numpy as np
import pytest
import torch
from torch import Tensor

from clearhead.core.registry import Choice
from clearhead.data.readings import SentencePair
from clearhead.data.text_batches import shifted
from clearhead.model import ModelConfig, Transformer
from clearhead.model.norm import NORMS
from clearhead.text import train_tokenizer
from clearhead.train.objectives import OBJECTIVES, TextObjective, replaced_token
from clearhead.train.objectives.likelihood import padding

pytestmark = pytest.mark.usefixtures("double")

ACROSS = [name for name in NORMS.names() if NORMS.get(name).across_tokens]  # type: ignore[attr-defined]
NOISE = {"noisy_batchnorm": {"noise": 0.0}}  # draws of another shape would differ
TEXT_OBJECTIVES = [name for name in OBJECTIVES.names() if issubclass(OBJECTIVES.get(name), TextObjective)]  # type: ignore[arg-type]
SENTINELS = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>")
HEADS = {"tokens": {"kind": "tokens", "labels": 1}}
PAIRS = [(name, norm) for name in TEXT_OBJECTIVES for norm in ACROSS]


def fits(name: str, norm: str) -> bool:
    return OBJECTIVES.get(name).kinds[0] == "encoder-only" or NORMS.get(norm).decodes  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(Choice(kind="char", options={"extra_tokens": SENTINELS}), ["abcdefghijklmno"])


def learner_of(name: str, norm: str, vocab: int):
    torch.manual_seed(5)
    part = OBJECTIVES.get(name)
    encodes = part.kinds[0] == "encoder-only"
    config = {"encoder_layers": 2 * encodes, "decoder_layers": 2 - 2 * encodes, "segments": 2 * encodes, "length": 64}
    config |= {"d_model": 12, "heads": 2, "d_ff": 20, "dropout": 0.0, "tie": "output", "residual": "pre"}
    config |= {"norm": {"kind": norm, **NOISE.get(norm, {})}, "head": HEADS.get(part.heads[0], part.heads[0])}
    model = Transformer(ModelConfig(**config, source_vocab=vocab, target_vocab=vocab))
    objective = OBJECTIVES.build(Choice(kind=name))
    return objective, objective.learner(model).train()


def rows(name: str, tokenizer) -> list:
    random = np.random.default_rng(0)
    texts = [random.integers(8, tokenizer.vocab_size, size) for size in (9, 5, 7)]
    if OBJECTIVES.get(name).readings == ("sentence_pairs",):
        return [SentencePair(each[:3], each[3:], bool(len(each) % 2)) for each in texts]
    return [[np.concatenate([[tokenizer.bos], each, [tokenizer.eos]])] for each in texts]


def learned(name: str, norm: str, tokenizer, width: int) -> list[Tensor]:
    """Loss, gradients, and what the norms remember."""
    objective, learner = learner_of(name, norm, tokenizer.vocab_size)
    batch = objective.collator(tokenizer, width)(rows(name, tokenizer), np.random.default_rng(1))
    loss = objective(learner, batch)
    loss.value.backward()
    grads = [each.grad for each in learner.parameters() if each.grad is not None]
    return [loss.value.detach(), *grads, *learner.buffers()]


@pytest.mark.parametrize(("name", "norm"), [each for each in PAIRS if fits(*each)])
def test_wider_rows_change_nothing(name, norm, tokenizer, monkeypatch):
    monkeypatch.setattr(replaced_token, "sampled", lambda logits: logits.argmax(dim=-1))
    for one, other in zip(*(learned(name, norm, tokenizer, width) for width in (16, 23)), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_a_norm_that_is_not_told_would_see_the_padding(tokenizer, monkeypatch):
    """The test above can fail: without word of the padding it does."""
    monkeypatch.setattr(ModelConfig, "norm_across_tokens", False)
    one, other = (learned("causal", "batchnorm", tokenizer, width)[0] for width in (16, 23))
    assert abs(one - other) > 1e-3


@pytest.mark.parametrize("norm", NORMS.names())
def test_padding_is_named_for_norms_that_look_at_it(norm):
    batch = shifted([[np.arange(1, 5)], [np.arange(1, 4)]], 4, 0)
    sizes = {"decoder_layers": 0, "encoder_layers": 1, "d_model": 8, "source_vocab": 9, "tie": "none"}
    model = Transformer(ModelConfig(**sizes, norm=norm))
    seen = padding(model, batch)
    assert (seen is None) == (norm not in ACROSS)
    assert seen is None or seen.tolist() == [[True, True, True, False], [True, True, False, False]]
