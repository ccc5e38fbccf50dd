"""Attention without projections: the stream itself is query, key and value."""

from torch import Tensor

from clearhead.core.errors import ConfigError
from clearhead.model.attention.projections import PROJECTIONS, HeadSizes, Projections
from clearhead.model.attention.shared_qk import require_equal_heads
from clearhead.model.cache import KeyValue


@PROJECTIONS.register("identity")
class Identity(Projections):
    """W_Q, W_K and W_V are the identity; each head sees its own slice of the features. A control, after W_O only."""

    def __init__(self, sizes: HeadSizes, bias: bool) -> None:  # noqa: FBT001 (wiring)
        super().__init__(sizes, bias)
        require_equal_heads("identity", sizes)
        if sizes.rows[0] != sizes.d_model:
            found = f"{sizes.heads} heads of {sizes.d_head} in a width of {sizes.d_model}"
            raise ConfigError("projections identity cut the width into heads", found=found, remedy="leave d_head out")

    def queries(self, hidden: Tensor) -> Tensor:
        return self.split(hidden)

    def keys_values(self, hidden: Tensor) -> KeyValue:
        return self.split(hidden), self.split(hidden)
