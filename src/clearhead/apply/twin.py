"""A second body for the same weights: what is hooked to it is not seen by those who use the first one."""

import copy
from itertools import chain

from clearhead.core.errors import ModelError
from clearhead.model import Transformer
from clearhead.model.stack import Stack


def twin(model: Transformer) -> Transformer:
    """A model with its own modules and the same parameters and buffers, not copies of them.

    Raises:
        ModelError: the model reads something else than tokens.
    """
    for each in stacks(model):
        if each.embedding.reads != "tokens":
            raise ModelError(f"this model reads {each.embedding.reads}, not text")
    shared = {id(each): each for each in chain(model.parameters(), model.buffers())}
    return copy.deepcopy(model, dict(shared))


def stacks(model: Transformer) -> list[Stack]:
    """Encoder and decoder, those that there are."""
    return [each for each in model.children() if isinstance(each, Stack)]
