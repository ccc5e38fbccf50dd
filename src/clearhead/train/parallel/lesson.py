"""What is trained and what it is trained for, as one module with one forward pass."""

from typing import Any

from torch import Tensor, nn

from clearhead.train.objectives import Objective


class Lesson(nn.Module):
    """A learner and its objective. Objectives call parts of a model as they like; whoever wraps this sees one call."""

    def __init__(self, learner: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.learner, self.objective = learner, objective

    def forward(self, batch: Any) -> tuple[Tensor, int, dict[str, Tensor]]:
        """Loss, what it is summed over, and further sums over the same; see `Loss`."""
        loss = self.objective(self.learner, batch)
        return loss.value, loss.count, loss.metrics
