"""Stacks: the Transformer's, and baselines behind the same doorway."""

from clearhead.model.stack.base import STACKS, Parts, Side, Stack
from clearhead.model.stack.convolution import ConvolutionStack
from clearhead.model.stack.fourier import FourierStack
from clearhead.model.stack.recurrent import Gru, Lstm, Rnn
from clearhead.model.stack.transformer import TransformerStack

__all__ = [
    "STACKS",
    "ConvolutionStack",
    "FourierStack",
    "Gru",
    "Lstm",
    "Parts",
    "Rnn",
    "Side",
    "Stack",
    "TransformerStack",
]
