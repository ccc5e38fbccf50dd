"""`verify` passes what is right, and each of its checks fails on a model that is wrong in exactly its way."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

import clearhead.model.recompute
import clearhead.model.transformer
import clearhead.train.checks.learning
from clearhead.bundle import Bundle
from clearhead.bundle import bundle as bundle_module
from clearhead.bundle.exchange import importing
from clearhead.core.errors import ClearheadError
from clearhead.core.registry import Choice
from clearhead.generate.caches.lockstep import DenseLayer
from clearhead.model import AttentionMask, ModelConfig, Transformer
from clearhead.model.attention import ATTENTIONS, PROJECTIONS
from clearhead.model.block import Block
from clearhead.model.embedding import EMBEDDING_JOINS, EMBEDDINGS
from clearhead.model.feedforward import FEEDFORWARDS
from clearhead.model.head import HEADS
from clearhead.model.norm import NORMS
from clearhead.model.position import POSITIONS
from clearhead.model.residual import RESIDUALS
from clearhead.model.stack import STACKS
from clearhead.text import train_tokenizer
from clearhead.train.checks import CHECKS, Finding, Skipped, verify

KINDS = {"encoder-decoder": (2, 1), "encoder-only": (2, 0), "decoder-only": (0, 2)}
GPT = {"position": "learned", "residual": "pre", "feedforward": "gelu_tanh", "scale_embedding": False}
BERT = {
    "position": "learned",
    "feedforward": "gelu",
    "scale_embedding": False,
    "segments": 2,
    "embedding_norm": True,
    "norm": {"kind": "layernorm", "epsilon": 1e-12},
    "head": "mlm",
}
MARIAN = {
    "position": {"kind": "sinusoidal", "layout": "halves"},
    "feedforward": "silu",
    "head": {"kind": "lm", "bias": True},
}
KNOWN = {"decoder-only": GPT, "encoder-only": BERT, "encoder-decoder": MARIAN}  # what transformers has a name for
EACH_KIND = pytest.mark.parametrize("kind", KINDS)


FAMILIES = {
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


def with_options(registry, name):
    needed = {key: 3 for key, each in registry.options(name).items() if each.default is each.empty}
    return {"kind": name, **needed}


PARTS = [
    {family: with_options(registry, name), **({"tie": "none"} if family == "embedding" else {})}
    for family, registry in FAMILIES.items()
    for name in registry.names()
]


def bundle(kind: str, **changes: object) -> Bundle:
    torch.manual_seed(5)
    tokenizer = train_tokenizer("char", ["abcdefg 你好é"])
    encoder, decoder = KINDS[kind]
    sizes = {"encoder_layers": encoder, "decoder_layers": decoder, "d_model": 12, "heads": 2, "d_ff": 20, "length": 17}
    vocab = {"source_vocab": tokenizer.vocab_size, "target_vocab": tokenizer.vocab_size, "pad": tokenizer.need("pad")}
    model = Transformer(ModelConfig(**{**sizes, **vocab, **changes}))
    return Bundle(model.eval(), tokenizer, tokenizer, {"beams": 2}, {})


def checked(kind: str, length: int = 24, **changes: object) -> dict[str, Finding]:
    return {each.name: each for each in verify(bundle(kind, **changes), length=length) if isinstance(each, Finding)}


@EACH_KIND
def test_a_right_model_passes_every_check(kind):
    found = list(verify(bundle(kind, **KNOWN[kind])))
    assert [each.name for each in found] == CHECKS.names()
    for each in found:
        assert isinstance(each, Skipped) or each.passed, each
    skipped = {each.name for each in found if isinstance(each, Skipped)}
    assert skipped == ({"cached", "future_hidden"} if kind == "encoder-only" else set())


@pytest.mark.parametrize("part", PARTS, ids=str)
def test_a_right_model_passes_with_every_part(part):
    for kind in ("decoder-only", "encoder-only"):
        try:
            model = bundle(kind, **part)
        except (ClearheadError, ValueError):  # this kind cannot have this part
            continue
        for each in verify(model, length=9):
            assert isinstance(each, Skipped) or each.passed, each
        return
    pytest.fail("no kind of model can have this part")


def forgets_a_row(patch):
    extend = DenseLayer.extend

    def short(self, key, value, positions):
        key, value, positions = extend(self, key, value, positions)
        return key[:, :, 1:], value[:, :, 1:], positions[:, 1:]

    patch.setattr(DenseLayer, "extend", short)


def looks_ahead(patch):
    dense = AttentionMask.dense
    patch.setattr(AttentionMask, "dense", lambda mask, *sizes: dense(replace(mask, causal=False), *sizes))
    patch.setattr(AttentionMask, "only_causal", property(lambda mask: False))


def reads_padding(patch):
    patch.setattr(AttentionMask, "padded", lambda mask, valid: mask)


def counts_padding(patch):
    places = lambda length, valid, device: torch.arange(length, device=device)[None]  # noqa: E731
    patch.setattr(clearhead.model.transformer, "_positions", places)


def reads_its_neighbours(patch):
    dense = AttentionMask.dense
    patch.setattr(AttentionMask, "dense", lambda mask, *sizes: dense(replace(mask, segments=None), *sizes))


def mixes_the_batch(patch):
    forward = Block.forward
    patch.setattr(Block, "forward", lambda self, *inputs: forward(self, *inputs) + inputs[0].mean(dim=0))


def divides_by_its_own_tokens(patch):
    loss = clearhead.train.checks.learning.linear_cross_entropy

    def mean(hidden, weight, labels):
        return loss(hidden, weight, labels)[0] / len(labels), None

    patch.setattr(clearhead.train.checks.learning, "linear_cross_entropy", mean)


def draws_dropout_anew(patch):
    plain = clearhead.model.recompute.checkpoint
    patch.setattr(
        clearhead.model.recompute,
        "checkpoint",
        lambda *inputs, use_reentrant: plain(*inputs, use_reentrant=use_reentrant, preserve_rng_state=False),
    )


def overflows_in_bfloat16(patch):
    forward = Block.forward

    def rounded(self, *inputs):
        hidden = forward(self, *inputs)
        return (hidden.bfloat16() + 512).float() - 512 if torch.is_autocast_enabled("cpu") else hidden

    patch.setattr(Block, "forward", rounded)


def saves_half_the_digits(patch):
    weights = bundle_module.weights_of
    rounded = lambda model: {name: each.half().float() for name, each in weights(model).items()}  # noqa: E731
    patch.setattr(bundle_module, "weights_of", rounded)


def imports_another_table(patch):
    read = importing.read_tensors

    @torch.no_grad()
    def scaled(*inputs):
        model = read(*inputs)
        model.output.mul_(1.01)
        return model

    patch.setattr(importing, "read_tensors", scaled)


MUTANTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "accumulated": divides_by_its_own_tokens,
    "batch_of_one": mixes_the_batch,
    "bfloat16": overflows_in_bfloat16,
    "cached": forgets_a_row,
    "exported": imports_another_table,
    "future_hidden": looks_ahead,
    "left_padding": counts_padding,
    "packed": reads_its_neighbours,
    "padding_inert": reads_padding,
    "recomputed": draws_dropout_anew,
    "saved": saves_half_the_digits,
}


@EACH_KIND
@pytest.mark.parametrize("name", CHECKS.names())
def test_each_check_fails_on_a_model_that_breaks_its_law(name, kind, monkeypatch):
    MUTANTS[name](monkeypatch)
    monkeypatch.setattr(CHECKS, "_parts", {name: CHECKS.get(name)})  # the others would only take time
    found = checked(kind, **KNOWN[kind])
    if name in found:  # else the check does not apply to this kind
        assert not found[name].passed
        assert found[name].largest_difference > 2 * found[name].tolerance
        assert found[name].error is None


def test_a_model_of_nan_passes_nothing():
    broken = bundle("decoder-only")
    with torch.no_grad():
        broken.model.output[3] = math.nan
        broken.model.output[5] = math.nan
    for each in verify(broken):
        assert not each.passed
        assert each.largest_difference is None


def test_a_check_that_cannot_be_computed_fails_and_says_why(monkeypatch):
    def wrong(self, *inputs):
        raise RuntimeError("no\nsuch block")

    monkeypatch.setattr(Block, "forward", wrong)
    for each in checked("encoder-decoder").values():
        assert not each.passed
        assert each.error == "RuntimeError: no such block"


def test_the_model_is_left_as_it_was():
    right = bundle("encoder-decoder")
    before = {name: each.clone() for name, each in right.model.state_dict().items()}
    state = torch.get_rng_state()
    list(verify(right))
    assert torch.equal(torch.get_rng_state(), state)
    assert not right.model.training
    assert all(each.grad is None for each in right.model.parameters())
    assert all(torch.equal(before[name], each) for name, each in right.model.state_dict().items())


@pytest.mark.parametrize("length", [4, 9, 500])
def test_texts_are_no_longer_than_the_model_reads(length):
    for each in checked("decoder-only", length, position="learned").values():
        assert each.passed, each


def test_a_check_is_new_with_one_registration():
    assert all(CHECKS.build(Choice(kind=name)).title for name in CHECKS.names())
    assert MUTANTS.keys() == set(CHECKS.names())
