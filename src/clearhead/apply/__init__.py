"""Text to text: what a trained model is for."""

from clearhead.apply.model import Model, load

__all__ = ["Model", "load"]
