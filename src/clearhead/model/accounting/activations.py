"""What a forward pass keeps for the backward pass, in bytes, without running the model at full size.

One layer and two layers of the model are run, and every tensor that autograd holds is counted once. Each further layer
costs what the second one added. It is what this machine keeps on its CPU: where there is a C compiler attention of up
to 128 keys keeps no weights and dropout no masks (`model/fused/`). For a long text three shorter ones are run instead:
what a model keeps is a polynomial of degree two in the length (tokens, and pairs of tokens). That is exact for every
part, yours included, and close where attention cuts a text into blocks and the length is no multiple of them, or where
convolutions widen with the depth.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from clearhead.model.accounting.parameters import component, skeleton
from clearhead.model.config import ModelConfig
from clearhead.model.embedding import Patches
from clearhead.model.transformer import Transformer

STEP = 256  # a text of more than five steps is not run: those of three, four and five are


def activation_bytes(config: ModelConfig, length: int) -> dict[str, int]:
    """Bytes kept for one sequence of `length` tokens on each side, in training, in float32, by component.

    The loss is left out: `linear_cross_entropy` keeps no logits. Recomputation would keep only the input of each block.
    """
    lengths = [3 * STEP, 4 * STEP, 5 * STEP]
    if length <= lengths[-1] or config.length < lengths[-1]:
        return _all_layers(config, length)
    samples = [_all_layers(config, each) for each in lengths]
    names = {name for each in samples for name in each}
    return {name: _continued([each.get(name, 0) for each in samples], length) for name in sorted(names)}


def _continued(samples: list[int], length: int) -> int:
    """The polynomial of degree two through samples at three, four and five steps, at another length (Newton's form)."""
    first, second, third = samples
    steps = length / STEP - 3
    return round(first + steps * (second - first) + steps * (steps - 1) / 2 * (third - 2 * second + first))


def _all_layers(config: ModelConfig, length: int) -> dict[str, int]:
    """Kept by the whole model, from a run with one layer and one more for each side."""
    sides = [name for name in ("encoder_layers", "decoder_layers") if getattr(config, name)]
    small = {**dict.fromkeys(sides, 1), "layer_groups": None}
    base = kept(config.model_copy(update=small), length)
    found = Counter(base)
    for name in sides:
        deeper = kept(config.model_copy(update={**small, name: 2}), length)
        for each in base | deeper:
            found[each] += (getattr(config, name) - 1) * (deeper.get(each, 0) - base.get(each, 0))
    return dict(found)


def kept(config: ModelConfig, length: int) -> dict[str, int]:
    """Bytes that autograd holds after one forward pass of a model of zeros, by component."""
    model = skeleton(config).to_empty(device="cpu").float().train()
    with torch.no_grad():
        for each in (*model.parameters(), *model.buffers()):
            each.zero_()
    with torch.random.fork_rng(devices=[]):
        return held(model, lambda: model.head.transform(model(*sample(model, length))))


def sample(model: Transformer, length: int) -> list[Tensor | None]:
    """Something that a model can read on each side: one token again and again, or an empty picture."""
    ids = torch.full((1, length), 1 - min(1, model.config.pad))
    source: Tensor | None = ids if model.config.encoder_layers else None
    if source is not None and isinstance(model.encoder.embedding, Patches):
        source = torch.zeros(1, *model.encoder.embedding.shape)
    return [source, ids if model.config.decoder_layers else None]


def held(model: nn.Module, run: Callable[[], Tensor]) -> dict[str, int]:
    """Bytes that autograd holds for what `run` returns, by component, without the model's own parameters."""
    own = {each.untyped_storage().data_ptr() for each in model.parameters()}
    found: dict[int, tuple[str, Tensor]] = {}
    place: list[str] = []

    def pack(tensor: Tensor) -> Tensor:
        name = place[-1] if place else "head"
        found.setdefault(tensor.untyped_storage().data_ptr(), (name, tensor))  # kept alive: no address comes twice
        return tensor

    with _following(model, place), torch.autograd.graph.saved_tensors_hooks(pack, lambda each: each):
        output = run()
    counts: Counter[str] = Counter()
    for address in found.keys() - own:
        name, tensor = found[address]
        counts[component(name)] += tensor.untyped_storage().nbytes()
    del output
    return dict(counts)


@contextmanager
def _following(model: nn.Module, place: list[str]) -> Iterator[None]:
    """Keep the name of the module that is running at the end of `place`."""

    def enter(name: str) -> Callable[..., None]:
        return lambda module, inputs: place.append(name)

    def leave(module: nn.Module, inputs: object, output: object) -> None:
        place.pop()

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            hooks.callback(module.register_forward_pre_hook(enter(name)).remove)
            hooks.callback(module.register_forward_hook(leave).remove)
        yield
