"""What else lies in the batch must not matter to a text."""

import torch

from clearhead.model import CAUSAL, OPEN, AttentionMask, Transformer
from clearhead.model.attention import Kernel
from clearhead.model.stack import TransformerStack
from clearhead.train.checks.base import CHECKS, Check, Probe, apart, hidden_states


@CHECKS.register("batch_of_one")
class BatchOfOne(Check):
    """Each text alone, against all of them in one padded batch."""

    title = "a batch of one = a batch of many"

    @torch.no_grad()
    def difference(self, probe: Probe) -> float:
        pairs = zip(probe.sources.alone(), probe.targets.alone(), strict=True)
        alone = [hidden_states(probe.model, source.right(), target.right()) for source, target in pairs]
        return apart(hidden_states(probe.model, probe.sources.right(), probe.targets.right()), torch.cat(alone))


@CHECKS.register("left_padding")
class LeftPadding(Check):
    """Padding before the texts, against padding after them."""

    title = "left padding = right padding"

    @torch.no_grad()
    def difference(self, probe: Probe) -> float:
        left = hidden_states(probe.model, probe.sources.left(), probe.targets.left())
        return apart(left, hidden_states(probe.model, probe.sources.right(), probe.targets.right()))


@CHECKS.register("padding_inert")
class PaddingInert(Check):
    """Padding filled with other ids, against padding as it is."""

    title = "padding is inert"
    tolerance = 1e-6  # the same shapes, so the same rounding

    @torch.no_grad()
    def difference(self, probe: Probe) -> float:
        model, sources, targets = probe.model, probe.sources.both(), probe.targets.both()
        other = [each.refilled(model.config.pad, probe.smallest_vocab) for each in (sources, targets)]
        return apart(hidden_states(model, *other), hidden_states(model, sources, targets))


@CHECKS.register("packed")
class Packed(Check):
    """All texts one after another in a single row that a mask divides, against each by itself."""

    title = "packed = separate"

    def excuse(self, model: Transformer) -> str | None:
        """Texts in one row are told apart by a mask that every part must obey."""
        config, side = model.config, model.encoder if model.config.encoder_layers else model.decoder
        if not isinstance(side, TransformerStack):
            return f"stack {config.stack.kind} obeys no mask but padding and the causal rule"
        if not all(each.any_mask for each in side.modules() if isinstance(each, Kernel)):
            return f"attention {config.attention.kind} obeys no mask but padding"
        by_position = any(getattr(each, "by_position", False) for each in side.modules())
        return f"norm {config.norm.kind} counts positions by itself" if by_position else None

    @torch.no_grad()
    def difference(self, probe: Probe) -> float:
        rows = probe.texts.rows
        number = torch.cat([torch.full_like(each, index) for index, each in enumerate(rows)])
        place = torch.cat([torch.arange(len(each), device=each.device) for each in rows])
        packed = _read(probe.model, torch.cat(tuple(rows))[None], AttentionMask(segments=number[None]), place[None])
        alone = [_read(probe.model, each[None], OPEN, None) for each in rows]
        return apart(packed, torch.cat(alone, dim=1))


def _read(
    model: Transformer, tokens: torch.Tensor, mask: AttentionMask, positions: torch.Tensor | None
) -> torch.Tensor:
    """Hidden states of the first stack, (1, length, d_model)."""
    if model.config.encoder_layers:
        return model.encode(tokens, mask=mask, positions=positions).hidden
    return model.decode(tokens, mask=CAUSAL & mask, positions=positions)
