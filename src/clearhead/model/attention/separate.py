"""W_Q, W_K and W_V as three linear maps, each with a name of its own to freeze, adapt or replace."""

from torch import Tensor, nn

from clearhead.model.attention.projections import PROJECTIONS, HeadSizes, Projections
from clearhead.model.cache import KeyValue


@PROJECTIONS.register("separate")
class Separate(Projections):
    """Three products instead of one; the same function as `fused` with the same rows."""

    def __init__(self, sizes: HeadSizes, bias: bool) -> None:  # noqa: FBT001 (wiring)
        super().__init__(sizes, bias)
        self.query, self.key, self.value = (nn.Linear(sizes.d_model, rows, bias=bias) for rows in sizes.rows)

    def matrices(self) -> dict[str, Tensor]:
        return {"query": self.query.weight, "key": self.key.weight, "value": self.value.weight}

    def queries(self, hidden: Tensor) -> Tensor:
        return self.split(self.query(hidden))

    def keys_values(self, hidden: Tensor) -> KeyValue:
        return self.split(self.key(hidden)), self.split(self.value(hidden))
