"""Greedy answers of the engine are those of transformers' `generate`, for every architecture that generates."""

import pytest
import torch

from clearhead.bundle.exchange import ARCHITECTURES, import_model
from clearhead.generate.engine import Engine, EngineConfig
from clearhead.generate.request import Request
from clearhead.generate.sampling import SamplingConfig
from clearhead.generate.scheduler import Limits
from hf_models import MODELS, saved

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.peers

PAD, BOS, EOS, NEW = 1, 2, 3, 11
PENALTY = 3.0  # or random models say one word again and again
GREEDY = SamplingConfig(temperature=0.0, repetition_penalty=PENALTY)
ENDINGS = ("LMHeadModel", "ForCausalLM", "MTModel", "ForConditionalGeneration")
GENERATES = [name for name in ARCHITECTURES.names() if name.endswith(ENDINGS)]
EACH = pytest.mark.parametrize(
    ("name", "special"), [(name, special) for name in GENERATES for special in MODELS.get(name, [])]
)


def theirs(peer, **inputs):
    """Tokens of transformers after what the decoder was given, the end left out."""
    start, never = inputs.pop("start"), inputs.pop("never", None)
    options = {"max_new_tokens": NEW, "do_sample": False, "num_beams": 1, "repetition_penalty": PENALTY}
    options |= {"eos_token_id": EOS, "pad_token_id": PAD}
    found = peer.generate(**inputs, **options, forced_eos_token_id=None, bad_words_ids=never)
    tokens = found[0].tolist()[start:]
    return tokens[: tokens.index(EOS)] if EOS in tokens else tokens


@EACH
@pytest.mark.parametrize("cache", ["dense", "paged"])
def test_greedy_is_that_of_transformers(tmp_path, name, special, cache):
    peer = saved(tmp_path, name, MODELS[name][special])
    model = import_model(tmp_path).bundle.model
    words = model.config.source_vocab or model.config.target_vocab
    texts = [[BOS, *torch.randint(4, words, (length,)).tolist()] for length in (1, 4, 2, 5)]
    served = Engine(model, EngineConfig(cache=cache, limits=Limits(rows=3, step_tokens=12), block=3), eos=EOS)
    if model.config.encoder_layers:
        start = peer.config.decoder_start_token_id
        asked = [Request(prompt=[start], source=each, sampling=GREEDY, max_tokens=NEW) for each in texts]
        expected = [theirs(peer, input_ids=torch.tensor([each]), start=1, never=[[PAD]]) for each in texts]
    else:
        asked = [Request(prompt=each, sampling=GREEDY, max_tokens=NEW) for each in texts]
        expected = [theirs(peer, input_ids=torch.tensor([each]), start=len(each)) for each in texts]
    assert [answers[0].tokens for answers in served.generate(asked)] == expected
    assert any(expected)
