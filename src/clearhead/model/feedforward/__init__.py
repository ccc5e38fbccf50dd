"""Position-wise feed-forward networks."""

from clearhead.model.feedforward.base import FEEDFORWARDS, FeedForward
from clearhead.model.feedforward.gated import Geglu, GegluTanh, Swiglu
from clearhead.model.feedforward.low_rank import Grouped, LowRank
from clearhead.model.feedforward.mixture import Mixture, Routing, balance, routings
from clearhead.model.feedforward.plain import Gelu, GeluTanh, Linear, Relu, Silu

__all__ = [
    "FEEDFORWARDS",
    "FeedForward",
    "Geglu",
    "GegluTanh",
    "Gelu",
    "GeluTanh",
    "Grouped",
    "Linear",
    "LowRank",
    "Mixture",
    "Relu",
    "Routing",
    "Silu",
    "Swiglu",
    "balance",
    "routings",
]
