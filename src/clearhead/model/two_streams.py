"""Two-stream attention: predict each token unseen, in any order (Yang et al., 2019, arXiv:1906.08237, section 2.3).

The content stream reads tokens, the query stream reads only where they stand. Both run through the same blocks, side
by side in one sequence of twice the length, and a mask keeps them apart:

    hidden = torch.cat([embedded tokens, one vector at each place], dim=1)
    stack.body(hidden, positions.repeat(1, 2), two_streams(order), None, NO_CACHE)[:, length:]  # what predicts
"""

import torch
from torch import Tensor

from clearhead.model.mask import AttentionMask


def two_streams(order: Tensor, valid: Tensor | None = None) -> AttentionMask:
    """The mask of content and query stream.

    Args:
        order: (batch, length) int, when each token is predicted; equal numbers are predicted from the same context.
        valid: (batch, length) bool, False for padding.

    Returns:
        A mask over 2 * length slots, content first. A content slot sees the contents predicted no later and its own;
        a query slot sees those predicted earlier, so nothing leaks its own token at any depth.
    """
    earlier = order[:, None, :] < order[:, :, None]  # (batch, queries, keys)
    own = torch.eye(order.shape[1], dtype=torch.bool, device=order.device)
    contents = torch.cat(
        [(order[:, None, :] <= order[:, :, None]) | own, earlier], dim=1
    )  # (batch, 2 * length, length)
    allowed = torch.cat([contents, torch.zeros_like(contents)], dim=2)  # no one reads the query stream
    mask = AttentionMask(allowed=allowed[:, None])
    return mask if valid is None else mask.padded(valid.repeat(1, 2))
