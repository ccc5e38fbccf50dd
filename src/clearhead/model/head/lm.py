"""Scores of the next word (Vaswani et al., 2017, section 3.4): the output matrix, usually the embedding table again."""

from torch import Tensor, nn

from clearhead.model.head.base import HEADS, Head, Surroundings


@HEADS.register("lm")
class LanguageModel(Head):
    """matrix (scale * hidden) + bias. A table narrower than d_model is reached by a linear map without bias.

    Args:
        bias: a bias for each word (BART, Marian).
        scale: factor of the hidden states; T5 has d_model^-0.5 with tied tables.
    """

    def __init__(self, around: Surroundings, *, bias: bool = False, scale: float = 1.0) -> None:
        super().__init__(around)
        self.scale = scale
        self.finish(around.matrix(), bias=bias)
        width = self.matrix.shape[1]
        same = width == around.d_model
        self.narrow = nn.Identity() if same else nn.Linear(around.d_model, width, bias=False)

    def transform(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        features: Tensor = self.narrow(hidden if self.scale == 1 else self.scale * hidden)
        return features
