"""What the tests of caches and engine share: kinds of models, and the model without a cache as their reference."""

import torch

from clearhead.generate.caches import CACHES, Part, Tokens
from clearhead.generate.engine import Engine, EngineConfig
from clearhead.generate.request import Request
from clearhead.generate.runner import Runner
from clearhead.generate.sampling import SamplingConfig
from clearhead.generate.scheduler import Limits
from clearhead.model import Transformer

KINDS = {"decoder-only": (0, 2), "encoder-decoder": (2, 2)}
EXACT = [name for name in CACHES.names() if CACHES.get(name).exact]
WINDOW = 4  # of the models that a windowed cache serves
SIZE, BLOCKS = 3, 200
BOS, EOS = 1, 2
GREEDY = SamplingConfig(temperature=0.0)


def fits(name: str) -> dict[str, object]:
    """What a model must have so that a cache can serve it."""
    return {"window": WINDOW} if name == "windowed" else {}


def runner(model: Transformer, name: str) -> Runner:
    return Runner(model, CACHES.get(name)(model.config, BLOCKS, SIZE))


def give_blocks(sample: Tokens, index: int) -> Tokens:
    """Blocks of its own for sample number `index`, in an order that is not sorted."""
    sample.blocks = [(each * 7 + index * 20) % 20 + index * 20 for each in range(20)]
    assert len(set(sample.blocks)) == 20
    return sample


@torch.inference_mode()
def next_logits(model: Transformer, tokens: list[int], source: list[int] | None = None) -> torch.Tensor:
    """Logits (vocab,) after these tokens, by the whole model without a cache."""
    memory = None if source is None else model.encode(torch.tensor([source]))
    return model.logits(model.decode(torch.tensor([tokens]), memory)[:, -1])[0]


def part(sample: Tokens, stop: int | None = None) -> Part:
    return Part(sample, sample.computed, len(sample.tokens) if stop is None else stop)


def sharp(tiny, kind="decoder-only", **changes):
    """A model of a kind whose tokens are not all alike."""
    encoder, decoder = KINDS[kind]
    sizes = {"encoder_layers": encoder, "decoder_layers": decoder, "length": 48, "kv_heads": 1}
    model = tiny(**{**sizes, **changes})
    with torch.no_grad():
        for each in model.parameters():
            each.mul_(2.0)
    return model


def engine(model, cache="dense", *, rows=8, step_tokens=40, **config):
    limits = Limits(rows=rows, step_tokens=step_tokens)
    return Engine(model, EngineConfig(cache=cache, limits=limits, block=3, **config), eos=EOS)


def requests(model, count=7):
    """Requests of many sorts; some begin alike."""
    found = []
    for index in range(count):
        length = [1, 9, 4, 17, 9, 2, 13][index % 7]
        prompt = [BOS, 5, 6, 7, 8, 9, 10, *torch.randint(3, 23, (20,)).tolist()][:length]
        source = None
        if model.config.encoder_layers:
            source = [torch.randint(3, 23, (1 + index,)).tolist(), [4, 5, 6]][index % 2]
        config = [GREEDY, SamplingConfig(seed=index), SamplingConfig(seed=5, temperature=0.7, top_k=5)][index % 3]
        n = 3 if index % 3 == 1 else 1
        found.append(Request(prompt=prompt, source=source, sampling=config, max_tokens=4 + index * 2, n=n))
    return found


def tokens(completions):
    return [[each.tokens for each in answers] for answers in completions]
