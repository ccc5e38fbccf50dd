"""A number format must not change what a model says."""

import torch

from clearhead.core.devices import autocast
from clearhead.train.checks.base import CHECKS, Check, Probe, apart, hidden_states


@CHECKS.register("bfloat16")
class Bfloat16(Check):
    """Matrix products in bfloat16, against the number format of the weights."""

    title = "bfloat16 within bound"
    tolerance = 0.1  # eight bits of precision, through all layers

    @torch.no_grad()
    def difference(self, probe: Probe) -> float:
        sources, targets = probe.sources.right(), probe.targets.right()
        with autocast(sources.ids.device, torch.bfloat16):
            rounded = hidden_states(probe.model, sources, targets)
        return apart(rounded, hidden_states(probe.model, sources, targets))
