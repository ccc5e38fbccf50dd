"""Scores of masked words (Devlin et al., 2019, arXiv:1810.04805), and those with sentence pairs for pretraining."""

from torch import Tensor

from clearhead.model.activations import ACTIVATIONS, Activation
from clearhead.model.head.base import HEADS, Head, Surroundings, new_linear


@HEADS.register("mlm")
class MaskedLanguageModel(Head):
    """matrix norm(activation(dense(hidden))) + bias; `dense` leads to the width of the table (ALBERT, ELECTRA).

    Args:
        activation: what follows the dense map.
    """

    def __init__(self, around: Surroundings, *, activation: Activation = "gelu") -> None:
        super().__init__(around)
        self.activation = activation
        self.finish(around.matrix(), bias=True)
        width = self.matrix.shape[1]
        self.dense, self.norm = new_linear(around.d_model, width), around.norm(width)

    def transform(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        features: Tensor = self.norm(ACTIVATIONS[self.activation](self.dense(hidden)))
        return features


@HEADS.register("pretraining")
class Pretraining(MaskedLanguageModel):
    """BERT's two heads: scores of words for every token, and `pairs`, whether the second sentence follows the first."""

    def __init__(self, around: Surroundings, *, activation: Activation = "gelu") -> None:
        super().__init__(around, activation=activation)
        self.pooler = new_linear(around.d_model, around.d_model)
        self.relation = new_linear(around.d_model, 2)

    def pairs(self, hidden: Tensor) -> Tensor:
        """(batch, length, d_model) -> (batch, 2), scores of "follows" and "is random", from the first token."""
        scores: Tensor = self.relation(self.pooler(hidden[:, 0]).tanh())
        return scores
