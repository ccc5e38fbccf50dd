"""Embeddings: what a model reads becomes vectors."""

from clearhead.model.embedding.adaptive import Adaptive
from clearhead.model.embedding.base import EMBEDDINGS, Embedding
from clearhead.model.embedding.concatenated import Concatenated
from clearhead.model.embedding.factorised import Factorised
from clearhead.model.embedding.hashed import Compositional, Hashed
from clearhead.model.embedding.patches import Patches
from clearhead.model.embedding.quantised import Quantised
from clearhead.model.embedding.sources import Sources
from clearhead.model.embedding.sum import EMBEDDING_JOINS, EmbeddingSum
from clearhead.model.embedding.table import Table

__all__ = [
    "EMBEDDINGS",
    "EMBEDDING_JOINS",
    "Adaptive",
    "Compositional",
    "Concatenated",
    "Embedding",
    "EmbeddingSum",
    "Factorised",
    "Hashed",
    "Patches",
    "Quantised",
    "Sources",
    "Table",
]
