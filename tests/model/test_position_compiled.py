"""A compiled model is the eager one, for each position scheme."""

import pytest
import torch
from torch_twin import close

from clearhead.model.position import POSITIONS


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("position", POSITIONS.names())
def test_a_compiled_model_is_the_eager_one(tiny, position):
    """By torch's tracers (backend aot_eager); its code generator needs a C++ compiler and minutes."""
    model = tiny(position=position, encoder_layers=0, decoder_layers=1)
    tokens, valid = torch.randint(1, 23, (3, 7)), torch.arange(7) >= torch.tensor([[0], [3], [2]])
    compiled = torch.compile(model, backend="aot_eager", dynamic=False)
    with torch.no_grad():
        close(compiled(None, tokens, target_valid=valid)[valid], model(None, tokens, target_valid=valid)[valid])
    torch.compiler.reset()
