"""Vectors of words learned apart from a model: counts of neighbours, skip-gram, spelling."""

from clearhead.train.vectors.base import VECTORS, Stream, Vectors, at_table_scale
from clearhead.train.vectors.cooccurrence import Cooccurrence
from clearhead.train.vectors.skip_gram import SkipGram
from clearhead.train.vectors.spelling import Spelling

__all__ = ["VECTORS", "Cooccurrence", "SkipGram", "Spelling", "Stream", "Vectors", "at_table_scale"]
