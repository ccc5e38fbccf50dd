"""Pictures as sequences (Dosovitskiy et al., 2021, arXiv:2010.11929): patches are words, a class token stands first."""

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from clearhead.core.errors import ConfigError, ModelError
from clearhead.model.embedding.base import EMBEDDINGS, Embedding

Size = Annotated[int, Field(gt=0)]


@EMBEDDINGS.register("patches")
class Patches(Embedding):
    """Cut square pictures into square patches, row by row, and map each linearly to d_model.

    The same as a convolution whose stride is its width. Positions are left to model.position, which needs
    model.length of at least (image / size)^2 + 1.

    Args:
        image: height and width in pixels.
        size: height and width of a patch; it divides the image.
        channels: numbers for each pixel.
        class_token: put a trained vector first, whose last hidden state stands for the picture.
    """

    decodes: ClassVar[bool] = False
    reads: ClassVar[str] = "pictures"

    def __init__(
        self,
        vocab: int,
        d_model: int,
        pad: int,
        *,
        image: Size = 8,
        size: Size = 2,
        channels: Size = 1,
        class_token: bool = True,
    ) -> None:
        super().__init__(vocab, d_model, pad)
        if image % size:
            raise ConfigError("patches must tile the image", found=f"image {image}, size {size}")
        self.shape, self.size = (channels, image, image), size
        self.projection = nn.Linear(channels * size * size, d_model)
        self.first = nn.Parameter(0.02 * torch.randn(int(class_token), d_model))  # (0 or 1, d_model)

    def forward(self, tokens: Tensor) -> Tensor:
        """Pixels (batch, channels, image, image) -> (batch, 1 + patches, d_model)."""
        if tokens.shape[1:] != self.shape:
            raise ModelError("not the pictures of this model", found=tuple(tokens.shape[1:]), expected=self.shape)
        patches = self.projection(self._cut(tokens))  # (batch, patches, d_model)
        first = self.first.to(patches.dtype).expand(patches.shape[0], -1, -1)  # (batch, 0 or 1, d_model)
        return torch.cat([first, patches], dim=1)

    def length(self, tokens: Tensor) -> int:
        return len(self.first) + (self.shape[1] // self.size) ** 2

    def _cut(self, pixels: Tensor) -> Tensor:
        """(batch, channels, image, image) -> (batch, patches, channels * size * size)."""
        rows = pixels.unfold(2, self.size, self.size).unfold(3, self.size, self.size)
        return rows.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
