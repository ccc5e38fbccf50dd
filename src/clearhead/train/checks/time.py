"""What comes later must not matter to what comes before."""

import torch

from clearhead.generate import DenseCache
from clearhead.model import Memory, Transformer
from clearhead.train.checks.base import CHECKS, Check, Probe, apart


class OfDecoders(Check):
    """A check of models that predict the next token."""

    def excuse(self, model: Transformer) -> str | None:
        return None if model.config.decoder_layers else "an encoder sees both directions"


@CHECKS.register("future_hidden")
class FutureHidden(OfDecoders):
    """The first half of a text before and after its second half was changed."""

    title = "the future is hidden"
    tolerance = 1e-6  # the same shapes, so the same rounding

    @torch.no_grad()
    def difference(self, probe: Probe) -> float:
        target, memory = probe.targets.longest, _memory(probe)
        half = target.shape[1] // 2
        changed = torch.cat([target[:, :half], target[:, half:].flip(1).roll(1, 1)], dim=1)
        before, after = (probe.model.decode(each, memory) for each in (target, changed))
        return apart(after[:, :half], before[:, :half])


@CHECKS.register("cached")
class Cached(OfDecoders):
    """Token by token with a cache after a first half in one go, against the whole text at once."""

    title = "cached = uncached"

    @torch.no_grad()
    def difference(self, probe: Probe) -> float:
        model, target, memory = probe.model, probe.targets.longest, _memory(probe)
        cache, length = DenseCache(model.config.decoder_layers), target.shape[1]
        parts = [slice(0, length // 2), *(slice(each, each + 1) for each in range(length // 2, length))]
        places = torch.arange(length, device=target.device)[None]
        steps = [model.decode(target[:, each], memory, positions=places[:, each], cache=cache) for each in parts]
        return apart(torch.cat(steps, dim=1), model.decode(target, memory))


def _memory(probe: Probe) -> Memory | None:
    """What the decoder reads besides its own text."""
    if not probe.model.config.encoder_layers:
        return None
    return probe.model.encode(probe.sources.longest)
