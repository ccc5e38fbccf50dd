"""A forward pass gives torch no more to do than transformers' own pass with the same weights does."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from clearhead.bundle.exchange import ARCHITECTURES, import_model
from hf_models import MODELS, saved

pytest.importorskip("transformers")
pytestmark = pytest.mark.peers


def calls(run) -> int:
    """Operators that torch runs, those inside others included."""
    run()
    with profile(activities=[ProfilerActivity.CPU]) as seen, torch.inference_mode():
        run()
    return sum(each.count for each in seen.key_averages() if each.key.startswith("aten::"))


@pytest.mark.parametrize("name", ARCHITECTURES.names())
def test_a_layer_takes_no_more_operators_than_theirs(tmp_path, name):
    """Of models with two layers and with four, on a batch with padding: the difference is what two layers cost."""
    found = {}
    for layers in (2, 4):
        settings = deeper(next(iter(MODELS[name].values())), layers)
        peer = saved(tmp_path / str(layers), name, settings)
        ours = import_model(tmp_path / str(layers))
        batch = ours.architecture.batch(ours.bundle.model.config)
        given = batch.arguments(ours.architecture.reads)
        if ours.bundle.model.config.decoder_layers:
            given["use_cache"] = False
        model, answer = ours.bundle.model, ours.architecture.answer
        found[layers] = calls(lambda answer=answer, model=model, batch=batch: answer(model, batch))
        found[-layers] = calls(lambda peer=peer, given=given: peer(**given))
    assert 0 < found[4] - found[2] <= found[-4] - found[-2]


LAYERS = {"num_hidden_layers", "n_layer", "n_layers", "num_layers"}  # what configs call their depth
LAYERS |= {"encoder_layers", "decoder_layers", "num_decoder_layers"}


def deeper(settings: dict[str, object], layers: int) -> dict[str, object]:
    return settings | {key: layers for key in LAYERS if key in settings}
