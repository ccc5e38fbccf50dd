"""The cache keeps what it was given: against one that only concatenates, and against a model without a cache."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clearhead.generate import DenseCache
from clearhead.model import CAUSAL, AttentionMask
from clearhead.model.position import POSITIONS

HEADS, WIDTH = 2, 3
EXTEND = st.tuples(st.just("extend"), st.integers(1, 20))
SELECT = st.tuples(st.just("select"), st.lists(st.integers(0, 10_000), min_size=1, max_size=6))


@given(st.lists(EXTEND | SELECT, min_size=1, max_size=12))
@settings(max_examples=80, deadline=None)
def test_a_cache_is_one_that_only_concatenates(steps):
    cache, rows, length = DenseCache(1), 3, 0
    layer = cache.layer(0)
    kept = [torch.empty(3, HEADS, 0, WIDTH), torch.empty(3, HEADS, 0, WIDTH), torch.empty(3, 0, dtype=torch.long)]
    for step, value in steps:
        if step == "select":
            index = torch.tensor([each % rows for each in value])
            cache.select(index)
            kept, rows = [each[index] for each in kept], len(index)
        else:
            new = [*torch.randn(2, rows, HEADS, value, WIDTH).unbind(), torch.arange(length, length + value)[None]]
            held = layer.extend(*new)
            kept = [
                torch.cat([old, each.expand(rows, *each.shape[1:])], dim=-2 if each.dim() == 4 else -1)
                for old, each in zip(kept, new, strict=True)
            ]
            length += value
            for found, expected in zip(held, kept, strict=True):
                assert torch.equal(found, expected)


def test_the_memory_is_computed_once_and_selected_by_source():
    layer, calls = DenseCache(1).layer(0), []

    def compute() -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(1)
        return torch.arange(4.0).view(4, 1, 1, 1), -torch.arange(4.0).view(4, 1, 1, 1)

    for _ in range(2):
        layer.memory(compute)
    layer.select_sources(torch.tensor([3, 1]))
    key, value = layer.memory(compute)
    assert key.flatten().tolist() == [3.0, 1.0]
    assert value.flatten().tolist() == [-3.0, -1.0]
    assert len(calls) == 1


def test_layers_do_not_share_what_they_keep():
    cache = DenseCache(2)
    new = torch.ones(1, HEADS, 1, WIDTH), torch.ones(1, HEADS, 1, WIDTH), torch.zeros(1, 1, dtype=torch.long)
    cache.layer(0).extend(*new)
    assert cache.layer(0).length == 1
    assert cache.layer(1).length == 0


def test_bytes_count_the_buffers():
    cache = DenseCache(2)
    assert cache.bytes == 0
    cache.layer(0).extend(*torch.ones(2, 1, HEADS, 5, WIDTH).unbind(), torch.arange(5)[None])
    assert cache.bytes == 2 * HEADS * 16 * WIDTH * 4


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", POSITIONS.names())
@pytest.mark.parametrize("layers", [(0, 2), (2, 2)], ids=["decoder-only", "encoder-decoder"])
@pytest.mark.parametrize("pieces", [[1] * 9, [4, 5], [1, 3, 5], [9]], ids=str)
def test_each_cached_step_is_the_model_without_a_cache(tiny, name, layers, pieces):
    model = tiny(encoder_layers=layers[0], decoder_layers=layers[1], position=name, kv_heads=1)
    target = torch.randint(1, 23, (3, 9))
    memory = model.encode(torch.randint(1, 23, (3, 7))) if layers[0] else None
    valid = torch.ones(3, 9, dtype=torch.bool)
    valid[1, :3] = False  # left padding
    positions = (valid.long().cumsum(dim=1) - 1).clamp(min=0)
    mask = CAUSAL & AttentionMask(window=4)
    cache, found, end = DenseCache(2), [], 0
    with torch.inference_mode():
        expected = model.decode(target, memory, valid=valid, mask=mask)
        for piece in pieces:
            new, end = slice(end, end + piece), end + piece
            options = {"valid": valid[:, :end], "mask": mask, "positions": positions[:, new], "cache": cache}
            found.append(model.decode(target[:, new], memory, **options))
    torch.testing.assert_close(torch.cat(found, dim=1)[valid], expected[valid], rtol=0.0, atol=1e-10)
