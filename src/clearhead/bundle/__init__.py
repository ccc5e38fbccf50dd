"""One folder holds a model: config, weights, tokenizers, search settings, history."""

from clearhead.bundle.bundle import Bundle
from clearhead.bundle.weights import load_weights, save_weights

__all__ = ["Bundle", "load_weights", "save_weights"]
