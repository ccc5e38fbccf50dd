"""What generation keeps: keys and values of earlier tokens, in closed form."""

from clearhead.model.block import Block
from clearhead.model.stack import Stack
from clearhead.model.transformer import Transformer


def cache_elements(model: Transformer, source: int, target: int) -> dict[str, int]:
    """Numbers that a cache holds for one sequence after `target` tokens, by component.

    2 * kv_heads * d_head for each token and block: of the target in self-attention, of the source in cross-attention.
    """
    if not model.config.decoder_layers:
        return {}
    pair = sum(model.config.sizes.rows[1:])
    blocks = _blocks(model.decoder)
    own = {"attention": pair * blocks * target}
    return own | ({"cross": pair * blocks * source} if model.config.encoder_layers else {})


def _blocks(stack: Stack) -> int:
    """How many times a block runs; a shared one has a cache for each time."""
    return sum(isinstance(each, Block) for each in getattr(stack, "blocks", ()))
