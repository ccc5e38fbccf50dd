"""One pass through a stack: what its blocks have in common, said once and computed once."""

from dataclasses import dataclass, field, replace

from torch import Tensor

from clearhead.model.mask import AttentionMask
from clearhead.model.once import Once


@dataclass(frozen=True, eq=False)
class Pass:
    """Where the tokens of a pass stand and what they may see.

    Args:
        positions: (batch or 1, length) int64.
        mask: which keys they may see; with a cache those of earlier calls too.
        once: what depends on nothing but these is computed by the first block that asks for it.
    """

    positions: Tensor
    mask: AttentionMask
    once: Once = field(default_factory=Once)

    def among(self, keys: int, bias: Tensor | None) -> AttentionMask:
        """The mask of so many keys with a bias of the pairs: one object for all blocks, which is drawn once."""
        return self.once(self.mask.among, keys, bias)

    def anew(self) -> "Pass":
        """The same pass with nothing computed yet."""
        return replace(self, once=Once())
