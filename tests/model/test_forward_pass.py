"""What blocks share is computed once in a pass, and nothing of a pass is left for the next."""

import copy
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch_twin import close, shake

from clearhead.core.registry import Choice
from clearhead.model import CAUSAL, AttentionMask, Transformer
from clearhead.model.attention import Fused, HeadSizes
from clearhead.model.attention.projections import LONG
from clearhead.model.feedforward import FEEDFORWARDS
from clearhead.model.forward_pass import Pass
from clearhead.model.once import ANEW, Once
from clearhead.model.position import POSITIONS
from clearhead.model.recompute import recompute

EACH_POSITION = pytest.mark.parametrize("name", POSITIONS.names())
VALID = torch.arange(7) < torch.tensor([[7], [4], [1]])  # (batch, length)
double = pytest.mark.usefixtures("double")


def test_results_are_remembered_for_the_very_same_tensors():
    calls, here, once = [], torch.zeros(2), Once()

    def compute(tensor: torch.Tensor, number: int) -> int:
        calls.append(number)
        return number

    for tensor, number in ((here, 1), (here, 1), (here.clone(), 1), (here, 2)):
        assert once(compute, tensor, number) == number
    assert calls == [1, 1, 2]
    assert ANEW(compute, here, 3) == ANEW(compute, here, 3) == 3
    assert calls[3:] == [3, 3]


def counted(monkeypatch: pytest.MonkeyPatch, kind: type, *names: str) -> Counter[str]:
    """Counts the calls of methods of a class; to be used before a model is made."""
    calls = Counter[str]()
    for name in names:
        plain = getattr(kind, name)

        def spy(self, *inputs, name=name, plain=plain):
            calls[name] += 1
            return plain(self, *inputs)

        monkeypatch.setattr(kind, name, spy)
    return calls


@EACH_POSITION
def test_a_scheme_is_asked_once_for_all_blocks(tiny, name, monkeypatch):
    kind = POSITIONS.get(name)
    asked = [each for each in ("turns", "bias", "bias_of_past") if each in dir(kind)]
    calls = counted(monkeypatch, kind, *asked)
    model, tokens = tiny(position=name, encoder_layers=0, decoder_layers=3), torch.randint(1, 23, (3, 7))
    own = name in ("shaw", "xl")  # parts of each block's own
    for passes in (1, 2):
        model.decode(tokens, valid=VALID)
        assert calls["turns"] == (0 if own else passes)
        assert calls["bias"] + calls["bias_of_past"] == (0 if own else passes)


@pytest.mark.parametrize("position", ["rope", "t5"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_mask_is_drawn_once_for_all_blocks(tiny, position, dropout, monkeypatch):
    calls = counted(monkeypatch, AttentionMask, "tile")
    model = tiny(position=position, encoder_layers=3, decoder_layers=0, attention_dropout=dropout)
    for passes in (1, 2):
        model.train().encode(torch.randint(1, 23, (3, 7)), VALID)
        assert calls["tile"] == passes


@double
@EACH_POSITION
def test_nothing_is_left_of_a_pass(tiny, name):
    model, tokens = tiny(position=name), torch.randint(1, 23, (3, 7))
    fresh = copy.deepcopy(model)
    model.encode(tokens, VALID)
    model.encode(tokens[:, :4], positions=torch.arange(3, 7)[None])
    assert torch.equal(model.encode(tokens, VALID.flip(0)).hidden, fresh.encode(tokens, VALID.flip(0)).hidden)


@double
@EACH_POSITION
def test_what_blocks_share_has_the_gradients_of_what_each_computes_alone(tiny, name):
    plain = tiny(position=name).train()
    alone = copy.deepcopy(plain)
    recompute(alone)
    tokens = torch.randint(1, 23, (3, 7))

    def learn(model: Transformer) -> None:
        model(tokens, tokens.flip(1), source_valid=VALID).square().sum().backward()

    learn(plain)
    learn(alone)
    for (parameter, one), other in zip(plain.named_parameters(), alone.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), parameter
        if one.grad is not None:
            close(one.grad, other.grad)


def test_a_pass_anew_knows_nothing_yet():
    now = Pass(torch.arange(7)[None], CAUSAL)
    mask = now.among(7, None)
    assert now.among(7, None) is mask
    assert now.anew().among(7, None) is not mask
    assert now.anew().positions is now.positions


@pytest.mark.parametrize("window", range(1, 10))
def test_a_window_as_wide_as_the_text_leaves_the_mask(window):
    mask = AttentionMask(causal=True, window=window)
    among = mask.among(7, None)
    assert among.only_causal == (window >= 7)
    device = torch.device("cpu")
    assert torch.equal(among.dense(7, 7, device), mask.dense(7, 7, device))
    assert torch.equal(among.dense(3, 7, device), mask.dense(3, 7, device))


@pytest.mark.parametrize(("window", "causal"), [(6, False), (7, True), (8, True)])
def test_such_a_model_takes_the_causal_kernel(tiny, window, causal, monkeypatch):
    seen, fused = [], F.scaled_dot_product_attention

    def spy(*inputs, **options):
        seen.append(options.get("is_causal", False))
        return fused(*inputs, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    tiny(encoder_layers=0, window=window).decode(torch.randint(1, 23, (3, 7)))
    assert seen == [causal, causal]


@double
@pytest.mark.parametrize("name", FEEDFORWARDS.names())
def test_a_network_computes_the_same_without_gradients(name):
    network = FEEDFORWARDS.build(Choice(kind=name), 12, 20, 0.0, True).eval()
    shake(network)
    hidden = torch.randn(3, 7, 12)
    before, expected = hidden.clone(), network(hidden)
    with torch.no_grad():
        assert torch.equal(network(hidden), expected)
    assert torch.equal(hidden, before)


@double
@pytest.mark.parametrize("length", [LONG - 1, LONG])
@pytest.mark.parametrize("bias", [True, False])
def test_products_for_long_texts_are_rows_of_the_one_product(length, bias):
    part = Fused(HeadSizes(d_model=12, heads=4, kv_heads=2, d_head=6), bias)
    shake(part)
    hidden = torch.randn(2, length, 12)
    one = part.all(hidden)
    with torch.no_grad():
        apart = part.all(hidden)
        for found, expected in zip([*apart, *part.keys_values(hidden)], [*one, *one[1:]], strict=True):
            close(found, expected)
        assert (apart[1].stride(2) == 2 * 6) == (length == LONG)  # keys side by side
