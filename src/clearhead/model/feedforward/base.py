"""The doorway of the feed-forward family: (batch, length, d_model) -> the same shape, each token by itself."""

from torch import Tensor, nn

from clearhead.core.registry import Registry


class FeedForward(nn.Module):
    """A map of each token by itself. Wiring: d_model, d_ff, dropout rate, whether its linear maps have biases."""

    def __init__(self, d_model: int, d_ff: int, dropout: float, bias: bool) -> None:  # noqa: FBT001 (wiring)
        super().__init__()

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, length, d_model) -> the same shape."""
        raise NotImplementedError


FEEDFORWARDS: Registry[FeedForward] = Registry("feedforward")
