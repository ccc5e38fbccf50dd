"""Cross-entropy of a linear output layer without its logits tensor.

The layer before the loss has one row for each token and one column for each word: at 4,096 tokens and 32,000 words
it holds 0.5 GB, several times over. Here rows go through in blocks, and each block's gradient is computed at once while
its logits are at hand, so memory does not grow with tokens x vocabulary. Within a block the passes over
single logits go through in strips small enough for the processor's cache.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from clearhead.model.fused import can_slope, slope_

BLOCK = 1 << 22  # logits of one matrix product
STRIP = 1 << 19  # logits that are turned into probabilities together


class Teacher(NamedTuple):
    """What somebody else thinks of the same tokens: a softmax of logits that are a product, as our own are.

    Attributes:
        features: (tokens, width).
        matrix: (vocab, width), with a row for each of our words; softmax(features matrix^T) are the probabilities.
        share: of the distribution to be met that is the teacher's, 0 to 1.
    """

    features: Tensor
    matrix: Tensor
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
        if teacher is not None:
            teacher = Teacher(teacher.features.to(dtype), teacher.matrix.to(dtype), teacher.share)
        aim = _Aim.of(smoothing, agreement, 0.0 if teacher is None else teacher.share)
        grads = any(ctx.needs_input_grad[:2])
        hidden_grad = torch.empty_like(states) if grads else None
        weight_grad = torch.zeros_like(weight) if grads else None
        loss = plain = weight.new_zeros(())
        mean = matrix.mean(dim=0, dtype=weight.dtype)  # (d_model,): gives the mean logit of a token
        size = _rows(BLOCK, len(weight))  # one room for all blocks: fresh memory is slow memory
        room = [states.new_empty(min(size, len(labels)), len(weight)) for _ in range(1 if teacher is None else 2)]
        for start in range(0, len(labels), size):
            block = slice(start, start + size)
            logits = torch.mm(states[block], matrix.T, out=room[0][: len(labels[block])])  # (block, vocab)
            right = logits.gather(1, labels[block, None])[:, 0].to(weight.dtype)  # (block,)
            theirs = None
            if teacher is not None:
                theirs = torch.mm(teacher.features[block], teacher.matrix.T, out=room[1][: len(right)])
            nll, more = _to_slope(logits, labels[block], right, aim, theirs)
            plain = plain + nll.sum()
            loss = loss + nll.sum() + more
            if aim.even:  # -log p averaged over all words, in place of a share of the right one
                loss = loss + aim.even * (right.sum() - (states[block].to(weight.dtype) @ mean).sum())
            if hidden_grad is not None and weight_grad is not None:
                torch.mm(logits, matrix, out=hidden_grad[block])
                weight_grad += logits.T @ states[block]
        if aim.even and hidden_grad is not None and weight_grad is not None:
            hidden_grad -= (aim.even * mean).to(dtype)  # the part of the slope that is the same for every word
            weight_grad -= aim.even / len(weight) * states.to(weight.dtype).sum(dim=0)
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


class _Aim(NamedTuple):
    """What makes up the distribution to be met, whose shares sum to 1, and what is added to the loss besides."""

    own: float  # the label's
    even: float  # of all words together
    taught: float  # the teacher's
    agreement: float

    @classmethod
    def of(cls, smoothing: float, agreement: float, taught: float) -> "_Aim":
        return cls((1 - taught) * (1 - smoothing), (1 - taught) * smoothing, taught, agreement)


def _to_slope(logits: Tensor, labels: Tensor, right: Tensor, aim: _Aim, theirs: Tensor | None) -> tuple[Tensor, Tensor]:
    """Overwrite logits by softmax - own one-hot - taught softmax(theirs); d loss / d logits is that minus what is the
    same for all words. Pairs add their own slope.

    Returns:
        -log p of each label (block,), and what the teacher and the distance of pairs add to the loss; in the dtype of
        `right`, the labels' logits.
    """
    if not aim.agreement and can_slope(logits, *(() if theirs is None else (theirs,))):
        nll, apart = slope_(logits, labels, aim.own, theirs, aim.taught)
        return nll.to(right.dtype), aim.taught * apart.sum().to(right.dtype)
    size = _rows(STRIP, logits.shape[1])
    nll, more = torch.empty_like(right), right.new_zeros(())
    for start in range(0, len(labels), size):
        part = slice(start, start + size)
        rows, row = logits[part], torch.arange(len(labels[part]), device=labels.device)
        share = rows.softmax(dim=1)  # (strip, vocab)
        own = share[row, labels[part]].to(right.dtype)  # (strip,)
        nll[part] = -own.log()
        if not own.all():  # a share too small for its format: log p = z - max, as nothing else matters then
            nll[part] = torch.where(own > 0, nll[part], rows.amax(dim=1).to(right.dtype) - right[part])
        if aim.agreement:
            more = more + _draw_together(rows, share, aim.agreement, right.dtype)
        if theirs is not None:
            taught = theirs[part].softmax(dim=1)
            share.sub_(taught, alpha=aim.taught)
            expected = taught.mul_(rows).sum(dim=1, dtype=right.dtype)
            more = more + aim.taught * (right[part] - expected).sum()
        share[row, labels[part]] -= aim.own
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
