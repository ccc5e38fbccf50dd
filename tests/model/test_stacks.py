"""Stacks: each learns, sees neither padding nor the future, decodes step by step, and is what torch has of its kind."""

import copy
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from learning import all_move, memorise
from pydantic import ValidationError
from torch import Tensor, nn
from torch_twin import close, shake

from clearhead.core.errors import ConfigError, ModelError
from clearhead.generate import DenseCache, SearchConfig, search
from clearhead.model import CAUSAL, NO_CACHE, OPEN, AttentionMask, Transformer
from clearhead.model.forward_pass import Pass
from clearhead.model.stack import STACKS
from clearhead.model.stack.convolution import Convolution
from clearhead.model.stack.fourier import Fourier
from clearhead.model.stack.recurrent import Recurrent

double = pytest.mark.usefixtures("double")
NAMES = STACKS.names()
DECODERS = [name for name in NAMES if STACKS.get(name).decodes]
EACH, EACH_DECODER = pytest.mark.parametrize("name", NAMES), pytest.mark.parametrize("name", DECODERS)
RECURRENT = [name for name in NAMES if issubclass(STACKS.get(name), Recurrent)]
EACH_RECURRENT = pytest.mark.parametrize("name", RECURRENT)
IDS = torch.tensor([[5, 3, 22, 1, 9, 14, 5], [3, 2, 2, 7, 4, 4, 1], [11, 6, 9, 8, 21, 13, 10]])
LENGTHS = [7, 4, 1]
VALID = torch.arange(7) < torch.tensor(LENGTHS)[:, None]


def inputs(model: Transformer) -> list[Tensor | None]:
    """Source and target of a model of any kind."""
    return [IDS if layers else None for layers in (model.config.encoder_layers, model.config.decoder_layers)]


def logits(model: Transformer) -> Tensor:
    """Scores of every token, by a model of any kind: (3, 7, vocab)."""
    return model.logits(model(*inputs(model)))


def loss(model: Transformer) -> Tensor:
    return F.cross_entropy(logits(model).flatten(0, 1), (IDS % 22 + 1).flatten())


def each_kind(tiny, name: str, **changes: object) -> list[Transformer]:
    """One model of each kind that the stack can be."""
    sides = [{"decoder_layers": 0}] + ([{}, {"encoder_layers": 0}] if name in DECODERS else [])
    models = [tiny(stack=name, **each, **changes) for each in sides]
    for each in models:
        shake(each)
    return models


@EACH
def test_a_model_memorises_one_batch(tiny, name):
    for model in each_kind(tiny, name):
        memorise(model, lambda model=model: loss(model))


@EACH
@pytest.mark.parametrize("tie", ["none", "all"])
def test_every_parameter_moves(tiny, name, tie):
    for model in each_kind(tiny, name, tie=tie):
        all_move(model, loss(model))


@EACH
@double
def test_padding_is_inert_on_either_side(tiny, name):
    model = each_kind(tiny, name)[0]
    sides = {"right": VALID, "left": VALID.flip(1)}
    for side, valid in sides.items():
        together = model.encode(IDS, valid).hidden
        other = model.encode(IDS.masked_fill(~valid, 7), valid).hidden
        for row, length in enumerate(LENGTHS):
            own = slice(0, length) if side == "right" else slice(7 - length, 7)
            alone = model.encode(IDS[row : row + 1, own]).hidden[0]
            close(together[row, own], alone)
            close(other[row, own], alone)


@EACH_DECODER
@double
def test_padding_before_a_prompt_is_inert(tiny, name):
    model, valid = each_kind(tiny, name)[2], VALID.flip(1)
    together = model.decode(IDS, valid=valid)
    for row, length in enumerate(LENGTHS):
        close(together[row, 7 - length :], model.decode(IDS[row : row + 1, 7 - length :])[0])


@EACH
@double
def test_a_batch_is_its_sentences(tiny, name):
    for model in each_kind(tiny, name):
        together = logits(model)
        for row in range(3):
            one = [None if each is None else each[row : row + 1] for each in inputs(model)]
            close(together[row], model.logits(model(*one))[0])


@EACH_DECODER
@double
def test_the_future_is_hidden(tiny, name):
    for model in each_kind(tiny, name)[1:]:
        memory = model.encode(IDS) if model.config.encoder_layers else None
        changed = IDS.clone()
        changed[:, 4:] = changed[:, 4:] % 22 + 1
        before, after = (model.decode(each, memory) for each in (IDS, changed))
        close(before[:, :4], after[:, :4], 1e-12)
        assert (before[:, 4:] - after[:, 4:]).abs().amax(dim=-1).min() > 1e-6


@EACH_DECODER
@double
@pytest.mark.parametrize("pieces", [[1] * 7, [3, 1, 3], [7]], ids=str)
def test_step_by_step_is_all_at_once(tiny, name, pieces):
    for model in each_kind(tiny, name)[1:]:
        memory = model.encode(IDS, VALID) if model.config.encoder_layers else None
        cache, found, start = DenseCache(2), [], 0
        for length in pieces:
            positions = torch.arange(start, start + length)[None]
            part = IDS[:, start : start + length]
            found.append(model.decode(part, memory, positions=positions, cache=cache, mask=CAUSAL))
            start += length
        close(torch.cat(found, dim=1), model.decode(IDS, memory))


@EACH_DECODER
def test_a_search_finds_the_most_probable_translation(tiny, name):
    model = each_kind(tiny, name, source_vocab=5, target_vocab=5)[1]
    sources, config = [[1, 4, 3, 2], [3, 2]], SearchConfig(beams=30, length_penalty=0, length_factor=0, length_extra=3)
    found = search(model, sources, config, bos=1, eos=2)
    for source, best in zip(sources, found, strict=True):
        memory, totals = model.encode(torch.tensor([source])), {}
        for words in [each for length in range(4) for each in product([1, 3, 4], repeat=length)]:
            scores = model.logits(model.decode(torch.tensor([[1, *words]]), memory))[0]
            scores[:, 0] = -torch.inf  # a search never chooses padding
            steps = zip(scores.log_softmax(dim=-1), [*words, 2][:3], strict=False)
            totals[words] = sum(step[token].item() for step, token in steps)
        most_probable = max(totals, key=totals.__getitem__)
        assert tuple(best[0].tokens) == most_probable
        assert best[0].log_probability == pytest.approx(totals[most_probable], abs=1e-4)


@EACH
@double
def test_the_gradient_of_a_stack_is_right(tiny, name):
    stack = each_kind(tiny, name)[0].encoder
    mask = AttentionMask(valid=VALID[:, :4])
    positions = torch.arange(4)[None]

    def run(hidden: Tensor) -> Tensor:
        return stack.body(hidden, positions, mask, None, NO_CACHE)

    assert torch.autograd.gradcheck(run, torch.randn(3, 4, 12, requires_grad=True), fast_mode=True)


@EACH
def test_a_model_runs_in_bfloat16(tiny, name):
    for model in each_kind(tiny, name):
        exact = logits(model)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = logits(model)
        rounded = logits(copy.deepcopy(model).to(torch.bfloat16))
        for each in (mixed, rounded):
            assert F.cosine_similarity(each.float().flatten(), exact.flatten(), dim=0) > 0.99


@EACH
def test_what_only_attention_can_obey_is_refused(tiny, name):
    model = each_kind(tiny, name)[0]
    mask = AttentionMask(allowed=torch.ones(7, 7, dtype=torch.bool).tril())
    if name == "transformer":
        assert not torch.allclose(model.encode(IDS, mask=mask).hidden, model.encode(IDS).hidden)
    else:
        with pytest.raises(ModelError, match="only attention can obey"):
            model.encode(IDS, mask=mask)
        with pytest.raises(ValidationError, match=f"stack {name} shares no layers"):
            tiny(stack=name, layer_groups=1, decoder_layers=0)


@double
@EACH_RECURRENT
def test_a_recurrent_encoder_is_that_of_torch(tiny, name):
    model = tiny(stack=name, decoder_layers=0)
    kind = type(model.encoder.layers[0].cell)
    theirs = kind(12, 6, num_layers=2, bidirectional=True, batch_first=True)
    for layer, ours in enumerate(model.encoder.layers):
        for key, value in ours.cell.state_dict().items():
            theirs.get_parameter(key.replace("l0", f"l{layer}")).data = value
    embedded = model.encoder.embedding_sum(model.encoder.embedding(IDS), torch.arange(7)[None])
    close(model.encode(IDS).hidden, theirs(embedded)[0])
    packed = nn.utils.rnn.pack_padded_sequence(embedded, torch.tensor(LENGTHS), batch_first=True)
    expected, _ = nn.utils.rnn.pad_packed_sequence(theirs(packed)[0], batch_first=True)
    close(model.encode(IDS, VALID).hidden[VALID], expected[VALID])


@double
def test_an_lstm_is_its_equations(tiny):
    model = tiny(stack="lstm", encoder_layers=0, decoder_layers=1)
    cell = model.decoder.layers[0].cell
    hidden = model.decoder.embedding_sum(model.decoder.embedding(IDS), torch.arange(7)[None])
    h, c = torch.zeros(3, 12), torch.zeros(3, 12)
    for step in range(7):
        gates = hidden[:, step] @ cell.weight_ih_l0.T + cell.bias_ih_l0 + h @ cell.weight_hh_l0.T + cell.bias_hh_l0
        i, f, g, o = gates.chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        close(model.decode(IDS)[:, step], h)


@double
@EACH_RECURRENT
def test_a_recurrent_decoder_may_know_only_where_to_start(tiny, name):
    model = tiny(stack={"kind": name, "reads": "start"}, encoder_layers=1, decoder_layers=1)
    assert not any("cross" in each for each, _ in model.named_parameters())
    memory = model.encode(IDS, VALID)
    mean = torch.stack([memory.hidden[row, :length].mean(dim=0) for row, length in enumerate(LENGTHS)])
    first = model.decoder.starts[0](mean).tanh()
    cell = model.decoder.layers[0].cell
    before = first[None] if name != "lstm" else tuple(each.contiguous() for each in first[None].chunk(2, dim=-1))
    embedded = model.decoder.embedding_sum(model.decoder.embedding(IDS), torch.arange(7)[None])
    close(model.decode(IDS, memory), cell(embedded, before)[0])
    all_move(model, loss(model))


def test_two_directions_share_an_even_width(tiny):
    with pytest.raises(ConfigError, match="expected an even number"):
        tiny(stack="lstm", d_model=9, heads=3)


@double
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("width", "dilation"), [(1, 1), (3, 1), (3, 2), (2, 3)])
def test_a_convolution_is_a_sum_over_its_slots(causal, width, dilation):
    ours, hidden = Convolution(4, width, dilation, causal=causal), torch.randn(3, 7, 4)
    shake(ours)
    behind = (width - 1) * dilation - (0 if causal else (width - 1) * dilation // 2)
    found = ours(hidden, Pass(torch.arange(7)[None], AttentionMask(valid=VALID)), NO_CACHE)
    for row in range(3):
        for slot in range(7):
            total = ours.bias.clone()
            for tap in range(width):
                at = slot - behind + tap * dilation
                if 0 <= at < LENGTHS[row]:
                    total = total + ours.weight[:, :, tap] @ hidden[row, at]
            close(found[row, slot], total[:4] * total[4:].sigmoid())


@double
@pytest.mark.parametrize(("width", "growth"), [(3, 1), (3, 2), (2, 3)])
def test_the_receptive_field_is_the_formula(tiny, width, growth):
    options = {"kind": "convolution", "width": width, "growth": growth}
    model = tiny(stack=options, encoder_layers=0, decoder_layers=3, length=40)
    field = 1 + (width - 1) * (1 + growth + growth**2)
    embedded, positions = torch.randn(40, 12), torch.arange(40)[None]

    def last(hidden: Tensor) -> Tensor:
        return model.decoder.body(hidden[None], positions, CAUSAL, None, NO_CACHE)[0, -1]

    reached = torch.autograd.functional.jacobian(last, embedded).abs().amax(dim=(0, 2)) > 0
    back = {a + b * growth + c * growth**2 for a, b, c in product(range(width), repeat=3)}
    expected = [slot for slot in range(40) if 39 - slot in back]
    assert reached.nonzero()[:, 0].tolist() == expected
    assert 40 - expected[0] == field


@double
def test_a_fourier_layer_is_that_of_numpy():
    hidden = torch.randn(3, 7, 12)
    found = Fourier()(hidden, Pass(torch.arange(7)[None], OPEN), NO_CACHE)
    close(found, torch.tensor(np.fft.fft2(hidden.numpy()).real))
    masked = Fourier()(hidden, Pass(torch.arange(7)[None], AttentionMask(valid=VALID)), NO_CACHE)
    for row, length in enumerate(LENGTHS):
        close(masked[row, :length], torch.tensor(np.fft.fft2(hidden[row, :length].numpy()).real))


def test_a_fourier_stack_cannot_decode(tiny):
    with pytest.raises(ValidationError, match="stack fourier cannot serve a decoder"):
        tiny(stack="fourier")
