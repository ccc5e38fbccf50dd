"""What attention does for pairs of tokens, kernel by kernel and scheme by scheme.

A part of one's own that does something else is given a rule in its own file:

    @mixing.register
    def _(kernel: MyKernel, sizes: HeadSizes, work: Work) -> Cost: ...
"""

from functools import singledispatch

from clearhead.model.accounting.cost import Cost, Work, product, total
from clearhead.model.attention import HeadSizes, Kernel
from clearhead.model.attention.bilinear import Bilinear
from clearhead.model.attention.linear import Linear
from clearhead.model.attention.local import Local
from clearhead.model.attention.low_rank import LowRank
from clearhead.model.attention.random_features import RandomFeatures
from clearhead.model.attention.tiled import Tiled, Tiling
from clearhead.model.position.base import Lent
from clearhead.model.position.shaw import ShawLayer
from clearhead.model.position.xl import XLLayer


@singledispatch
def mixing(kernel: Kernel, sizes: HeadSizes, work: Work) -> Cost:
    """Scores and weighted sums; by default an inner product and a sum of values for each pair in each head."""
    return of_pairs(sizes, work.queries * work.keys)


def of_pairs(sizes: HeadSizes, pairs: int) -> Cost:
    """A score and a weighted value for so many pairs."""
    return product(sizes.heads * pairs, sizes.d_head, 2)


@mixing.register
def _(kernel: Bilinear, sizes: HeadSizes, work: Work) -> Cost:
    pairs = of_pairs(sizes, work.queries * work.keys)
    return pairs + product(sizes.heads * work.queries, sizes.d_head, sizes.d_head)


@mixing.register
def _(kernel: Local, sizes: HeadSizes, work: Work) -> Cost:
    """Global tokens meet all keys; each block of queries meets those and the keys within reach."""
    first, pairs = min(kernel.global_tokens, work.queries), 0
    for row in range(first, work.queries, kernel.window):
        stop = min(row + kernel.window, work.queries)
        low, high = max(row - kernel.window + 1, 0), min(stop + kernel.window - 1, work.keys)
        pairs += (stop - row) * (high - low + min(first, low))
    return of_pairs(sizes, first * work.keys + pairs)


@mixing.register
def _(kernel: LowRank, sizes: HeadSizes, work: Work) -> Cost:
    rank = len(kernel.keys)
    return of_pairs(sizes, rank * work.keys) + of_pairs(sizes, rank * work.queries)


@mixing.register
def _(kernel: Tiled, sizes: HeadSizes, work: Work) -> Cost:
    """Tiles that the mask hides as a whole are left out; the backward pass computes the scores once more."""
    tiling = Tiling(work.mask, work.queries, work.keys, kernel.block, kernel.scale)
    once = of_pairs(sizes, sum(len(rows) * len(each) for rows in tiling.rows() for each in tiling.columns(rows)))
    return Cost(once.forward, once.backward + once.forward // 2)


@mixing.register
def _(kernel: Linear, sizes: HeadSizes, work: Work) -> Cost:
    return _by_features(kernel, sizes.d_head, sizes, work)


@mixing.register
def _(kernel: RandomFeatures, sizes: HeadSizes, work: Work) -> Cost:
    features = len(kernel.directions)
    tokens = sizes.heads * (work.queries + work.keys)
    return _by_features(kernel, features, sizes, work) + product(tokens, sizes.d_head, features, gradients=1)


def _by_features(kernel: Linear, features: int, sizes: HeadSizes, work: Work) -> Cost:
    """Attention whose weights are products of features; one column more than the values for the sum of the weights."""
    heads, width = sizes.heads, sizes.d_head + 1
    if not work.mask.only_padding_and_causal:
        by_pair = heads * work.queries
        return product(by_pair, features, work.keys) + product(by_pair, work.keys, sizes.d_head)
    if not work.mask.causal or work.queries == 1:
        return product(heads * (work.queries + work.keys), features, width)
    chunks = [min(kernel.chunk, work.queries - start) for start in range(0, work.queries, kernel.chunk)]
    within = total(product(heads * each, features + width, each) for each in chunks)
    last = product(heads * chunks[-1], features, width).backward  # nobody reads the state after the last chunk
    between = product(heads * 2 * work.queries, features, width)
    return within + Cost(between.forward, between.backward - last)


@singledispatch
def relating(position: object, sizes: HeadSizes, work: Work) -> Cost:
    """What a position scheme computes in each self-attention; most have no matrix product.

    What serves all blocks is counted once, in the cost of the scheme itself.
    """
    return Cost()


@relating.register
def _(position: Lent, sizes: HeadSizes, work: Work) -> Cost:
    return relating(position.position, sizes, work)


@relating.register
def _(position: ShawLayer, sizes: HeadSizes, work: Work) -> Cost:
    rows = sizes.heads * work.queries
    scores = product(rows, sizes.d_head, len(position.keys))
    return scores + product(rows, work.keys, sizes.d_head)  # the vectors of distances, weighted as the values


@relating.register
def _(position: XLLayer, sizes: HeadSizes, work: Work) -> Cost:
    distances = work.queries + work.keys - 1
    features = sizes.heads * sizes.d_head
    project = product(distances, position.project.in_features, features, gradients=1)  # the waves are fixed
    return project + product(work.queries, features, distances) + product(work.keys, features, 1)
