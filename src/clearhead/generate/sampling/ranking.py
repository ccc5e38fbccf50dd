"""The best-ranked tokens that together hold a share of the probability, found without sorting the whole vocabulary."""

from torch import Tensor

FIRST = 128  # tokens looked at first; eight times as many if they do not hold the share


def bar(rank: Tensor, probabilities: Tensor, share: float) -> Tensor:
    """The rank of the last token of the smallest best-ranked set that holds at least the share; a scalar.

    Args:
        rank: (vocab,), the larger the better.
        probabilities: (vocab,), sum 1.
    """
    width, vocab = min(FIRST, len(rank)), len(rank)
    while True:
        best, tokens = rank.topk(width)  # (width,)
        held = probabilities[tokens].cumsum(0)
        if width == vocab or held[-1] >= share:
            last = int((held < share).sum())  # tokens that do not yet hold it
            return best[min(last, width - 1)]
        width = min(8 * width, vocab)
