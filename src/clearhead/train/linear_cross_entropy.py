"""Cross-entropy of a linear output layer without its logits tensor.

The layer before the loss has one row for each token and one column for each word: at 4,096 tokens and 32,000 words
it holds 0.5 GB, several times over. Here rows go through in chunks; each chunk's gradient is computed at once while
its logits are at hand, so memory does not grow with tokens x vocabulary.
"""

from typing import Any

import torch
from torch import Tensor

CHUNK = 1 << 22  # logits held at a time


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, labels: Tensor, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Sum of the label-smoothed cross-entropy over tokens, and the sum without smoothing.

    loss = sum_i [ logsumexp(z_i) - (1 - e) z_i[y_i] - (e / V) sum_v z_i[v] ],  z_i = weight hidden_i

    Args:
        hidden: (tokens, d_model); its gradient is computed here.
        weight: (vocab, d_model) of the output layer.
        labels: (tokens,) int64.
        smoothing: e, the share of probability spread evenly over all words (Szegedy et al., 2016, section 7).

    Returns:
        Two scalars in nats: the loss, with gradients to hidden and weight, and the plain negative log-likelihood.
    """
    loss, plain = _LinearCrossEntropy.apply(hidden, weight, labels, smoothing)  # type: ignore[no-untyped-call]
    return loss, plain


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
        dtype = torch.get_autocast_dtype(hidden.device.type) if _autocast(hidden) else hidden.dtype
        matrix, states = weight.to(dtype), hidden.to(dtype)
        grads = any(ctx.needs_input_grad[:2])
        hidden_grad = torch.empty_like(states) if grads else None
        weight_grad = torch.zeros_like(weight) if grads else None
        loss = plain = weight.new_zeros(())
        step = max(1, CHUNK // len(weight))
        for start in range(0, len(labels), step):
            part = slice(start, start + step)
            logits = (states[part] @ matrix.T).to(weight.dtype)  # (chunk, vocab)
            right = logits.gather(1, labels[part, None])[:, 0]  # (chunk,)
            mean = logits.mean(dim=1) if smoothing else torch.zeros_like(right)
            share, total = _softmax(logits)
            plain = plain + (total - right).sum()
            loss = loss + (total - (1 - smoothing) * right - smoothing * mean).sum()
            if hidden_grad is not None and weight_grad is not None:
                slope = _slope(share, labels[part], smoothing).to(dtype)
                hidden_grad[part] = slope @ matrix
                weight_grad += (slope.T @ states[part]).to(weight.dtype)
        if grads:
            ctx.save_for_backward(hidden_grad, weight_grad)
            ctx.hidden_dtype = hidden.dtype
        ctx.mark_non_differentiable(plain)
        return loss, plain

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        hidden_grad, weight_grad = ctx.saved_tensors
        return hidden_grad.to(ctx.hidden_dtype) * outer[0], weight_grad * outer[0], None, None


def _autocast(hidden: Tensor) -> bool:
    return torch.is_autocast_enabled(hidden.device.type)


def _softmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax in the memory of the logits, and their logsumexp (chunk,)."""
    largest = logits.amax(dim=1, keepdim=True)
    share = logits.sub_(largest).exp_()
    mass = share.sum(dim=1, keepdim=True)
    return share.div_(mass), (largest + mass.log())[:, 0]


def _slope(share: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """d loss / d logits = softmax - (1 - e) one-hot - e / V, in the memory of the softmax."""
    if smoothing:
        share -= smoothing / share.shape[1]
    share[torch.arange(len(labels), device=labels.device), labels] -= 1 - smoothing
    return share
