"""Segments with memory are the whole text under the mask that the memory amounts to."""

import pytest
import torch
from torch.testing import assert_close

from clearhead.generate import SegmentCache
from clearhead.model import CAUSAL, AttentionMask
from clearhead.model.position import POSITIONS

pytestmark = pytest.mark.usefixtures("double")
LENGTH, SEGMENT = 9, 3


@pytest.mark.parametrize("name", POSITIONS.names())
@pytest.mark.parametrize("tokens", [0, 2, 3, 5, 100])
def test_a_segment_reads_the_last_tokens_before_it(tiny, name, tokens):
    model, text = tiny(encoder_layers=0, decoder_layers=2, position=name), torch.randint(1, 23, (3, LENGTH))
    slot = torch.arange(LENGTH)
    start = slot - slot % SEGMENT  # of the segment that a query is in
    allowed = slot[None, :] >= (start - tokens)[:, None]
    expected, cache = model.decode(text, mask=CAUSAL & AttentionMask(allowed=allowed)), SegmentCache(2, tokens)
    for begin in range(0, LENGTH, SEGMENT):
        now = slice(begin, begin + SEGMENT)
        found = model.decode(text[:, now], positions=slot[None, now], cache=cache)
        assert_close(found, expected[:, now], rtol=0.0, atol=1e-10)


def test_no_gradient_enters_the_memory(tiny):
    model, cache = tiny(encoder_layers=0, position="xl"), SegmentCache(2, 4)
    first, second = torch.randint(1, 23, (2, 3, SEGMENT))
    model.decode(first, positions=torch.arange(3)[None], cache=cache)
    model.decode(second, positions=torch.arange(3, 6)[None], cache=cache).sum().backward()
    for index in range(2):
        key, value, positions = cache.layer(index).kept
        assert not key.requires_grad
        assert not value.requires_grad
        assert positions.tolist() == [[2, 3, 4, 5]] * 3
    unseen = [each for each in range(23) if each not in second]
    assert not model.output.grad[unseen].any()  # tokens of the first segment alone learn nothing from the second
