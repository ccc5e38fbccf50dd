"""Ids to hidden states and logits: the Transformer and its families of parts. Knows no text, no loss, no server."""

from clearhead.model.attention.multihead import Memory
from clearhead.model.cache import NO_CACHE, Cache, LayerCache
from clearhead.model.config import ModelConfig
from clearhead.model.mask import CAUSAL, OPEN, AttentionMask
from clearhead.model.transformer import Transformer

__all__ = ["CAUSAL", "NO_CACHE", "OPEN", "AttentionMask", "Cache", "LayerCache", "Memory", "ModelConfig", "Transformer"]
