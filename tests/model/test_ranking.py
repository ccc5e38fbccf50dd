"""What the compiled library tells of logits is what PyTorch tells."""

import pytest
import torch

from clearhead.model.packing import ranking
from clearhead.model.packing.library import library, why_not

pytestmark = pytest.mark.skipif(library() is None, reason=f"no compiled step: {why_not()}")
SHAPES = pytest.mark.parametrize(("rows", "vocab"), [(1, 5), (3, 64), (2, 79), (129, 1003), (7, 8000)])


@SHAPES
@pytest.mark.parametrize("scale", [0.1, 3.0, 60.0])
def test_log_sums(rows, vocab, scale):
    logits = scale * torch.randn(rows, vocab, generator=torch.Generator().manual_seed(1))
    logits[0, 2] = -torch.inf
    torch.testing.assert_close(ranking.log_sums(logits), logits.double().logsumexp(1, keepdim=True).float())


@SHAPES
@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("order", ["random", "rising", "falling"])
def test_largest(rows, vocab, count, order):
    logits = torch.randn(rows, vocab, generator=torch.Generator().manual_seed(2))
    logits = logits if order == "random" else logits.sort(dim=1, descending=order == "falling").values
    best, places = ranking.largest(logits, count)
    expected = logits.topk(count, dim=1)
    assert torch.equal(best, expected.values)
    assert torch.equal(logits.gather(1, places), best)
    assert all(len(set(each)) == count for each in places.tolist())


def test_of_equal_logits_the_first_ones_are_taken():
    _, places = ranking.largest(torch.zeros(2, 200), 3)
    assert places.tolist() == [[0, 1, 2]] * 2


def test_a_row_that_is_not_a_number_has_no_sum():
    logits = torch.zeros(3, 70)
    logits[1] = torch.nan
    logits[2, 5] = torch.nan
    sums = ranking.log_sums(logits)[:, 0]
    assert sums[0].isfinite()
    assert not sums[1:].isfinite().any()


def test_other_logits_are_left_to_pytorch():
    assert not ranking.ranks(torch.zeros(1, 3, dtype=torch.float64))
    assert not ranking.ranks(torch.zeros(1, 3, device="meta"))
