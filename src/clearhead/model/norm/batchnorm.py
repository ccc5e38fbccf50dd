"""Batch normalisation (Ioffe and Szegedy, 2015, arXiv:1502.03167) over the tokens that are not padding.

While training, statistics are those of the batch; in eval mode they are running averages. So a token's result depends
on the other tokens of its batch while training, those to its right included: in a decoder the future leaks.
"""

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from clearhead.core.errors import ModelError
from clearhead.model.norm.base import NORMS, Norm

Momentum = Annotated[float, Field(gt=0.0, le=1.0)]


@NORMS.register("batchnorm")
class BatchNorm(Norm):
    """Each feature to mean 0 and variance 1 over all tokens of the batch, then gain and bias.

    Args:
        epsilon: added to the variance.
        momentum: share of the new batch in the running averages.
    """

    across_tokens: ClassVar[bool] = True
    rows = 1  # sets of statistics
    mean: Tensor  # (rows, features), running
    variance: Tensor  # (rows, features), running, unbiased

    def __init__(self, features: int, *, epsilon: float = 1e-5, momentum: Momentum = 0.1) -> None:
        super().__init__(features)
        self.epsilon, self.momentum = epsilon, momentum
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("mean", torch.zeros(self.rows, features))
        self.register_buffer("variance", torch.ones(self.rows, features))

    def forward(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        if valid is None:
            valid = hidden.new_ones(hidden.shape[:-1], dtype=torch.bool)
        row = self.row(valid)
        exact = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        if self.training:
            mean, variance = self.measure(exact[valid], row[valid])
        else:
            mean, variance = self.mean, self.variance
        normal = (exact - mean[row]) * (variance + self.epsilon).rsqrt()[row]
        return (normal * self.weight + self.bias).to(hidden.dtype)

    def row(self, valid: Tensor) -> Tensor:
        """Which statistics each token goes with, int64, the shape of `valid`."""
        return torch.zeros_like(valid, dtype=torch.int64)

    def measure(self, tokens: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (rows, features) of tokens (tokens, features), each counted in its row (tokens,)."""
        count = tokens.new_zeros(self.rows, 1).index_add(0, row, torch.ones_like(tokens[:, :1]))  # (rows, 1)
        mean = self.centre(self._average(tokens, row, count))
        variance = self._average((tokens - mean[row]).square(), row, count)
        self._remember(mean.detach(), variance.detach() * (count / (count - 1).clamp(min=1)), count)
        return mean, variance

    def centre(self, mean: Tensor) -> Tensor:
        """The point that deviations are measured from, (rows, features)."""
        return mean

    def _average(self, values: Tensor, row: Tensor, count: Tensor) -> Tensor:
        sums = torch.zeros_like(count.expand(-1, values.shape[1])).index_add(0, row, values)
        return sums / count.clamp(min=1)  # (rows, features)

    def _remember(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        share = self.momentum * (count > 0).to(mean.dtype)  # rows without a token keep what they had
        with torch.no_grad():
            self.mean += share * (mean - self.mean)
            self.variance += share * (variance - self.variance)


@NORMS.register("powernorm")
class PowerNorm(BatchNorm):
    """Each feature divided by its quadratic mean over the batch; no mean is taken away.

    The variant with statistics of the batch of Shen et al., 2020, arXiv:2003.07845, section 4 (PN-V); the approximate
    backward pass of the complete method is left out.
    """

    def centre(self, mean: Tensor) -> Tensor:
        return torch.zeros_like(mean)


@NORMS.register("noisy_batchnorm")
class NoisyBatchNorm(BatchNorm):
    """Batch normalisation whose results drift at random while training (Santurkar et al., 2018, arXiv:1805.11604).

    Each feature is shifted and stretched anew at every step, to see whether a stable distribution is what helps.

    Args:
        noise: largest shift, and largest additional deviation, of a feature.
    """

    def __init__(
        self,
        features: int,
        *,
        epsilon: float = 1e-5,
        momentum: Momentum = 0.1,
        noise: Annotated[float, Field(ge=0.0)] = 0.5,
    ) -> None:
        super().__init__(features, epsilon=epsilon, momentum=momentum)
        self.noise = noise

    def forward(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        normal = super().forward(hidden, valid)
        if not self.training:
            return normal
        shift, spread = self.noise * (2 * torch.rand_like(normal[:1, ..., :]) - 1), self.noise * torch.rand_like(normal)
        return normal + shift + spread * torch.randn_like(normal)


@NORMS.register("positional_batchnorm")
class PositionalBatchNorm(BatchNorm):
    """Batch normalisation with statistics of its own for each position, as step-wise statistics in recurrent networks.

    Cooijmans et al., 2017, arXiv:1603.09025, section 3. Late positions have few tokens to measure.

    Args:
        length: positions that have statistics.
    """

    decodes: ClassVar[bool] = False  # counts positions from the first token that it is given

    def __init__(
        self,
        features: int,
        *,
        length: Annotated[int, Field(gt=0)] = 512,
        epsilon: float = 1e-5,
        momentum: Momentum = 0.1,
    ) -> None:
        self.rows = length
        super().__init__(features, epsilon=epsilon, momentum=momentum)

    def row(self, valid: Tensor) -> Tensor:
        if valid.shape[-1] > self.rows:
            found, remedy = f"{valid.shape[-1]} tokens", "shorten the text, or raise length in model.norm"
            raise ModelError("no statistics at this position", found=found, expected=f"{self.rows}", remedy=remedy)
        return (valid.long().cumsum(dim=-1) - 1).clamp(min=0)  # counted over valid tokens
