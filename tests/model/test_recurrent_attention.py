"""Linear attention that keeps sums: the model without a cache, at constant memory."""

import pytest
import torch
from torch_twin import close

from clearhead.core.errors import ModelError
from clearhead.model import CAUSAL, OPEN, AttentionMask, Transformer
from clearhead.model.attention import ATTENTIONS, Linear
from clearhead.model.attention.recurrent import SumsCache, recurrent

LINEAR = {"attention": {"kind": "linear", "chunk": 3}, "cross_attention": "dot"}
TARGET = torch.arange(27).view(3, 9) % 22 + 1
double = pytest.mark.usefixtures("double")


def places(valid: torch.Tensor) -> torch.Tensor:
    return (valid.long().cumsum(dim=1) - 1).clamp(min=0)


@double
@pytest.mark.parametrize("layers", [(0, 2), (2, 2)], ids=["decoder-only", "encoder-decoder"])
@pytest.mark.parametrize("pieces", [[1] * 9, [4, 5], [1, 3, 5], [9]], ids=str)
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_each_step_is_the_model_without_a_cache(tiny, layers, pieces, kv_heads):
    model = tiny(encoder_layers=layers[0], decoder_layers=layers[1], kv_heads=kv_heads, **LINEAR)
    memory = model.encode(TARGET[:, :7]) if layers[0] else None
    valid = torch.ones(3, 9, dtype=torch.bool)
    valid[1, :3] = False  # left padding
    expected, found, end = model.decode(TARGET, memory, valid=valid), [], 0
    with recurrent(model) as cache, torch.inference_mode():
        for piece in pieces:
            new, end = slice(end, end + piece), end + piece
            options = {"valid": valid[:, :end], "positions": places(valid)[:, new], "cache": cache}
            found.append(model.decode(TARGET[:, new], memory, mask=OPEN if piece == 1 else CAUSAL, **options))
    close(torch.cat(found, dim=1)[valid], expected[valid])


def read(model: Transformer, cache: SumsCache, tokens: torch.Tensor, start: int) -> torch.Tensor:
    at = torch.arange(start, start + tokens.shape[1])[None]
    return model.decode(tokens, positions=at, cache=cache)


@double
def test_the_memory_does_not_grow(tiny):
    model = tiny(encoder_layers=0, **LINEAR)
    with recurrent(model) as cache, torch.inference_mode():
        assert cache.bytes == 0
        read(model, cache, TARGET, 0)
        held = cache.bytes
        for start in range(9, 60):
            read(model, cache, TARGET[:, :1], start)
        assert cache.bytes == held == 2 * 3 * 2 * 6 * (6 + 1) * 8  # layers, rows, heads, features, d_head + 1, bytes


@double
def test_rows_change_places(tiny):
    model, rows = tiny(encoder_layers=0, **LINEAR), torch.tensor([2, 0, 0])
    with recurrent(model) as cache, torch.inference_mode():
        read(model, cache, TARGET[:, :8], 0)
        cache.select(rows)
        found = read(model, cache, TARGET[rows, 8:], 8)
    close(found, model.decode(TARGET)[rows, 8:])


def test_the_model_is_itself_again_afterwards(tiny):
    model = tiny(encoder_layers=0, **LINEAR)
    before, names = model.decode(TARGET), list(model.state_dict())
    with pytest.raises(RuntimeError), recurrent(model):
        raise RuntimeError
    assert list(model.state_dict()) == names
    assert torch.equal(model.decode(TARGET), before)
    assert isinstance(model.decoder.blocks[1].attention.kernel, Linear)


OTHERS = [each for each in ATTENTIONS.names() if each != "linear" and ATTENTIONS.get(each).any_mask]


@pytest.mark.parametrize("name", OTHERS)
def test_other_attention_cannot_be_summed_up(tiny, name):
    with (
        pytest.raises(ModelError, match="only linear attention can be summed up"),
        recurrent(tiny(encoder_layers=0, attention=name)),
    ):
        pass


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder_layers": 0}, "found 0 for 0 layers"),
        ({"stack": "lstm"}, "found 0 for 2 layers"),
        ({"layer_groups": 1}, "found 1 for 2 layers"),
        ({"window": 4}, "cannot forget some; found window 4"),
    ],
    ids=str,
)
def test_models_without_such_sums_are_refused(tiny, changes, message):
    with pytest.raises(ModelError, match=message), recurrent(tiny(**LINEAR, **changes)):
        pass


RULES = [
    AttentionMask(segments=torch.zeros(3, 9, dtype=torch.long)),
    AttentionMask(window=4),
    AttentionMask(window=40),  # beyond the keys of this pass, but not beyond those of the next ones
    AttentionMask(own=False),
    AttentionMask.adding(torch.zeros(9, 9)),
]


@pytest.mark.parametrize("rule", RULES, ids=["segments", "narrow window", "wide window", "own", "added"])
def test_masks_that_sums_cannot_obey_are_refused(tiny, rule):
    model = tiny(encoder_layers=0, **LINEAR)
    with recurrent(model) as cache, pytest.raises(ModelError, match="hide nothing but padding and the future"):
        model.decode(TARGET, positions=torch.arange(9)[None], mask=CAUSAL & rule, cache=cache)
    assert model.decode(TARGET, mask=CAUSAL & AttentionMask(window=4)).isfinite().all()  # by itself it obeys


def test_a_step_of_one_token_refuses_a_window_too(tiny):
    model = tiny(encoder_layers=0, **LINEAR)
    with recurrent(model) as cache, torch.inference_mode():
        read(model, cache, TARGET, 0)
        at = torch.arange(9, 10)[None]
        with pytest.raises(ModelError, match="hide nothing but padding and the future"):
            model.decode(TARGET[:, :1], positions=at, mask=AttentionMask(window=4), cache=cache)
