"""Text to text: what a trained model is for."""

from clearhead.apply.chat import ChatTemplate
from clearhead.apply.completing import Answer, Completer, Wish
from clearhead.apply.model import Model, load
from clearhead.apply.speculating import Speculation

__all__ = ["Answer", "ChatTemplate", "Completer", "Model", "Speculation", "Wish", "load"]
