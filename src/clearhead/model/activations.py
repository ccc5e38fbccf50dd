"""Activations by name, for parts that leave the choice to the recipe."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Activation = Literal["none", "relu", "gelu", "gelu_tanh", "silu", "tanh"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda inner: inner,
    "relu": F.relu,
    "gelu": F.gelu,  # Hendrycks and Gimpel, 2016, arXiv:1606.08415
    "gelu_tanh": partial(F.gelu, approximate="tanh"),  # its approximation, as in GPT-2
    "silu": F.silu,  # Elfwing et al., 2017, arXiv:1702.03118
    "tanh": torch.tanh,
}
