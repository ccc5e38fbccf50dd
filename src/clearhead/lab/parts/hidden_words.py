"""Hide some words of a text, to be predicted from the others (Devlin et al., 2019, arXiv:1810.04805, section 3.1)."""

import torch
from torch import Tensor

MASK = 2  # the id that the texts of the small grammar leave free
HIDDEN = 0.15  # share of the words that are predicted


def hidden_words(tokens: Tensor, generator: torch.Generator) -> Tensor:
    """Which words of (batch, length) ids are hidden: bool of that shape, at least one in each row."""
    hidden = torch.rand(tokens.shape, generator=generator) < HIDDEN
    hidden[:, 1] |= ~hidden.any(dim=1)
    return hidden
