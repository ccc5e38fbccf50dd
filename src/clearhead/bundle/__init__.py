"""One folder holds a model: config, weights, tokenizers, search settings, history."""

from clearhead.bundle.bundle import Bundle, damaged
from clearhead.bundle.weights import load_weights, save_weights

__all__ = ["Bundle", "damaged", "load_weights", "save_weights"]
