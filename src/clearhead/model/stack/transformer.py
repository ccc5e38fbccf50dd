"""The stack of the Transformer (Vaswani et al., 2017, section 3.1), its layers shared if wanted.

Sharing: Lan et al., 2020, arXiv:1909.11942, section 3.1 (ALBERT).
"""

from typing import ClassVar

from clearhead.model.block import Block
from clearhead.model.stack.base import STACKS, Blocks, Parts


@STACKS.register("transformer")
class TransformerStack(Blocks):
    """Blocks with self-attention."""

    shares: ClassVar[bool] = True

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts, SHARING[parts.side.shared](parts))


def _share_blocks(parts: Parts) -> list[Block]:
    """Consecutive layers of a group are one block, used several times."""
    distinct = [parts.block(parts.attention()) for _ in range(parts.side.groups)]
    return [distinct[index * parts.side.groups // parts.side.layers] for index in range(parts.side.layers)]


def _share_feedforwards(parts: Parts) -> list[Block]:
    """Every layer has its own attention; the layers of a group have one feed-forward network."""
    blocks = [parts.block(parts.attention()) for _ in range(parts.side.layers)]
    for index, block in enumerate(blocks):
        group = index * parts.side.groups // parts.side.layers
        block.feedforward = blocks[-(-group * parts.side.layers // parts.side.groups)].feedforward
    return blocks


SHARING = {"block": _share_blocks, "feedforward": _share_feedforwards}
