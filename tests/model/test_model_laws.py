"""What holds for every part of every family: nothing leaks, everything learns."""

import copy
import inspect
import pkgutil
from ctypes import Structure
from importlib import import_module

import pytest
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ValidationError
from torch import Tensor
from torch_twin import close, shake

import clearhead.generate
import clearhead.model
from clearhead.core.errors import ModelError
from clearhead.core.registry import Choice
from clearhead.model import CAUSAL, NO_CACHE, OPEN, AttentionMask, Memory, ModelConfig, Transformer
from clearhead.model.attention import ATTENTIONS, PROJECTIONS, Fused, HeadSizes, SelfAttention
from clearhead.model.embedding import EMBEDDING_JOINS
from clearhead.model.feedforward import FEEDFORWARDS
from clearhead.model.forward_pass import Pass
from clearhead.model.norm import NORMS
from clearhead.model.position import POSITIONS, NoPosition
from clearhead.model.residual import RESIDUALS

FAMILIES = {
    "position": POSITIONS,
    "attention": ATTENTIONS,
    "projections": PROJECTIONS,
    "embedding_join": EMBEDDING_JOINS,
    "norm": NORMS,
    "residual": RESIDUALS,
    "feedforward": FEEDFORWARDS,
}


def chosen(family: str, name: str) -> dict[str, str]:
    """What a recipe says to have this part."""
    alone = family == "attention" and not ATTENTIONS.get(name).crosses
    return {family: name} | ({"cross_attention": "dot"} if alone else {})


def decodes(part: dict[str, str]) -> bool:
    """Whether a recipe with a decoder may have this part."""
    try:
        return bool(ModelConfig(**part))
    except ValidationError as error:
        if "decoder" not in str(error):
            raise
        return False


PARTS = [chosen(family, name) for family, names in FAMILIES.items() for name in names.names()]
EACH_PART = pytest.mark.parametrize("part", list(filter(decodes, PARTS)), ids=str)
UNJOINED = {"residual": "none"}  # the control that learns badly, as it should
SEEING = [name for name in ATTENTIONS.names() if ATTENTIONS.get(name).any_mask]  # keys, not sums of keys
double = pytest.mark.usefixtures("double")


def tokens(length: int, batch: int = 3) -> Tensor:
    return torch.randint(1, 23, (batch, length))


@double
@EACH_PART
def test_the_future_is_hidden(tiny, part):
    layers = 1 if part == UNJOINED else 2  # two layers without residuals make all tokens the same
    model = tiny(encoder_layers=layers, decoder_layers=layers, **part)
    memory, target = model.encode(tokens(7)), tokens(9)
    changed = target.clone()
    changed[:, 5:] = changed[:, 5:] % 22 + 1
    before, after = (model.decode(each, memory) for each in (target, changed))
    close(before[:, :5], after[:, :5], 1e-12)
    assert (before[:, 5:] - after[:, 5:]).abs().amax(dim=-1).min() > 1e-6


@double
@EACH_PART
def test_no_gradient_comes_from_the_future(tiny, part):
    block, positions = tiny(encoder_layers=0, **part).decoder.blocks[0], torch.arange(4)[None]

    def run(hidden: Tensor) -> Tensor:
        return block(hidden[None], Pass(positions, CAUSAL), None, NO_CACHE)[0]

    jacobian = torch.autograd.functional.jacobian(run, torch.randn(4, 12))  # (query, d_model, key, d_model)
    for query in range(4):
        assert not jacobian[query, :, query + 1 :].any()
        assert jacobian[query, :, : query + 1].abs().amax(dim=(0, 2)).min() > 0


@double
@EACH_PART
def test_padding_is_inert(tiny, part):
    model = tiny(**part)
    source, target, lengths = tokens(7), tokens(5), [7, 4, 1]
    valid = torch.arange(7) < torch.tensor(lengths)[:, None]
    memory = model.encode(source.masked_fill(~valid, 0), valid)
    other = model.encode(source, valid)  # other ids in the padding
    for row, length in enumerate(lengths):
        alone = model.encode(source[row : row + 1, :length])
        close(memory.hidden[row, :length], alone.hidden[0])
        close(other.hidden[row, :length], alone.hidden[0])
        close(model.decode(target, memory)[row], model.decode(target[row : row + 1], alone)[0])


@double
@EACH_PART
def test_a_batch_is_its_sentences(tiny, part):
    model, source, target = tiny(**part), tokens(7), tokens(5)
    together = model(source, target)
    for row in range(3):
        close(together[row], model(source[row : row + 1], target[row : row + 1])[0])


@double
@pytest.mark.parametrize("name", SEEING)
def test_attention_without_positions_moves_with_its_tokens(name):
    sizes = HeadSizes(d_model=12, heads=2, kv_heads=1, d_head=6)
    kernel = ATTENTIONS.build(Choice(kind=name), 2, 6, 0.0)
    attention = SelfAttention(Fused(sizes, True), kernel, NoPosition(12, 2, 6, 7), bias=True)
    hidden, order, positions = torch.randn(3, 7, 12), torch.randperm(7), torch.arange(7)[None]
    valid = torch.rand(3, 7) < 0.7
    plain = attention(hidden, Pass(positions, AttentionMask(valid=valid)), NO_CACHE)
    moved = attention(hidden[:, order], Pass(positions, AttentionMask(valid=valid[:, order])), NO_CACHE)
    close(moved, plain[:, order])


@double
def test_a_model_with_grouped_heads_is_one_with_repeated_heads(tiny):
    grouped, full = tiny(kv_heads=1), tiny()
    weights = grouped.state_dict()
    for name in [each for each in weights if ".projections." in each]:
        query, key, value = weights[name].split([12, 6, 6])
        weights[name] = torch.cat([query, key, key, value, value])
    full.load_state_dict(weights)
    source, target = tokens(7), tokens(5)
    close(grouped(source, target), full(source, target))


@double
@pytest.mark.parametrize("name", NORMS.names())
def test_the_gradient_of_a_norm_is_right(name):
    norm = NORMS.build(Choice(kind=name), 6).eval()
    shake(norm)
    assert torch.autograd.gradcheck(norm, torch.randn(3, 6, requires_grad=True))


@double
@EACH_PART
def test_the_gradient_of_a_block_is_right(tiny, part):
    block = tiny(encoder_layers=1, decoder_layers=1, **part).decoder.blocks[0]
    valid = torch.tensor([[True, True, False], [True, False, False]])
    positions = torch.arange(2)[None]

    def run(hidden: Tensor, memory: Tensor) -> Tensor:
        return block(hidden, Pass(positions, CAUSAL), Memory(memory, valid), NO_CACHE)

    inputs = torch.randn(2, 2, 12, requires_grad=True), torch.randn(2, 3, 12, requires_grad=True)
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


def batch_loss(model: Transformer) -> Tensor:
    """Mean negative log-likelihood of three fixed pairs, in nats per token."""
    source, target = torch.arange(1, 22).view(3, 7), torch.arange(22, 1, -1).view(3, 7)
    hidden = model(source, target[:, :-1])
    return F.cross_entropy(model.logits(hidden).flatten(0, 1), target[:, 1:].flatten())


@EACH_PART
@pytest.mark.parametrize("tie", ["none", "all"])
def test_every_parameter_moves(tiny, part, tie):
    model = tiny(tie=tie, **part)
    batch_loss(model).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@EACH_PART
def test_a_model_memorises_one_batch(tiny, part):
    model = tiny(encoder_layers=1, decoder_layers=1, **part).train()
    rate, updates = (0.003, 800) if part == UNJOINED else (0.01, 120)  # at 0.01 it is chance whether it learns
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(updates):
        optimizer.zero_grad()
        loss = batch_loss(model)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


@pytest.mark.parametrize(
    ("layers", "tie", "tables"),
    [((2, 2), "none", 3), ((2, 2), "output", 2), ((2, 2), "all", 1)]
    + [(one, tie, count) for one in ((2, 0), (0, 2)) for tie, count in (("none", 2), ("output", 1), ("all", 1))],
)
def test_tied_tables_are_one_storage(tiny, layers, tie, tables):
    model = tiny(encoder_layers=layers[0], decoder_layers=layers[1], tie=tie)
    copied = copy.deepcopy(model)
    copied.load_state_dict(model.state_dict())
    for each in (model, copied, copied.to(torch.bfloat16)):
        found = [parameter for name, parameter in each.named_parameters() if parameter.shape == (23, 12)]
        assert len(found) == tables
    assert copied.output.data_ptr() != model.output.data_ptr()


def test_each_side_has_its_own_vocabulary(tiny):
    model = tiny(source_vocab=11, target_vocab=13, tie="output")
    assert model.encoder.embedding.table.shape == (11, 12)
    assert model.logits(model(torch.tensor([[10]]), torch.tensor([[12]]))).shape == (1, 1, 13)
    tagger = tiny(decoder_layers=0, source_vocab=11, target_vocab=13, tie="none")
    assert tagger.logits(tagger(torch.tensor([[10]]), None)).shape == (1, 1, 13)


@pytest.mark.parametrize("tie", ["none", "output", "all"])
@pytest.mark.parametrize("side", ["source_vocab", "target_vocab"])
def test_an_only_stack_needs_one_vocabulary(tiny, side, tie):
    other = "target_vocab" if side == "source_vocab" else "source_vocab"
    for absent in ("encoder_layers", "decoder_layers"):
        model = tiny(**{absent: 0, side: 11, other: 0}, tie=tie)
        ids = torch.tensor([[10]])
        hidden = model(ids, None) if model.config.encoder_layers else model(None, ids)
        assert model.logits(hidden).shape == (1, 1, 11)


@double
def test_the_gradient_of_a_tied_table_is_the_sum_of_the_untied(tiny):
    tied, untied = tiny(tie="all"), tiny(tie="none")
    untied.load_state_dict(tied.state_dict())
    for model in (tied, untied):
        batch_loss(model).backward()
    tables = untied.encoder.embedding.table, untied.decoder.embedding.table, untied.output
    close(tied.output.grad, sum(each.grad for each in tables))


def embed(model: Transformer, ids: Tensor) -> Tensor:
    """What the first block of the encoder reads."""
    return model.encoder.embedding_sum(model.encoder.embedding(ids), torch.arange(ids.shape[1])[None])


@double
def test_embeddings_are_scaled_rows_of_the_table(tiny):
    model, ids = tiny(position="none"), tokens(5)
    one_hot = F.one_hot(ids, 23).to(torch.float64)
    close(embed(model, ids), 12**0.5 * (one_hot @ model.output))
    plain = tiny(scale_embedding=False, position="none")
    close(embed(plain, ids), one_hot @ plain.output)


def test_the_row_of_padding_learns_nothing_as_an_input(tiny):
    model = tiny(tie="none")
    model(torch.tensor([[5, 0, 6]]), torch.tensor([[0, 7]])).square().sum().backward()
    for stack in (model.encoder, model.decoder):
        assert not stack.embedding.table.grad[0].any()
        assert stack.embedding.table.grad.any()


@double
def test_beams_read_one_copy_of_their_source(tiny):
    model, source, target = tiny(), tokens(7), tokens(5, batch=12)
    valid = torch.arange(7) < torch.tensor([7, 4, 1])[:, None]
    shared = model.encode(source, valid)
    repeated = Memory(shared.hidden.repeat_interleave(4, dim=0), valid.repeat_interleave(4, dim=0))
    close(model.decode(target, shared), model.decode(target, repeated))


def test_what_would_be_a_silent_error_is_refused(tiny):
    both, decoder, encoder = tiny(), tiny(encoder_layers=0), tiny(decoder_layers=0)
    memory = both.encode(tokens(7, batch=2))
    mistakes = [
        (lambda: both.decode(tokens(6, batch=1), memory), "do not divide among sources; found 1 targets, 2 sources"),
        (lambda: both.decode(tokens(6)), "pass memory"),
        (lambda: decoder.decode(tokens(6), memory), "leave memory out"),
        (lambda: decoder.encode(tokens(6)), "call decode"),
        (lambda: encoder.decode(tokens(6)), "call encode"),
        (lambda: decoder(None, None), "nothing to read"),
        (lambda: decoder.decode(tokens(1), cache=clearhead.generate.DenseCache(2)), "pass positions"),
    ]
    for mistake, message in mistakes:
        with pytest.raises(ModelError, match=message):
            mistake()


@EACH_PART
def test_a_model_runs_in_bfloat16(tiny, part):
    model, source, target = tiny(**part), tokens(7), tokens(5)
    exact = model(source, target)
    rounded = copy.deepcopy(model).to(torch.bfloat16)(source, target)
    assert rounded.dtype == torch.bfloat16
    assert F.cosine_similarity(rounded.float().flatten(), exact.flatten(), dim=0) > 0.99
    with torch.autocast("cpu", torch.bfloat16):
        assert F.cosine_similarity(model(source, target).float().flatten(), exact.flatten(), dim=0) > 0.99


def test_an_empty_target_has_no_hidden_states(tiny):
    model = tiny()
    assert model.decode(torch.empty(3, 0, dtype=torch.long), model.encode(tokens(7))).shape == (3, 0, 12)


def test_no_constructor_has_more_than_ten_parameters():
    for room in (clearhead.model, clearhead.generate):
        for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            for name, each in inspect.getmembers(import_module(module.name), inspect.isclass):
                own = each.__module__.startswith(room.__name__) and not issubclass(each, BaseModel | Structure)
                assert not own or len(inspect.signature(each).parameters) <= 10, name


def test_a_mask_given_by_hand_is_obeyed(tiny):
    model, source, alone = tiny(), tokens(7), AttentionMask(window=1)
    other = torch.cat([source[:, :6], source[:, 6:] % 22 + 1], dim=1)
    seen, changed = (model.encode(each, mask=alone).hidden for each in (source, other))
    torch.testing.assert_close(seen[:, :6], changed[:, :6])
    assert not torch.allclose(seen, model.encode(source, mask=OPEN).hidden)
