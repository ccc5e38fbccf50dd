"""Recurrent language models, plain and with batch normalisation at each step.

Cooijmans et al., 2017, arXiv:1603.09025, section 3; here without the norm of the cell.
"""

import torch
from torch import Tensor, nn

from clearhead.model.norm import BatchNorm, NoNorm, Norm

GAIN = 0.1  # initial gain of the norms, section 4 of the paper


class PlainLSTM(nn.Module):
    """Ids (batch, length) -> logits (batch, length, vocab), with one loop over the steps."""

    def __init__(self, vocab: int, width: int, length: int) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(vocab, width), nn.Linear(width, vocab)
        self.inward, self.across = nn.Linear(width, 4 * width), nn.Linear(width, 4 * width, bias=False)
        self.norms = nn.ModuleList(self.norm(4 * width) for _ in range(2 * length))
        self.width = width

    def norm(self, features: int) -> Norm:
        """What stands behind both products of a step."""
        return NoNorm(features)

    def forward(self, tokens: Tensor) -> Tensor:
        inputs = self.inward(self.embedding(tokens))  # (batch, length, 4 * width)
        hidden = cell = inputs.new_zeros(len(tokens), self.width)
        states = []
        for step in range(tokens.shape[1]):
            gates = self.norms[2 * step](inputs[:, step]) + self.norms[2 * step + 1](self.across(hidden))
            opened, forgotten, shown, proposed = gates.chunk(4, dim=-1)
            cell = (forgotten + 1).sigmoid() * cell + opened.sigmoid() * proposed.tanh()
            hidden = shown.sigmoid() * cell.tanh()
            states.append(hidden)
        logits: Tensor = self.head(torch.stack(states, dim=1))
        return logits


class StepwiseBatchNormLSTM(PlainLSTM):
    """Each step has statistics of its own for what comes in and for what comes from the step before."""

    def norm(self, features: int) -> Norm:
        norm = BatchNorm(features)
        nn.init.constant_(norm.weight, GAIN)
        return norm
