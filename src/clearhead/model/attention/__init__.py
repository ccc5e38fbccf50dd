"""Attention: kernels that mix values, and the modules that project, split heads and merge them again."""

from clearhead.model.attention.additive import Additive
from clearhead.model.attention.base import ATTENTIONS, Kernel
from clearhead.model.attention.bilinear import Bilinear
from clearhead.model.attention.cosine import Cosine
from clearhead.model.attention.dot import Dot
from clearhead.model.attention.identity import Identity
from clearhead.model.attention.initialisation import INITIALISATIONS, Initialisation
from clearhead.model.attention.linear import Linear
from clearhead.model.attention.local import Local
from clearhead.model.attention.low_rank import LowRank
from clearhead.model.attention.multihead import CrossAttention, SelfAttention
from clearhead.model.attention.projections import PROJECTIONS, Fused, HeadSizes, Projections
from clearhead.model.attention.random_features import RandomFeatures
from clearhead.model.attention.separate import Separate
from clearhead.model.attention.shared_qk import SharedQK
from clearhead.model.attention.tiled import Tiled

__all__ = [
    "ATTENTIONS",
    "INITIALISATIONS",
    "PROJECTIONS",
    "Additive",
    "Bilinear",
    "Cosine",
    "CrossAttention",
    "Dot",
    "Fused",
    "HeadSizes",
    "Identity",
    "Initialisation",
    "Kernel",
    "Linear",
    "Local",
    "LowRank",
    "Projections",
    "RandomFeatures",
    "SelfAttention",
    "Separate",
    "SharedQK",
    "Tiled",
]
