"""Cross-entropy of a linear output layer without its logits tensor.

The layer before the loss has one row for each token and one column for each word: at 4,096 tokens and 32,000 words
it holds 0.5 GB, several times over. Here rows go through in blocks, and each block's gradient is computed at once while
its logits are at hand, so memory does not grow with tokens x vocabulary. Within a block the passes over
single logits go through in strips small enough for the processor's cache.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

BLOCK = 1 << 22  # logits of one matrix product
STRIP = 1 << 19  # logits that are turned into probabilities together


class Teacher(NamedTuple):
    """Another model's view of the same tokens: hidden (tokens, width), weight (vocab, width), and its share, 0 to 1."""

    hidden: Tensor
    weight: Tensor
    share: float


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    smoothing: float = 0.0,
    agreement: float = 0.0,
    teacher: Teacher | None = None,
) -> tuple[Tensor, Tensor]:
    """Sum of the label-smoothed cross-entropy over tokens, and the sum without smoothing.

    loss = sum_i [ logsumexp(z_i) - (1 - e) z_i[y_i] - (e / V) sum_v z_i[v] ],  z_i = weight hidden_i

    With `agreement` a > 0, rows 2i and 2i + 1 are the same token seen twice, under other dropout masks, and for each
    such pair the loss has the distance of their distributions p and q besides (Liang et al., 2021, equation 2):

    a / 2 [ KL(p || q) + KL(q || p) ] = a / 2 sum_v (p[v] - q[v]) (z_p[v] - z_q[v])

    With a teacher of share s the distribution to be met is (1 - s) times that of the labels and s times the teacher's
    (Hinton et al., 2015, section 2; Kim and Rush, 2016, section 3.1).

    Args:
        hidden: (tokens, d_model); its gradient is computed here.
        weight: (vocab, d_model) of the output layer.
        labels: (tokens,) int64.
        smoothing: e, the share of probability spread evenly over all words (Szegedy et al., 2016, section 7).
        agreement: a; unless 0, the number of tokens is even.
        teacher: gets no gradients.

    Returns:
        Two scalars in nats: the loss, with gradients to hidden and weight, and the plain negative log-likelihood.
    """
    given = (hidden, weight, labels, smoothing, agreement, teacher)
    loss, plain = _LinearCrossEntropy.apply(*given)  # type: ignore[no-untyped-call]
    return loss, plain


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        labels: Tensor,
        smoothing: float,
        agreement: float,
        teacher: Teacher | None,
    ) -> tuple[Tensor, Tensor]:
        dtype = torch.get_autocast_dtype(hidden.device.type) if _autocast(hidden) else hidden.dtype
        matrix, states = weight.to(dtype), hidden.to(dtype)
        taught = None if teacher is None else _Taught(teacher, dtype)
        smoothing = smoothing if teacher is None else (1 - teacher.share) * smoothing
        grads = any(ctx.needs_input_grad[:2])
        hidden_grad = torch.empty_like(states) if grads else None
        weight_grad = torch.zeros_like(weight) if grads else None
        loss = plain = weight.new_zeros(())
        mean = matrix.mean(dim=0, dtype=weight.dtype)  # (d_model,): gives the mean logit of a token
        size = _rows(BLOCK, len(weight))
        room = states.new_empty(min(size, len(labels)), len(weight))  # one for all blocks: fresh memory is slow memory
        for start in range(0, len(labels), size):
            block = slice(start, start + size)
            logits = torch.mm(states[block], matrix.T, out=room[: len(labels[block])])  # (block, vocab)
            right = logits.gather(1, labels[block, None])[:, 0].to(weight.dtype)  # (block,)
            if taught is not None:
                taught.look(block, right)
            nll, more = _to_slope(logits, labels[block], right, smoothing, agreement, taught)
            plain = plain + nll.sum()
            loss = loss + nll.sum() + more
            if smoothing:  # -log p averaged over all words, in place of the share of the right one
                loss = loss + smoothing * (right.sum() - (states[block].to(weight.dtype) @ mean).sum())
            if hidden_grad is not None and weight_grad is not None:
                torch.mm(logits, matrix, out=hidden_grad[block])
                weight_grad += logits.T @ states[block]
        if smoothing and hidden_grad is not None and weight_grad is not None:
            even = smoothing / len(weight)  # the part of the slope that is the same for every word
            hidden_grad -= (smoothing * mean).to(dtype)
            weight_grad -= even * states.to(weight.dtype).sum(dim=0)
        if grads:
            ctx.save_for_backward(hidden_grad, weight_grad)
            ctx.hidden_dtype = hidden.dtype
        ctx.mark_non_differentiable(plain)
        return loss, plain

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        hidden_grad, weight_grad = ctx.saved_tensors
        return hidden_grad.to(ctx.hidden_dtype) * outer[0], weight_grad * outer[0], *[None] * 4


def _autocast(hidden: Tensor) -> bool:
    return torch.is_autocast_enabled(hidden.device.type)


def _rows(logits: int, vocab: int) -> int:
    """How many rows of logits go through together: an even number, so that no pair is parted."""
    return max(2, logits // vocab // 2 * 2)


class _Taught:
    """What a teacher says of the rows of one block after another."""

    def __init__(self, teacher: Teacher, dtype: torch.dtype) -> None:
        self.states, self.matrix, self.share = teacher.hidden.to(dtype), teacher.weight.to(dtype), teacher.share
        self.logits = self.right = teacher.hidden

    def look(self, block: slice, right: Tensor) -> None:
        """Turn to a block whose labels have these logits."""
        self.logits, self.right = self.states[block] @ self.matrix.T, right

    def teach(self, part: slice, logits: Tensor, share: Tensor) -> Tensor:
        """Less of the teacher's shares q in those of the rows; what is lost by them, s sum (z[y] - q . z)."""
        q = self.logits[part].softmax(dim=1)  # (strip, vocab)
        share.sub_(q, alpha=self.share)
        expected = q.mul_(logits).sum(dim=1, dtype=self.right.dtype)
        return self.share * (self.right[part] - expected).sum()


def _to_slope(
    logits: Tensor, labels: Tensor, right: Tensor, smoothing: float, agreement: float, taught: _Taught | None
) -> tuple[Tensor, Tensor]:
    """Overwrite logits by softmax - (1 - e) one-hot; d loss / d logits is that minus e / V. Pairs add their own slope,
    and a teacher takes its share of the one-hot.

    Returns:
        -log p of each label (block,), and what the loss has besides; in the dtype of `right`, the labels' logits.
    """
    size = _rows(STRIP, logits.shape[1])
    nll, more = torch.empty_like(right), right.new_zeros(())
    own_share = 1 - smoothing - (0.0 if taught is None else taught.share)
    for start in range(0, len(labels), size):
        part = slice(start, start + size)
        rows, row = logits[part], torch.arange(len(labels[part]), device=labels.device)
        share = rows.softmax(dim=1)  # (strip, vocab)
        own = share[row, labels[part]].to(right.dtype)  # (strip,)
        nll[part] = -own.log()
        if not own.all():  # a share too small for its format: log p = z - max, as nothing else matters then
            nll[part] = torch.where(own > 0, nll[part], rows.amax(dim=1).to(right.dtype) - right[part])
        if agreement:
            more = more + _draw_together(rows, share, agreement, right.dtype)
        if taught is not None:
            more = more + taught.teach(part, rows, share)
        share[row, labels[part]] -= own_share
        rows.copy_(share)
    return nll, more


def _draw_together(logits: Tensor, share: Tensor, agreement: float, dtype: torch.dtype) -> Tensor:
    """Add to the shares (strip, vocab) the slope of the distance of each two rows; returns the sum of the distances.

    d/dz_p of a / 2 sum (p - q)(z_p - z_q) is a / 2 [ p (r - sum p r) + p - q ] with r = z_p - z_q; in r the two
    normalisers are missing, which no sum here feels.
    """
    p, q = share[0::2], share[1::2]  # (strip / 2, vocab)
    ratio, gap = logits[0::2] - logits[1::2], p - q
    by_p, by_q = p * ratio, q * ratio
    mean_p, mean_q = (each.sum(dim=1, keepdim=True, dtype=dtype) for each in (by_p, by_q))
    by_p.sub_(p * mean_p.to(p.dtype)).add_(gap)
    by_q.sub_(q * mean_q.to(q.dtype)).add_(gap)
    p.add_(by_p, alpha=agreement / 2)
    q.sub_(by_q, alpha=agreement / 2)
    return agreement / 2 * (mean_p - mean_q).sum()
