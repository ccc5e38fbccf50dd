"""An embedded Chinese-English corpus: a synchronous grammar kept as readable data, and a seeded sampler."""

from clearhead.data.grammar.grammar import Example, Grammar
from clearhead.data.grammar.splits import HELD_OUT, Split, embedded_pairs, owner, split_of

__all__ = ["HELD_OUT", "Example", "Grammar", "Split", "embedded_pairs", "owner", "split_of"]
